# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flow tables read as a whole: what is there, all of it, each once."""

from __future__ import annotations

import ctypes as ct
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from scapy.layers.inet import TCP, UDP

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _flows, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._flows import Record
from ansible_collections.l4lb.xdp.plugins.module_utils._plan import PlanError
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import now_tick

from .node import CLIENT4, CLIENT6, SIZES, VIP4, VIP6, Node, from_client

A, B, C, D = "192.0.2.71", "192.0.2.72", "192.0.2.73", "192.0.2.74"


def drawn(number: int, ipv6: bool, seed: int = 1) -> list[Record]:
    """That many records of different flows."""
    draw = random.Random(seed)
    length = 16 if ipv6 else 4
    return [
        (
            draw.randbytes(length - 4) + i.to_bytes(4, "big"),
            draw.randbytes(length),
            draw.randrange(65536),
            draw.randrange(65536),
            draw.choice((6, 17)),
            draw.randrange(1, 65536),
            draw.randrange(1, 1 << 32),
        )
        for i in range(number)
    ]


def write(node: Node, records: Iterable[Record]) -> None:
    """Puts records into the tables, a field at a time as bcc names them."""
    for name, length in (("flows4", 4), ("flows6", 16)):
        family = [record for record in records if len(record[0]) == length]
        if not family:
            continue
        table = node.tables.table(name)
        keys, values = (table.Key * len(family))(), (table.Leaf * len(family))()
        for key, value, record in zip(keys, values, family):
            for field, raw in (("source", record[0]), ("destination", record[1])):
                place = ct.addressof(key) + getattr(table.Key, field).offset
                ct.memmove(place, raw, length)
            key.source_port, key.destination_port = map(socket.htons, record[2:4])
            key.protocol = record[4]
            value.backend, value.seen = record[5:]
        table.items_update_batch(keys, values)


def test_a_hundred_thousand_records_are_read_as_they_were_written(
    make_node: Callable[..., Node],
) -> None:
    node = make_node(sizes=Sizes(ring=251, services=8, pools=2, backends=8, flows=200_000))
    four, six = drawn(100_000, ipv6=False), drawn(10_000, ipv6=True)
    write(node, [*four, *six])
    assert sorted(_flows.records(node.tables)) == sorted([*four, *six])
    assert _flows.count(node.tables) == {"ipv4": 100_000, "ipv6": 10_000}
    assert _flows.named(node.tables) == {record[5] for record in [*four, *six]}
    assert node.tables.named_by_flows() == _flows.named(node.tables)


def test_empty_tables_hold_nothing(node: Node) -> None:
    assert list(_flows.records(node.tables)) == []
    assert _flows.count(node.tables) == {"ipv4": 0, "ipv6": 0}
    assert _flows.named(node.tables) == set()
    assert _flows.living_by_backend(node.tables, now_tick(), 10) == {}


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize(("transport", "protocol"), [(TCP, 6), (UDP, 17)])
def test_the_programs_own_record_is_read(
    node: Node, ipv6: bool, transport: type, protocol: int
) -> None:
    node.serve(A, tracking="always")
    before = now_tick()
    node.backend_of(from_client(transport(sport=40000, dport=80), ipv6=ipv6))
    ((*flow, backend, seen),) = _flows.records(node.tables)
    ends = (CLIENT6, VIP6) if ipv6 else (CLIENT4, VIP4)
    assert flow == [*map(packed, ends), 40000, 80, protocol]
    assert node.tables.actual().backends[backend].address == A
    assert before <= seen <= now_tick()


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_smaller_than_a_bucket_lose_nothing(
    node: Node, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(_bpf, "_BATCH", batch)
    written = drawn(2000, ipv6=False)
    write(node, written)
    assert sorted(_flows.records(node.tables)) == sorted(written)


def test_a_scan_sees_what_is_there_all_the_time_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile records are refreshed and deleted, and new ones come."""
    monkeypatch.setattr(_bpf, "_BATCH", 64)
    there, gone, new = (
        drawn(500, ipv6=False),
        drawn(500, ipv6=False, seed=2),
        drawn(500, ipv6=False, seed=3),
    )
    write(node, [*there, *gone])
    seen: Counter[tuple[bytes, ...]] = Counter()
    for i, record in enumerate(_flows.records(node.tables)):
        seen[record[:5]] += 1
        write(node, [(*there[i % 500][:5], 7, i), *new[i : i + 1]])
        if i < 500:
            _flows.forget(node.tables, gone[i])
    assert max(seen.values()) == 1
    assert {record[:5] for record in there} <= set(seen)
    assert set(seen) <= {record[:5] for record in [*there, *gone, *new]}


def test_living_flows_are_counted_by_backend(node: Node) -> None:
    now = 10_000
    ages = [(1, 0), (1, 100), (1, 101), (2, -1), (3, 5000)]
    flows = drawn(len(ages), ipv6=False)
    write(node, [(*f[:5], backend, now - age) for f, (backend, age) in zip(flows, ages)])
    write(node, [(*f[:5], 2, now) for f in drawn(3, ipv6=True)])
    assert _flows.living_by_backend(node.tables, now, 100) == {1: 2, 2: 4}


@pytest.mark.parametrize("ipv6", [False, True])
def test_a_record_can_be_forgotten(node: Node, ipv6: bool) -> None:
    written = drawn(3, ipv6=ipv6)
    write(node, written)
    _flows.forget(node.tables, written[1])
    _flows.forget(node.tables, written[1])
    assert sorted(_flows.records(node.tables)) == sorted([written[0], written[2]])


def test_an_index_waits_until_no_flow_names_it(make_node: Callable[..., Node]) -> None:
    node = make_node(sizes=Sizes(**{**vars(SIZES), "backends": 4}))
    node.serve(A, B, C)
    index = index_of(node, C)
    write(node, [(*drawn(1, ipv6=True)[0][:5], index, now_tick() - _rings.ticks(60))])
    node.serve(A, B)
    with pytest.raises(PlanError, match=f"map full: backend {D}"):
        node.serve(A, B, D)
    for record in _flows.records(node.tables):
        _flows.forget(node.tables, record)
    node.serve(A, B, D)
    assert index_of(node, D) == index


def index_of(node: Node, address: str) -> int:
    backends = node.tables.actual().backends
    return next(index for index, backend in backends.items() if backend.address == address)
