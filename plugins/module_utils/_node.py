# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's own state: whether it announces, drains or is withdrawn, and waiting until it is so.

Private to the collection. What is asked for goes into a file that outlives reboots; the agent does
it, and says in its status what came of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _agent_status, _applied, _node_state
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._reader import few
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

FORWARDED = ("sent", "redirected", "to_kernel")
"""The verdicts of packets that go to a backend."""

POLL = 0.5
AGENT = "l4lb-agent.service"


class NodeError(L4lbError):
    """The node did not come to the state that was asked for; what it is in is in the data."""


@dataclass(frozen=True)
class Request:
    """What is asked for. Times in seconds, threshold in packets a second.

    quiet: how long the traffic has to stay below the threshold.
    """

    state: str | None = None
    wait: bool = False
    timeout: int = 300
    threshold: float = 10.0
    quiet: int = 5
    fail_on_timeout: bool = True


@dataclass
class Traffic:
    """Packets that this node sends to backends, less those of the agent's proofs."""

    count: Callable[[], int]
    clock: Callable[[], float] = time.monotonic
    last: tuple[float, int] | None = None
    rate: float | None = None
    quiet_since: float | None = None

    def look(self, threshold: float) -> None:
        """Counts; the rate is over the time since the last look."""
        now, packets = self.clock(), self.count()
        if self.last is not None and now > self.last[0]:
            self.rate = max(0, packets - self.last[1]) / (now - self.last[0])
            if self.rate >= threshold:
                self.quiet_since = None
            elif self.quiet_since is None:
                self.quiet_since = self.last[0]
        self.last = now, packets

    def is_quiet(self, seconds: float) -> bool:
        return (
            self.last is not None
            and self.quiet_since is not None
            and self.last[0] - self.quiet_since >= seconds
        )


@dataclass(frozen=True)
class Places:
    """Where this node keeps things."""

    state_dir: Path
    run_dir: Path
    pins: Path
    source: Path


