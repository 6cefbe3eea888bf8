# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate: whether this node forwards what it would announce, and what it therefore announces.

`announcements` are the rules, pure. `Gate.check` looks: at the program and its interfaces at every
turn, by proofs at every service in turn, at the maps as a whole when something was applied and once
a minute. What is announced stays so until something is refuted, whatever is not known yet: an agent
that is started anew changes nothing. What is not announced is, when it is proven.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _agent_status, _bpf
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import SERVICES_FILE
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, Pool, Service
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import LIVING, ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._node_state import NodeState
from ansible_collections.l4lb.xdp.plugins.module_utils._overrides import OVERRIDES_FILE
from ansible_collections.l4lb.xdp.plugins.module_utils._proof import Counted, Prover
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from l4lb_agent.files import Watched
from l4lb_agent.looks import Differences, Running, Watch, differences, is_written
from l4lb_agent.options import Options

AGAIN = 1.0
"""Seconds after which a service that was proven is proven again, if there are few."""
AT_ONCE = 25
"""Services that are proven again in one turn, so about 50 a second."""
BURST = 0.2
"""Seconds a turn for services that are not proven."""
MAPS_EVERY = 60.0
"""Seconds between two looks at the maps as a whole, when nothing was applied."""
MENDED_EVERY = 2.0
"""The same while something differs, so that what is mended is soon announced."""


@dataclass
class Findings:
    """Reasons not to announce, a sentence each, that name the thing and the remedy.

    node: none of its addresses. services: by name, as far as this node is concerned. pools: by
    name, too few healthy backends. unproven: services of which nothing is known yet. hold_until:
    of the clock of `Gate.check`; nothing new is announced before.
    """

    node: list[str]
    services: dict[str, list[str]]
    pools: dict[str, list[str]]
    unproven: frozenset[str] = frozenset()
    hold_until: float = 0.0


# --- the rules ---


def announcements(
    findings: Findings, fleet: Fleet, node: NodeState, before: Collection[str], now: float
) -> tuple[frozenset[str], dict[str, list[str]]]:
    """The addresses to announce, and why the others are not, by address.

    An address is announced when the node is well, every service of it forwards here, and one of
    them at least has backends enough. before: those announced now, which only a refutation ends.
    now: as given to `Gate.check`.
    """
    services: dict[str, list[Service]] = defaultdict(list)
    for service in fleet.services:
        services[service.address].append(service)
    reasons = {
        address: [*_of_node(address, findings, node), *_of_services(here, findings)]
        or (_not_yet(here, findings, now) if address not in before else [])
        for address, here in services.items()
    }
    announced = frozenset(address for address, why in reasons.items() if not why)
    return announced, {address: why for address, why in reasons.items() if why}


def _of_node(address: str, findings: Findings, node: NodeState) -> Iterator[str]:
    if node.state == "withdrawn":
        yield "the node is withdrawn (l4lb.xdp.node)"
    if address in node.withheld:
        yield "its services are about to be removed (l4lb.xdp.services)"
    yield from findings.node


def _of_services(services: Collection[Service], findings: Findings) -> Iterator[str]:
    seen: dict[str, None] = {}
    for service in services:
        seen.update(dict.fromkeys(findings.services.get(service.name, ())))
    yield from seen
    pools = {service.pool for service in services}
    if all(findings.pools.get(pool) for pool in pools):
        for pool in sorted(pools):
            yield from findings.pools[pool]


def _not_yet(services: Collection[Service], findings: Findings, now: float) -> list[str]:
    """Why what is not refuted is not announced yet."""
    waiting = [service.name for service in services if service.name in findings.unproven]
    if waiting:
        return [f"service {waiting[0]} is not proven to forward yet"]
    if now < findings.hold_until:
        return [f"everything is well; announced in {findings.hold_until - now:.0f} s (hold)"]
    return []


def too_few(pool: Pool, healthy: int) -> list[str]:
    """Why the services of a pool are not announced for its backends. healthy: living ones."""
    if not any(backend.state in LIVING for backend in pool.backends):
        return [
            f"pool {pool.name} has no backend that is active or draining: l4lb.xdp.services or "
            "l4lb.xdp.backend gives it one"
        ]
    if healthy >= pool.minimum_healthy or pool.all_down == "fail_open":
        return []
    return [
        f"{healthy} of {len(pool.backends)} backends of pool {pool.name} are healthy, "
        f"{pool.minimum_healthy} are needed (minimum_healthy)"
    ]


