# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's data path in a few lines of Python: the rule that bpf/steer.h must follow.

Rings and slots are the collection's own; only what the kernel does to a packet is written again.
Time is in ticks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots


@dataclass
class Record:
    """What the flow table knows of a flow."""

    backend: int
    seen: int


@dataclass(frozen=True)
class Flow:
    """A flow, by number; its hash is what picks the slot."""

    number: int
    udp: bool = False

    def slot(self, size: int) -> int:
        return self.number * 7 % size


@dataclass
class Node:
    """One pool on one node.

    weights: of the backends that get new flows. records_expire: false for a data path that believes
    records of any age, which is a mistake.
    """

    size: int
    settle_ticks: int
    udp_transition: int
    tracking: str = "adaptive"
    records_expire: bool = True
    now: int = 1
    weights: dict[int, int] = field(default_factory=dict)
    living: set[int] = field(default_factory=set)
    flows: dict[Flow, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slots = Slots.empty(self.size)

    def change(self, weights: dict[int, int], living: set[int]) -> list[int]:
        """Backends get these weights; `living` may keep old flows. Returns the desired ring."""
        self.weights, self.living = dict(weights), set(living)
        desired = ring(weights, self.size)
        self.slots = _rings.advance(self.slots, desired, living, self.now)
        return desired

    def settle(self) -> None:
        """What the agent does from time to time."""
        busy = {
            flow.slot(self.size)
            for flow, record in self.flows.items()
            if self._is_alive(record) and record.backend != self.slots.current[flow.slot(self.size)]
        }
        self.slots = _rings.settle(self.slots, self.now, self.settle_ticks, busy)

    def packet(self, flow: Flow, opens: bool = False) -> int:
        """The backend that gets the packet; opens: a TCP SYN."""
        place = flow.slot(self.size)
        current, tracked = self.slots.current[place], self.slots.tracked[place]
        if self.tracking == "never" or (self.tracking == "adaptive" and not tracked):
            return current
        record = None if opens else self.flows.get(flow)
        if record is None or not self._believes(record):
            backend = self._unknown(flow, opens)
            if not backend:
                return 0
            record = self.flows[flow] = Record(backend, self.now)
        record.seen = self.now
        return record.backend

    def _is_alive(self, record: Record) -> bool:
        return record.backend in self.living and self.now - record.seen <= self.settle_ticks

    def _believes(self, record: Record) -> bool:
        """A record older than the settle time may be of a flow that is long gone: its addresses and
        ports may have begun another flow since, unrecorded, while the slot was settled."""
        if self.records_expire:
            return self._is_alive(record)
        return record.backend in self.living

    def _unknown(self, flow: Flow, opens: bool) -> int:
        place = flow.slot(self.size)
        current, previous = self.slots.current[place], self.slots.previous[place]
        if opens or previous not in self.living:
            return current
        if flow.udp and self.now - self.slots.tracked[place] > self.udp_transition:
            return current
        return previous


def ring(weights: dict[int, int], size: int) -> list[int]:
    """The ring of these backends, as backend indices."""
    address = {f"10.0.{backend >> 8}.{backend & 255}": backend for backend in weights}
    places = _rings.build("maglev", {a: weights[b] for a, b in address.items()}, size)
    index = [address[a] for a in _rings.ordered(address)]
    return [index[place] if place >= 0 else 0 for place in places]
