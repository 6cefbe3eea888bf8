# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's data path in a few lines of Python: the rule that bpf/steer.h must follow.

Rings and slots are the collection's own; only what the kernel does to a packet is written again.
Time is in ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings, _settle
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import packed_hash
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import slot as slot_of
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    Actual,
    PoolEntry,
    ServiceEntry,
    ServiceKey,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes

SEED = 7220431
CLIENT, SERVICE = bytes([198, 51, 100, 2]), bytes([203, 0, 113, 10])


@dataclass
class Record:
    """What the flow table knows of a flow."""

    backend: int
    seen: int


@dataclass(frozen=True)
class Flow:
    """A flow, by number: its source port."""

    number: int
    udp: bool = False

    @property
    def protocol(self) -> int:
        return 17 if self.udp else 6

    def slot(self, size: int) -> int:
        return _slot(self.number, self.protocol, size)


@cache
def _slot(number: int, protocol: int, size: int) -> int:
    return slot_of(packed_hash(SEED, CLIENT, SERVICE, protocol, number, 80), size)


def no_packets() -> None:
    """Nothing happens meanwhile."""


def in_turn(*arrivals: Callable[[], object]) -> Callable[[], None]:
    """Does one of them each time it is called, then nothing."""
    left = list(arrivals)

    def arrive() -> None:
        if left:
            left.pop(0)()

    return arrive


@dataclass
class Node:
    """One pool on one node, and what settling asks of the node's tables.

    weights: of the backends that get new flows. records_expire: false for a data path that believes
    records of any age, which is a mistake. meanwhile: packets that arrive while the flow table is
    read. forgetful: false for settling that leaves the records which these make, a mistake too.
    """

    size: int
    settle_ticks: int
    udp_transition: int
    tracking: str = "adaptive"
    records_expire: bool = True
    forgetful: bool = True
    now: int = 1
    weights: dict[int, int] = field(default_factory=dict)
    living: set[int] = field(default_factory=set)
    flows: dict[Flow, Record] = field(default_factory=dict)
    meanwhile: Callable[[], None] = no_packets
    memory: _settle.Memory = field(default_factory=dict)
    rings: int = 1

    def __post_init__(self) -> None:
        self.slots = Slots.empty(self.size)

    def change(self, weights: dict[int, int], living: set[int]) -> list[int]:
        """Backends get these weights; `living` may keep old flows. Returns the desired ring."""
        self.weights, self.living = dict(weights), set(living)
        desired = ring(weights, self.size)
        self.slots = _rings.advance(self.slots, desired, living, self.now)
        self.rings += 1
        return desired

    def settle(self, meanwhile: Callable[[], None] = no_packets) -> None:
        """What the agent does from time to time; `meanwhile` is called again and again."""
        self.meanwhile = meanwhile
        _settle.settle(self, self.now, flows=self, memory=self.memory)  # type: ignore[arg-type]
        self.meanwhile = no_packets

    def settings(self) -> dict[str, Any]:
        return {"hash_seed": SEED}

    def actual(self) -> Actual:
        pool = PoolEntry(
            "web", "maglev", "ipip", self.tracking, self.udp_transition, self.settle_ticks
        )
        services = {
            ServiceKey("203.0.113.10", 80, protocol): ServiceEntry(i, 0, protocol)
            for i, protocol in enumerate(("tcp", "udp"))
        }
        return Actual(services, {0: pool}, {}, Sizes(ring=self.size))

    def ring(self, pool: int) -> Slots:
        assert pool == 0
        return self.slots

    def put_ring(self, pool: int, slots: Slots) -> None:
        assert pool == 0
        self.meanwhile()
        self.slots = slots
        self.rings += 1

    def ring_id(self, pool: int) -> int:
        assert pool == 0
        return self.rings

    def records(self, tables: Node) -> Iterator[tuple[Any, ...]]:
        """As `_flows.records`: what is there all the time is seen, as it is when its turn comes."""
        self.meanwhile()
        for flow in list(self.flows):
            if record := tables.flows.get(flow):
                five = CLIENT, SERVICE, flow.number, 80, flow.protocol
                yield (*five, record.backend, record.seen)
            self.meanwhile()

    def forget(self, tables: Node, record: tuple[Any, ...]) -> None:
        if self.forgetful:
            tables.flows.pop(Flow(record[2], record[4] == 17), None)

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
