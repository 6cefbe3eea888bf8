# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settling on a node of several pools and services, without a kernel.

That no flow breaks by it, whatever packets do meanwhile, is test_steering's.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import packed_hash, slot
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    PoolEntry,
    ServiceEntry,
    ServiceKey,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._settle import Settled, outcome, settle
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import (
    SMALL,
    FakeKernel,
)

SEED = 7220431
SIZE = SMALL.ring
SETTLE = 100
NOW = 5000
OLD = NOW - SETTLE - 2
A, B, C = 1, 2, 3
TCP, UDP = 6, 17

Record = tuple[bytes, bytes, int, int, int, int, int]


@dataclass
class Node(FakeKernel):
    """A node with flow tables, that counts how often they are read."""

    records: list[Record] = field(default_factory=list)
    scans: int = 0

    def settings(self) -> dict[str, Any]:
        return {"hash_seed": SEED}

    def pool(self, index: int, name: str, slots: Slots, **values: Any) -> None:
        given = {"udp_transition": 10, "settle": SETTLE, "tracking": "adaptive", **values}
        self.pools[index] = PoolEntry(name, "maglev", "ipip", **given)
        self.rings[index] = slots

    def service(self, address: str, port: int, protocol: str, pool: int) -> None:
        number = len(self.services)
        key = ServiceKey(address, port, protocol)
        self.services[key] = ServiceEntry(number, pool, f"s{number}")


class Flows:
    """What the module _flows offers."""

    def records(self, tables: Node) -> Iterator[Record]:
        tables.scans += 1
        yield from list(tables.records)

    def forget(self, tables: Node, record: Record) -> None:
        tables.records.remove(record)


class Late(Flows):
    """Packets make these records after the first scan."""

    def __init__(self, *late: Record) -> None:
        self.late = late

    def records(self, tables: Node) -> Iterator[Record]:
        yield from super().records(tables)
        if tables.scans == 1:
            tables.records.extend(self.late)


def ring(current: int, previous: int, tracked: int) -> Slots:
    return Slots(
        array("H", [current] * SIZE), array("H", [previous] * SIZE), array("I", [tracked] * SIZE)
    )


def record(
    backend: int,
    seen: int,
    destination: str = "203.0.113.10",
    port: int = 80,
    protocol: int = TCP,
    source_port: int = 40000,
) -> Record:
    source = "2001:db8:3::2" if ":" in destination else "198.51.100.2"
    return packed(source), packed(destination), source_port, port, protocol, backend, seen


def slot_of(flow: Record) -> int:
    source, destination, source_port, port, protocol, *_rest = flow
    return slot(packed_hash(SEED, source, destination, protocol, source_port, port), SIZE)


def web(slots: Slots, *records: Record, **values: Any) -> Node:
    """A node with one pool and one service."""
    node = Node(records=list(records))
    node.pool(0, "web", slots, **values)
    node.service("203.0.113.10", 80, "tcp", 0)
    return node


def test_slots_settle_when_they_are_old_enough() -> None:
    node = web(ring(B, A, OLD))
    assert settle(node, NOW, flows=Flows()) == [Settled("web", SIZE, 0, 0)]
    assert node.rings[0] == ring(B, 0, 0)


@pytest.mark.parametrize(
    ("age", "settled"), [(SETTLE, False), (SETTLE + 1, False), (SETTLE + 2, True)]
)
def test_the_ring_may_have_come_a_tick_after_its_stamp(age: int, settled: bool) -> None:
    node = web(ring(B, A, NOW - age))
    settle(node, NOW, flows=Flows())
    assert node.rings[0] == (ring(B, 0, 0) if settled else ring(B, A, NOW - age))


def test_young_slots_cost_no_scan_and_no_write() -> None:
    node = web(ring(B, A, NOW - 1), record(A, NOW))
    assert settle(node, NOW, flows=Flows()) == [Settled("web", SIZE, SIZE, 0)]
    assert (node.scans, node.writes) == (0, 0)


def test_nothing_tracked_costs_no_scan_and_no_write() -> None:
    node = web(ring(B, 0, 0), record(A, NOW))
    assert settle(node, NOW, flows=Flows()) == []
    assert (node.scans, node.writes) == (0, 0)


@pytest.mark.parametrize(
    ("backend", "age", "busy"),
    [
        (A, 0, True),
        (A, SETTLE, True),
        (A, SETTLE + 1, False),
        (A, -1, True),  # seen after the settling began
        (C, 0, True),
        (B, 0, False),
    ],
)
def test_only_a_living_flow_on_another_backend_keeps_its_slot(
    backend: int, age: int, busy: bool
) -> None:
    flow = record(backend, NOW - age)
    node = web(ring(B, A, OLD), flow)
    assert settle(node, NOW, flows=Flows()) == [Settled("web", SIZE, int(busy), int(busy))]
    tracked = [i for i in range(SIZE) if node.rings[0].tracked[i]]
    assert tracked == ([slot_of(flow)] if busy else [])
    assert [i for i in range(SIZE) if node.rings[0].previous[i]] == tracked


def test_a_busy_slot_settles_when_its_flow_is_silent() -> None:
    node = web(ring(B, A, OLD), record(A, NOW))
    settle(node, NOW, flows=Flows())
    assert settle(node, NOW + SETTLE, flows=Flows()) == [Settled("web", 1, 1, 1)]
    assert settle(node, NOW + SETTLE + 1, flows=Flows()) == [Settled("web", 1, 0, 0)]


def test_a_ring_whose_old_slots_are_all_busy_is_not_written() -> None:
    flow = record(A, NOW)
    slots = ring(B, 0, 0)
    slots.previous[slot_of(flow)], slots.tracked[slot_of(flow)] = A, OLD
    node = web(slots, flow)
    assert settle(node, NOW, flows=Flows()) == [Settled("web", 1, 1, 1)]
    assert node.writes == 0


