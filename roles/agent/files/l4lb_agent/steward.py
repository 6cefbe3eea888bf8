# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steward: brings rings and announcements to what is known, one turn after the other.

All that touches maps, BIRD or files happens here, in one thread. A turn goes on after whatever goes
wrong with a part of it, and says so in the status; what is not known any more stays as it is, but
for the gate: what is not proven is not announced.

Withdrawing comes before a ring changes, announcing after it, in a later turn with a proof of its
own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _agent_status,
    _health,
    _node_state,
    _overrides,
    _settle,
    _wanted,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._address import order
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import (
    SERVICES_FILE,
    applied_services,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._health import Healths
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import LIVING
from ansible_collections.l4lb.xdp.plugins.module_utils._node_state import NodeState
from ansible_collections.l4lb.xdp.plugins.module_utils._probe import Probes
from ansible_collections.l4lb.xdp.plugins.module_utils._proof import Counted
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from l4lb_agent import announcer, lease, policy, status
from l4lb_agent.checks import Subject
from l4lb_agent.files import Signature, Watched, signature
from l4lb_agent.gate import Findings, Gate, announcements
from l4lb_agent.judge import Judge
from l4lb_agent.options import Options
from l4lb_agent.subjects import probed_addresses, sources_of, subjects

REREAD = 2.0
"""Seconds after which what was applied is read again while the kernel does not hold all of it."""
REOPEN = 10.0
"""Seconds after which maps that could not be opened are tried again."""
UNPREPARED = "no balancer is prepared on this node: run l4lb.xdp.program"

SYNC = 60.0
"""Seconds after which the routes of probes are looked at in full, though they seem intact."""

Watch = Callable[[Collection[Subject]], None]

log = logging.getLogger("l4lb-agent")


@dataclass
class Kernel:
    """What is open while the maps are the same.

    behind: rings may not be as health.json says: at first, since a killed agent may have left them.
    """

    tables: Tables
    gate: Gate
    probes: Probes | None = None
    rings: _settle.Memory = field(default_factory=dict)
    behind: bool = True


@dataclass
class Known:
    """What was applied, as last read, and what came of it."""

    fleet: Fleet = field(default_factory=Fleet)
    digest: str = ""
    node: NodeState = field(default_factory=NodeState)
    healths: Healths = field(default_factory=dict)
    healthy: dict[str, int] = field(default_factory=dict)
    findings: Findings | None = None
    announced: frozenset[str] = frozenset()
    state: str = ""  # of the node, as BIRD has it
    reasons: dict[str, list[str]] = field(default_factory=dict)


class Steward:
    """Turns; see above. `watch` is told whom to ask, from this thread."""

    def __init__(self, options: Options, judge: Judge, watch: Watch) -> None:
        self.options = options
        self.judge = judge
        self.known = Known()
        self.kernel: Kernel | None = None
        self.standing: list[str] = []  # problems that last
        self.problems: list[str] = []
        self.took = 0.0
        self.ended = False  # whoever starts it again opens the new maps
        self._watch = watch
        self._announcer = announcer.Announcer(
            options.run_dir / announcer.FILE, options.bird_config, options.bird_socket
        )
        self._told: Mapping[str, Any] = {}
        self._started = time.time()
        self._settled = self._synced = time.monotonic()
        self._asked: list[Subject] = []
        self._unrouted = False  # others are wanted, or some are missing
        self._taken_in: float | None = None  # when what was applied was last read
        self._lacking = False  # the kernel does not hold all of it
        self._blind: float | None = None  # since when the maps cannot be opened, and why
        self._why_blind = ""
        self._next_opening = 0.0
        files = [options.state_dir / name for name in (SERVICES_FILE, _overrides.OVERRIDES_FILE)]
        self._files = Watched([*files, _wanted.file_of("balancer", options.state_dir)])
        self._schema = options.pins / "schema"
        self._maps: Signature = None

    def start(self) -> None:
        """What was announced before is still: nothing flaps because the agent was restarted."""
        self.known.announced, draining = self._announcer.current()
        self.known.node = NodeState("draining" if draining else "announcing")

    def turn(self) -> bool:
        """One turn; returns whether another one is wanted at once."""
        began = time.monotonic()
        self.problems = list(self.standing)
        again = False
        with self._may_fail():
            self.known.node = _node_state.load(self.options.state_dir)
        with self._may_fail():
            self._open()
            self._read()
        with self._may_fail():
            self._mend_routes()
        with self._may_fail():
            again = self._act()
        with self._may_fail():
            self._settle()
        self.took = time.monotonic() - began
        self._tell()
        return again

    @contextmanager
    def _may_fail(self) -> Iterator[None]:
        try:
            yield
        except (L4lbError, OSError) as error:
            self.problems.append(str(error))

    # --- what there is ---

    def _open(self) -> None:
        """The maps, once: bcc never lets go of them. When they are made anew, so is the process."""
        now, seen = time.monotonic(), signature(self._schema)
        if self.kernel and seen == self._maps:
            return
        if self.kernel:
            self.kernel.gate.close()
            self.kernel = None
        if seen is None:
            raise L4lbError(UNPREPARED)
        if self._maps is not None:
            self.ended = True
            return
        if self._blind is None:
            self._blind = now
        elif now < self._next_opening:
            raise L4lbError(self._why_blind)
        try:
            tables = Tables(self.options.pins, self.options.source)
            self.kernel = Kernel(tables, Gate(self.options, tables))
        except (L4lbError, OSError) as error:
            self._why_blind, self._next_opening = str(error), now + REOPEN
            raise
        self._maps, self._blind = seen, None

    def _read(self) -> None:
        """What was applied, when it has changed, or the kernel did not hold all of it; what cannot
        be read leaves all as it was.
        """
        now = time.monotonic()
        again = self._lacking and self._taken_in is not None and now - self._taken_in > REREAD
        if not self.kernel or not (self._files.news() or again):
            return
        try:
            self._take_in(self.kernel)
        except (L4lbError, OSError):
            self._files.forget()
            raise
        self._taken_in = now

    def _take_in(self, kernel: Kernel) -> None:
        state_dir = self.options.state_dir
        digest = _agent_status.digest(state_dir / SERVICES_FILE)
        applied = applied_services(state_dir)
        fleet = parse(applied["pools"], applied["services"]) if applied else Fleet()
        fleet, _standing = _overrides.overridden(fleet, _overrides.load(state_dir))
        self.known.healths = _health.load(state_dir)
        actual = kernel.tables.actual()
        names = {index: pool.name for index, pool in actual.pools.items()}
        indices = {
            (names[each.pool], each.address): index
            for index, each in actual.backends.items()
            if each.pool in names and each.state != "removed"
        }
        self._asked = subjects(fleet, indices, sources_of(kernel.tables.settings()))
        self._unrouted = True
        checks = {
            (pool.name, backend.address): pool.health_check
            for pool in fleet.pools
            for backend in pool.backends
        }
        self._lacking = not checks.keys() <= indices.keys()
        self.judge.watch(checks, _health.down(self.known.healths))
        self.known.fleet, self.known.digest = fleet, digest

    def _mend_routes(self) -> None:
        """The routes of probes: when others are wanted, when some are missing, and now and then.
        Without them a probe says nothing of a backend, so nobody is asked through the tunnel.
        """
        kernel = self.kernel
        if kernel is None or not (self._unrouted or self._is_stale(kernel.probes)):
            return
        try:
            self._sync_routes(kernel)
        except L4lbError:
            self._unrouted = True
            self._watch([each for each in self._asked if not probed_addresses([each])])
            raise
        self._unrouted = False
        self._watch(self._asked)

    def _is_stale(self, probes: Probes | None) -> bool:
        if probes is None:
            return False
        return not probes.intact() or time.monotonic() - self._synced > SYNC

    def _sync_routes(self, kernel: Kernel) -> None:
        addresses = probed_addresses(self._asked)
        if addresses and kernel.probes is None:
            kernel.probes = Probes(self.options.pins, self.options.source, kernel.tables.sizes)
        if kernel.probes is not None:
            settings = kernel.tables.settings()
            kernel.probes.sync(addresses, settings["source_ipv4"], settings["source_ipv6"])
        self._synced = time.monotonic()

    # --- what follows from it ---

    def _act(self) -> bool:
        known, kernel, now = self.known, self.kernel, time.monotonic()
        if kernel is None or self._taken_in is None:
            self._keep(now)
            return False
        wanted = self._wanted_healths(int(time.time()))
        known.healthy = self._healthy(wanted)
        known.findings = kernel.gate.check(
            known.fleet,
            known.healthy,
            now,
            receiving=self._receiving(wanted),
            behind=kernel.behind or wanted != known.healths,
        )
        addresses, known.reasons = announcements(
            known.findings, known.fleet, known.node, known.announced, now
        )
        if wanted == known.healths and not kernel.behind:
            self._announce(addresses)
            return False
        self._announce(addresses & known.announced)
        done = _health.apply_health(
            wanted, kernel.tables, self.options.state_dir, most=_health.AT_ONCE
        )
        known.healths, kernel.behind = wanted, bool(done.data["left"])
        self.problems += done.warnings
        for note in done.notes:
            log.info("%s", note)
        return True

    def _wanted_healths(self, now: int) -> Healths:
        judged = self.judge.judgements()
        wanted: Healths = {}
        for pool in self.known.fleet.pools:
            held = {
                b.address: health
                for b in pool.backends
                if (health := self.known.healths.get((pool.name, b.address)))
            }
            seen = {
                b.address: judged[pool.name, b.address].health
                for b in pool.backends
                if (pool.name, b.address) in judged
            }
            for address, health in policy.decide(pool, seen, held, now).items():
                wanted[pool.name, address] = health
        return wanted

    def _keep(self, now: float) -> None:
        """What is not known leaves announcements as they were: for the time of a lease, as if there
        were no agent. But without maps nothing is forwarded, and what is withheld goes at once.
        """
        known = self.known
        kept = known.announced.difference(known.node.withheld)
        if known.node.state == "withdrawn":
            kept = frozenset()
        why = []
        if self.ended or (self.kernel is None and signature(self._schema) is None):
            kept, why = frozenset(), [UNPREPARED]
        elif self._blind is not None and now - self._blind > self.options.lease:
            kept, why = frozenset(), [f"the maps cannot be opened: {self._why_blind}"]
        known.reasons = {address: why for address in known.announced.difference(kept) if why}
        known.findings = Findings(why, {}, {})
        self._announce(kept)

    def _healthy(self, healths: Healths) -> dict[str, int]:
        """How many backends of each pool serve the flows they have, as far as is known.

        Of what is announced, one that nobody has asked yet counts: a check that is new refutes
        nothing. So does one that is kept in the ring against its check (max_unhealthy).
        """
        judged, down = self.judge.judgements(), _health.down(healths)
        announced = {s.pool for s in self.known.fleet.services if s.address in self.known.announced}
        counts = {}
        for pool in self.known.fleet.pools:
            well = {"up"}
            if pool.name in announced:
                well.add("unknown")
            if pool.max_unhealthy < 100:
                well.add("down")
            counts[pool.name] = sum(
                backend.state in LIVING and key not in down and judged[key].health in well
                for backend in pool.backends
                if (key := (pool.name, backend.address)) in judged
            )
        return counts

    def _receiving(self, healths: Healths) -> dict[str, int]:
        """How many backends of each pool the ring is to point to."""
        down = _health.down(healths)
        return {
            pool.name: sum(
                backend.state == "active" and (pool.name, backend.address) not in down
                for backend in pool.backends
            )
            for pool in self.known.fleet.pools
        }

    def _announce(self, addresses: Collection[str]) -> None:
        """What BIRD does not take is tried again next turn; rings do not wait for it."""
        before, state = self.known.announced, self.known.node.state
        try:
            self._announcer.announce(addresses, state == "draining")
            self.known.announced, self.known.state = frozenset(addresses), state
        except (L4lbError, OSError) as error:
            self.problems.append(str(error))
            self.known.announced = self._announcer.held
        self._log(before)

    def _log(self, before: Collection[str]) -> None:
        """What is announced since, and what no longer is, and why."""
        for address in sorted(self.known.announced.difference(before), key=order):
            log.info("announced %s", address, extra={"L4LB_ADDRESS": address})
        for address in sorted(set(before) - self.known.announced, key=order):
            reasons = (
                self.known.reasons.get(address) or self.problems or ["it is no service's any more"]
            )
            log.warning(
                "withdrawn %s: %s", address, "; ".join(reasons), extra={"L4LB_ADDRESS": address}
            )

    def _settle(self) -> None:
        now = time.monotonic()
        if self.kernel and now - self._settled >= self.options.settle_interval:
            self._settled = now
            _settle.settle_tables(self.kernel.tables, self.options.state_dir, self.kernel.rings)

    # --- what is told ---

    def told(self) -> Mapping[str, Any]:
        """The status as last written; any thread may ask."""
        return self._told

    def tables(self) -> Tables | None:
        """The open maps; any thread may ask."""
        kernel = self.kernel
        return kernel.tables if kernel else None

    def proved(self) -> Counted:
        """What proofs have added to the counters; any thread may ask."""
        kernel = self.kernel
        return kernel.gate.counted() if kernel else Counted()

    def _tell(self) -> None:
        with self._may_fail():
            lease.renew(self.options.run_dir)
        self.problems += status.unasked(self.judge.judgements())
        with self._may_fail():
            self._told = self.status()
            status.write(self.options.run_dir, self._told)

    def status(self) -> dict[str, Any]:
        """See _agent_status: what this agent knows and does."""
        known = self.known
        findings = known.findings or Findings([], {}, {})
        reasons = {
            each.name: [
                *findings.node,
                *findings.services.get(each.name, ()),
                *findings.pools.get(each.pool, ()),
            ]
            for each in known.fleet.services
        }
        return {
            "version": _agent_status.VERSION,
            "written": time.time(),
            "pid": os.getpid(),
            "started": self._started,
            "turn_seconds": round(self.took, 4),
            "node": {
                "state": known.state,
                "wanted": known.node.state,
                "since": known.node.since,
                "reasons": list(findings.node),
            },
            "applied": known.digest,
            "lease": self.options.lease,
            "services": status.services(known.fleet, reasons),
            "addresses": status.addresses(
                known.fleet, known.announced, known.reasons, findings.pools
            ),
            "pools": status.pools(known.fleet, known.healthy),
            "backends": status.backends(known.fleet, self.judge.judgements(), known.healths),
            "proofs": self.kernel.gate.proofs() if self.kernel else {},
            "problems": list(self.problems),
        }
