# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until no flow uses a backend any more.

Private to the collection. A flow of a slot that was settled before the drain is recorded when its
next packet comes: that no record names the backend says nothing at first. So the backend's packet
counter has to stand still for `idle` seconds, which also covers flows that the table has lost, and
pools without tracking; a flow silent for longer counts as ended. And the backend must have stopped
getting new flows: to UDP, `previous` is open for the transition of the pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ansible_collections.l4lb.xdp.plugins.module_utils import _flows, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._lookup import Lookup
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import TICK_SHIFT, Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables, now_seconds

POLL = 1.0
"""Seconds between two looks at the counters."""


@dataclass(frozen=True)
class Clock:
    """now: the data path's clock, in seconds."""

    now: Callable[[], float] = now_seconds
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Target:
    """A backend to wait for, with its indices. udp_transition: seconds; 0 without a UDP service."""

    pool: str
    address: str
    pool_index: int
    index: int
    udp_transition: int = 0

    def __str__(self) -> str:
        return f"backend {self.address} of pool {self.pool}"


@dataclass(frozen=True)
class Waited:
    """flows: those seen within `idle` that are left. packets: sent to the backends meanwhile.

    why: what was still there when the deadline passed, a line each.
    """

    reached: bool
    seconds: float
    flows: int = 0
    packets: int = 0
    why: tuple[str, ...] = ()


class Node(Protocol):
    """What is asked of a node, all about now."""

    def packets(self, target: Target) -> int: ...
    def takes_new_flows(self, target: Target) -> bool: ...
    def closed_at(self, target: Target) -> float: ...
    def living(self, idle: int) -> Mapping[int, int]: ...


@dataclass
class Watch:
    """A backend's packet counter over time. moved_at: when it last moved, or was first read."""

    idle: int
    moved_at: float
    packets: int
    counted: int = 0

    def look(self, now: float, packets: int) -> None:
        """Takes what the counter says now."""
        if packets != self.packets:
            self.counted += max(0, packets - self.packets)  # a removed backend's begins anew
            self.packets, self.moved_at = packets, now

    def silent(self, now: float) -> bool:
        return now - self.moved_at >= self.idle


def until_quiet(
    targets: Sequence[Target], node: Node, idle: int, timeout: int, clock: Clock
) -> Waited:
    """Waits until all are quiet, `timeout` seconds at most."""
    began = clock.now()
    watches = {target: Watch(idle, began, node.packets(target)) for target in targets}
    while True:
        now = clock.now()
        for target, watch in watches.items():
            watch.look(now, node.packets(target))
        late = now - began >= timeout
        why = _moving(watches, now)
        if late or not why:
            why += [line for target in targets for line in _may_get_more(target, node, now)]
        if late or not why:  # all flows are read only when nothing cheaper says no
            living = node.living(idle)
            why += _recorded(watches, living)
            if late or not why:
                return _waited(watches, living, now - began, why)
        clock.sleep(min(POLL, began + timeout - now))


def for_seconds(
    targets: Sequence[Target], node: Node, idle: int, timeout: int, clock: Clock
) -> Waited:
    """Waits `timeout` seconds, whatever the flows do."""
    began = clock.now()
    watches = {target: Watch(idle, began, node.packets(target)) for target in targets}
    clock.sleep(timeout)
    now = clock.now()
    for target, watch in watches.items():
        watch.look(now, node.packets(target))
    return _waited(watches, node.living(idle), now - began, [])


def _moving(watches: Mapping[Target, Watch], now: float) -> list[str]:
    return [
        f"{target} was sent packets within the last {watch.idle} s"
        for target, watch in watches.items()
        if not watch.silent(now)
    ]


def _may_get_more(target: Target, node: Node, now: float) -> Iterator[str]:
    open_for = node.closed_at(target) - now
    if open_for > 0:
        yield f"{target} may get new UDP flows for another {open_for:.0f} s (udp_transition)"
    if node.takes_new_flows(target):
        yield f"{target} is active: somebody else made it so meanwhile"


def _recorded(watches: Mapping[Target, Watch], living: Mapping[int, int]) -> list[str]:
    return [
        f"{target} has flows seen within the last {watch.idle} s: {living[target.index]}"
        for target, watch in watches.items()
        if living.get(target.index)
    ]


def _waited(
    watches: Mapping[Target, Watch], living: Mapping[int, int], seconds: float, why: Sequence[str]
) -> Waited:
    return Waited(
        not why,
        round(seconds, 1),
        sum(living.get(target.index, 0) for target in watches),
        sum(watch.counted for watch in watches.values()),
        tuple(why),
    )


@dataclass(frozen=True)
class MapsOfNode:
    """A node's maps as `Node`."""

    tables: Tables
    clock: Clock

    def packets(self, target: Target) -> int:
        return self.tables.backend_counter(target.index)["packets"]

    def takes_new_flows(self, target: Target) -> bool:
        held = Lookup(self.tables).backend(target.index)
        return held is not None and held.state == "active"

    def closed_at(self, target: Target) -> float:
        slots = self.tables.ring(target.pool_index) if target.udp_transition else None
        return closed_at(slots, target.index, target.udp_transition) if slots else 0.0

    def living(self, idle: int) -> Mapping[int, int]:
        now = _rings.tick(int(self.clock.now() * 1e9))
        return _flows.living_by_backend(self.tables, now, _rings.ticks(idle))


def closed_at(slots: Slots, backend: int, udp_transition: int) -> float:
    """When, in seconds of the data path's clock, no slot gives its unknown UDP flows to the backend
    as its `previous` any more. 0.0 when none does.
    """
    since = [t for previous, t in zip(slots.previous, slots.tracked) if previous == backend]
    if not since:
        return 0.0
    return ((max(since) + _rings.ticks(udp_transition) + 1) << TICK_SHIFT) / 1e9