def test_a_flow_counts_for_the_pool_of_its_own_service() -> None:
    """An exact port wins over port 0, protocols and families are apart, the rest is nobody's."""
    flows = {
        "any": record(A, NOW, port=8080),
        "web": record(A, NOW, port=80),
        "dns": record(A, NOW, port=53, protocol=UDP),
        "six": record(A, NOW, destination="2001:db8:100::10", port=80),
        "none": record(A, NOW, destination="203.0.113.99"),
    }
    for busy in flows:
        node = Node(records=[flows[busy]])
        for index, name in enumerate(("any", "web", "dns", "six")):
            node.pool(index, name, ring(B, A, OLD))
        node.service("203.0.113.10", 0, "tcp", 0)
        node.service("203.0.113.10", 80, "tcp", 1)
        node.service("203.0.113.10", 0, "udp", 2)
        node.service("2001:db8:100::10", 80, "tcp", 3)
        held = {each.pool: each.busy for each in settle(node, NOW, flows=Flows())}
        assert held == {name: int(name == busy) for name in ("any", "web", "dns", "six")}


def test_the_exact_port_shields_a_pool_even_when_it_has_nothing_to_settle() -> None:
    node = Node(records=[record(A, NOW, port=80)])
    node.pool(0, "any", ring(B, A, OLD))
    node.pool(1, "web", ring(B, 0, 0))
    node.service("203.0.113.10", 0, "tcp", 0)
    node.service("203.0.113.10", 80, "tcp", 1)
    assert settle(node, NOW, flows=Flows()) == [Settled("any", SIZE, 0, 0)]
    assert node.writes == 1


def test_each_pool_has_its_own_time() -> None:
    node = web(ring(B, A, OLD), record(A, NOW - 50))
    node.pool(1, "slow", ring(C, A, OLD), settle=SETTLE + 1)
    node.pool(2, "quick", ring(C, A, OLD), settle=10)
    node.service("203.0.113.11", 80, "tcp", 2)
    node.records.append(record(A, NOW - 50, destination="203.0.113.11"))
    assert settle(node, NOW, flows=Flows()) == [
        Settled("quick", SIZE, 0, 0),
        Settled("slow", SIZE, SIZE, 0),
        Settled("web", SIZE, 1, 1),
    ]


def test_dry_tells_the_same_and_writes_nothing() -> None:
    node, twin = (web(ring(B, A, OLD), record(A, NOW)) for _twice in range(2))
    assert settle(node, NOW, dry=True, flows=Flows()) == settle(twin, NOW, flows=Flows())
    assert (node.writes, twin.writes) == (0, 1)
    assert node.rings[0] == ring(B, A, OLD)


@pytest.mark.parametrize(
    ("tracking", "late", "kept"),
    [
        ("adaptive", record(A, NOW), False),
        ("adaptive", record(A, NOW + 1), False),
        ("adaptive", record(B, NOW), True),
        ("always", record(A, NOW), True),
    ],
)
def test_records_made_meanwhile_on_another_backend_go(
    tracking: str, late: Record, kept: bool
) -> None:
    node = web(ring(B, A, OLD), tracking=tracking)
    settle(node, NOW, flows=Late(late))
    assert node.rings[0] == ring(B, 0, 0)
    assert node.records == ([late] if kept else [])


def test_records_made_meanwhile_in_slots_that_stay_tracked_stay() -> None:
    held = record(A, NOW)
    late = next(
        flow
        for flow in (record(C, NOW, source_port=port) for port in range(2000))
        if slot_of(flow) == slot_of(held)
    )
    node = web(ring(B, A, OLD), held)
    settle(node, NOW, flows=Late(late))
    assert node.records == [held, late]


def test_outcome_has_a_line_for_each_pool_with_tracked_slots() -> None:
    done = outcome([Settled("dns", 3, 3, 0), Settled("web", 1234, 2, 2)])
    assert done.changed
    assert done.before == ["pool dns: 3 slots tracked", "pool web: 1234 slots tracked"]
    assert done.after == ["pool dns: 3 slots tracked", "pool web: 2 slots tracked"]
    assert done.data["settled"]["web"] == {"before": 1234, "after": 2, "busy": 2}
    assert done.notes == ["pool web: 2 slots stay tracked for flows on other backends"]
    assert not outcome([Settled("dns", 3, 3, 0)]).changed


# --- what is remembered of rings ---


class Watched(Node):
    """Notes which rings are read."""

    def ring(self, pool: int) -> Slots | None:
        self.__dict__.setdefault("read", []).append(pool)
        return super().ring(pool)


def test_rings_are_read_again_only_when_one_is_new_or_old_enough() -> None:
    node, memory = Watched(), {}
    node.pool(0, "settled", ring(A, 0, 0))
    young = ring(A, B, NOW - 3)
    young.tracked[5] = NOW - 7
    node.pool(1, "young", young)

    def read_at(now: int) -> list[int]:
        node.__dict__["read"] = []
        expected = settle(copy.deepcopy(node), now, dry=True, flows=Flows())
        assert settle(node, now, flows=Flows(), memory=memory) == expected
        return list(node.__dict__["read"])

    assert read_at(NOW) == [0, 1]
    assert read_at(NOW + 1) == []
    node.put_ring(0, ring(B, A, NOW))
    assert read_at(NOW + 2) == [0]
    due = NOW - 7 + SETTLE + 2
    assert read_at(due - 1) == []
    assert read_at(due) == [1]
    assert node.rings[1].tracked_count() == SIZE - 1
    del node.pools[0]
    read_at(due)
    assert set(memory) == {1}