def _idle(pool: Pool, receiving: int) -> bool:
    """Whether a pool's ring is empty as it should be: new flows go nowhere, old ones go on."""
    nobody = not any(backend.state == "active" for backend in pool.backends)
    return nobody or (not receiving and pool.all_down != "fail_open")


# --- whose turn it is to be proven ---


@dataclass
class Proven:
    """What is known of a service. reason: None when it forwards. at: of the last proof.

    A proof that fails is made again before it counts: a neighbour may be asked for just then, or a
    ring be about to be written.
    """

    key: ServiceKey
    pool: str
    at: float = float("-inf")
    reason: str | None = None
    known: bool = False
    shaken: bool = False

    def hear(self, reason: str | None, now: float) -> None:
        """What a proof says."""
        self.at = now
        if reason is not None and self.reason is None and not self.shaken:
            self.shaken = True
            return
        self.reason, self.known, self.shaken = reason, True, False

    def doubt(self) -> None:
        """Nothing is known any more."""
        self.at, self.reason, self.known, self.shaken = float("-inf"), None, False, False

    @property
    def doubtful(self) -> bool:
        return not self.known or self.shaken or self.reason is not None


@dataclass
class Agenda:
    """Who is proven when; pure.

    Those that are not proven come first, then those proven longest ago, each pool in turn, for a
    pool's services have most in common.
    """

    services: dict[str, Proven] = field(default_factory=dict)

    def take_in(self, fleet: Fleet) -> None:
        """Keeps what is known of services that are as they were."""
        kept, self.services = self.services, {}
        for service in _by_turns(fleet.services):
            key = ServiceKey(service.address, service.port, service.protocol)
            held = kept.get(service.name)
            same = held is not None and (held.key, held.pool) == (key, service.pool)
            self.services[service.name] = held if held and same else Proven(key, service.pool)

    def due(self, now: float) -> tuple[list[str], list[str]]:
        """Those that are not proven, and those whose turn it is again."""
        doubtful = [name for name, s in self.services.items() if s.doubtful]
        again = [
            name for name, s in self.services.items() if not s.doubtful and now - s.at >= AGAIN
        ]
        doubtful.sort(key=lambda name: self.services[name].at)
        again.sort(key=lambda name: self.services[name].at)
        return doubtful, again[:AT_ONCE]


def _by_turns(services: Collection[Service]) -> list[Service]:
    """The first service of every pool, the second of every pool ..."""
    place: dict[str, int] = defaultdict(int)
    ranked = []
    for service in services:
        ranked.append((place[service.pool], service))
        place[service.pool] += 1
    return [service for _rank, service in sorted(ranked, key=lambda each: each[0])]


# --- looking ---