def apply_node(
    request: Request,
    places: Places,
    dry: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Writes the state that is asked for, waits as asked, and reports.

    Raises ConfigError, AppliedError, and NodeError when the deadline passes, or no agent is there
    to wait for; the state stays written then, and the agent does it when it is back.
    """
    request = checked(request)
    before = _node_state.load(places.state_dir)
    after = before
    waited: list[str] = []
    if request.state is not None and request.state != before.state:
        after = replace(before, state=request.state, since=int(time.time()))
        with writer(places.state_dir, "l4lb.xdp.node", dry) as waited:
            if not dry:
                held = _node_state.load(places.state_dir)
                after = replace(after, withheld=held.withheld)
                _node_state.save(places.state_dir, after)
    outcome = Outcome(
        after.state != before.state,
        [f"node: {before.state}"],
        [f"node: {after.state}"],
        warnings=waited,
    )
    if request.wait and not dry:
        _wait(request, after.state, places, sleep, outcome)
    else:
        outcome.data = report(after.state, _agent_status.read(places.run_dir))
    return outcome


def checked(request: Request) -> Request:
    """The request. Raises ConfigError with all mistakes."""
    mistakes = [
        f"{key}: {getattr(request, key)} is not from {low} to {high} ({unit})"
        for key, low, high, unit in (
            ("timeout", 1, 86_400, "seconds"),
            ("threshold", 0, 1e9, "packets a second"),
            ("quiet", 0, 3600, "seconds"),
        )
        if not low <= getattr(request, key) <= high
    ]
    if request.wait and request.quiet >= request.timeout:
        mistakes.append(f"timeout: {request.timeout} must exceed quiet ({request.quiet})")
    if mistakes:
        raise ConfigError(mistakes)
    return request


def report(state: str, status: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the module returns. state: the one that was asked for last."""
    if status is None:
        return {"node": {"state": state, "agent": False, "announced": [], "withheld": {}}}
    addresses = status["addresses"]
    return {
        "node": {
            "state": state,
            "agent": _agent_status.age(dict(status)) < _agent_status.FRESH,
            "reasons": status["node"]["reasons"],
            "announced": sorted(a for a, each in addresses.items() if each["announced"]),
            "withheld": {
                a: each["reasons"] for a, each in sorted(addresses.items()) if not each["announced"]
            },
            "problems": status["problems"],
        }
    }


def _wait(
    request: Request,
    state: str,
    places: Places,
    sleep: Callable[[float], None],
    outcome: Outcome,
) -> None:
    """Until the agent has done it and, but for announcing, traffic is gone."""
    began = time.monotonic()
    traffic = None if state == "announcing" else _traffic(places)
    while True:
        status = _agent_status.running(places.run_dir)
        missing = lacks(state, status, _digest(places))
        if traffic is not None:
            traffic.look(request.threshold)
            if not traffic.is_quiet(request.quiet):
                missing.append(_busy(traffic, request))
        if not missing:
            starved = wants_backends(status) if status and state == "announcing" else {}
            if starved:
                text = "not waited for, as nothing but healthy backends is missing"
                outcome.warnings.append(f"{text}: {_held(starved)}")
            break
        if time.monotonic() - began > request.timeout:
            _give_up(request, state, missing, places, outcome)
            break
        sleep(POLL)
    outcome.data = report(state, _agent_status.read(places.run_dir))
    outcome.data["wait"] = {
        "reached": not missing,
        "waited_seconds": round(time.monotonic() - began, 1),
        "packets_per_second": None
        if traffic is None or traffic.rate is None
        else round(traffic.rate, 1),
    }


def _give_up(
    request: Request, state: str, missing: list[str], places: Places, outcome: Outcome
) -> None:
    text = f"the node is not {state} after {request.timeout} s: {'; '.join(missing)}"
    if request.fail_on_timeout:
        data = {"changed": outcome.changed, **report(state, _agent_status.read(places.run_dir))}
        raise NodeError(text, data, outcome.warnings)
    outcome.warnings.append(text)


def lacks(state: str, status: Mapping[str, Any] | None, applied: str) -> list[str]:
    """What is missing until the agent has done it. applied: digest of what was applied."""
    if status is None:
        return [f"no agent runs here: look at {AGENT} (journalctl -u {AGENT})"]
    if status["applied"] != applied:
        return ["the agent has not read yet what was applied", *status["problems"]]
    if status["node"]["state"] != state:
        return [f"the agent still has the state {status['node']['state']}", *status["problems"]]
    addresses = status["addresses"]
    if state == "withdrawn":
        left = [address for address, each in addresses.items() if each["announced"]]
        return [f"still announced: {few(left)}", *status["problems"]] if left else []
    if state == "draining":
        return []
    starved = wants_backends(status)
    held = {
        a: each["reasons"]
        for a, each in addresses.items()
        if not each["announced"] and a not in starved
    }
    return [_held(held), *status["problems"]] if held else []


def wants_backends(status: Mapping[str, Any]) -> dict[str, list[str]]:
    """Addresses that are withheld for nothing but their pools' health, with the reasons. That is
    no fault of the node, once it has heard of all those backends.
    """
    unheard = {
        backend["pool"]
        for backend in status.get("backends", ())
        if backend["health"] == "unknown" and backend["state"] != "disabled"
    }
    undecided = {s["address"] for s in status.get("services", ()) if s["pool"] in unheard}
    return {
        address: each["reasons"]
        for address, each in status["addresses"].items()
        if not each["announced"] and each.get("backends_only") and address not in undecided
    }


def _held(held: Mapping[str, list[str]]) -> str:
    first = sorted(held)[:5]
    more = f", and {len(held) - len(first)} more" if len(held) > len(first) else ""
    texts = [f"{a} is not announced ({', '.join(held[a]) or 'not yet'})" for a in first]
    return "; ".join(texts) + more


def _busy(traffic: Traffic, request: Request) -> str:
    if traffic.rate is None or traffic.rate < request.threshold:
        return f"quiet for less than {request.quiet} s"
    return f"{traffic.rate:.0f} packets a second still come (threshold {request.threshold:g})"


def _traffic(places: Places) -> Traffic:
    tables = Tables(places.pins, places.source)

    def count() -> int:
        verdicts = tables.verdicts()
        status = _agent_status.read(places.run_dir)
        made = status["proofs"].get("made", 0) if status else 0
        return sum(verdicts[verdict]["packets"] for verdict in FORWARDED) - int(made)

    return Traffic(count)


def _digest(places: Places) -> str:
    return _agent_status.digest(places.state_dir / _applied.SERVICES_FILE)