class Gate:
    """Looks at one node, as long as its maps are the same."""

    def __init__(self, options: Options, tables: Tables, prover: Prover | None = None) -> None:
        self._options = options
        self._tables = tables
        self._watch = Watch(tables, options.pins, options.state_dir)
        self._prover = prover or Prover(tables, options.source, options.pins)
        self._agenda = Agenda()
        self._fleet: Fleet | None = None
        self._running = Running(())  # nothing is known, nothing refuted
        self._blind = False  # the last look failed
        self._well_since: float | None = None
        # Health is the agent's own, and verified when it is applied.
        names = (SERVICES_FILE, OVERRIDES_FILE)
        self._applied = Watched([options.state_dir / name for name in names])
        self._compared = float("-inf")
        self._suspected = Differences()
        self._differences = Differences()
        self._failed = 0
        self._maps = str(_bpf.map_info(tables.table("service_counters").map_fd).id)
        self._resume()

    def close(self) -> None:
        self._prover.close()

    def counted(self) -> Counted:
        """What proofs have added to the kernel's counters; any thread may read it."""
        return self._prover.counted

    def proofs(self) -> dict[str, Any]:
        """For the status. made: packets. maps: names the counters that `counted` belongs to."""
        counted = self._prover.counted
        return {
            "made": sum(count.packets for count in counted.verdicts.values()),
            "failed": self._failed,
            "services": {name: count.packets for name, count in counted.services.items()},
            "maps": self._maps,
            "counted": counted.as_dict(),
        }

    def check(
        self,
        fleet: Fleet,
        healthy: Mapping[str, int],
        now: float,
        receiving: Mapping[str, int] | None = None,
        behind: bool = False,
    ) -> Findings:
        """What there is against announcing.

        healthy: by pool's name, how many backends serve the flows that they have. receiving: how
        many its ring is to point to; None: as many. behind: rings are still to be written, so what
        they lack is held against nobody. now: seconds of a clock that nobody sets, as
        time.monotonic.
        """
        gets = healthy if receiving is None else receiving
        idle = {pool.name for pool in fleet.pools if _idle(pool, gets.get(pool.name, 0))}
        if fleet is not self._fleet:
            self._agenda.take_in(fleet)
            self._fleet = fleet
        self._look(now)
        if self._running.interface:
            self._compare(now, behind)
            self._prove(now, idle, behind)
        else:
            idle = set()
        hold_until = now if self._well_since is None else self._well_since + self._options.hold
        return Findings(
            list(self._running.reasons),
            dict(self._of_services(fleet)),
            {p.name: why for p in fleet.pools if (why := too_few(p, healthy.get(p.name, 0)))},
            frozenset(
                name
                for name, service in self._agenda.services.items()
                if not service.known and service.pool not in idle
            ),
            hold_until,
        )

    def _look(self, now: float) -> None:
        """At the program; a new one has to be proven anew. A look that fails counts when the next
        one fails, too.
        """
        was_blind, self._blind = self._blind, False
        try:
            running = self._watch.look()
        except (L4lbError, OSError) as error:
            self._blind = True
            if not was_blind:
                return
            running = Running((f"cannot look at the program: {error}",))
        if running.reasons and not self._running.reasons and is_written(self._options.state_dir):
            return  # a program is being replaced: for a moment interface and pin differ
        was, place = self._running, (running.program, running.interface, running.index)
        moved = running.interface and place != (was.program, was.interface, was.index)
        if moved:
            self._prover.open(self._watch.open(), running.interface, running.index)
        self._running = running
        if running.reasons:
            self._well_since = None
        elif self._well_since is None:
            self._well_since = now
        if moved:
            for service in self._agenda.services.values():
                service.doubt()
            self._well_since = None if running.reasons else now

    def _compare(self, now: float, behind: bool) -> None:
        """Maps with what was applied. What differs once may be just being written: only what
        differs again at the next turn counts.
        """
        if behind:
            self._suspected = self._differences
            return
        every = MENDED_EVERY if self._differences else MAPS_EVERY
        if not self._applied.news() and now - self._compared < every:
            return
        try:
            found = differences(self._tables, self._options.state_dir)
        except (L4lbError, OSError):  # the steward reads the same files and says so
            found = None
        if found is None:
            self._applied.forget()
            return
        self._differences = found.and_before(self._suspected)
        self._suspected = found
        self._compared = now
        if found and not self._differences:
            self._applied.forget()  # look again at the next turn

    def _prove(self, now: float, idle: Collection[str], behind: bool) -> None:
        """idle: pools whose backends are nowhere in a ring, which is not for this node to mend."""
        doubtful, again = self._agenda.due(now)
        self._prover.renew()
        began = time.monotonic()
        for name in doubtful:
            self._prove_one(name, now, idle, behind)
            if time.monotonic() - began > BURST:
                break
        for name in again:
            self._prove_one(name, now, idle, behind)

    def _prove_one(self, name: str, now: float, idle: Collection[str], behind: bool) -> None:
        service = self._agenda.services[name]
        reason = self._prover.prove(service.key)
        unwritten = behind and f"no backend of pool {service.pool} is active" in (reason or "")
        if reason is not None and (service.pool in idle or unwritten):
            service.doubt()
            service.at = now
            return
        service.hear(reason, now)
        self._failed += reason is not None

    def _of_services(self, fleet: Fleet) -> Iterator[tuple[str, list[str]]]:
        found = self._differences
        for service in fleet.services:
            proven = self._agenda.services[service.name]
            reasons = [
                proven.reason if proven.known else None,
                found.services.get(service.name),
                found.services.get(service.address),
                found.pools.get(service.pool),
            ]
            told = [reason for reason in reasons if reason]
            if told:
                yield service.name, told

    def _resume(self) -> None:
        """Goes on counting where the last agent of these maps ended."""
        try:
            status = _agent_status.read(self._options.run_dir) or {}
            proofs = status["proofs"]
            if proofs["maps"] == self._maps:
                self._prover.counted = Counted.from_dict(proofs["counted"])
        except (L4lbError, KeyError, TypeError, AttributeError, ValueError):
            return  # there was none, or of another version
