# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settling, with the real program and maps: flows that live stay, slots come to need no table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _flows, _lock, _rings, _settle
from ansible_collections.l4lb.xdp.plugins.module_utils._flows import Record
from ansible_collections.l4lb.xdp.plugins.module_utils._settle import (
    Settled,
    settle,
    settle_node,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import now_tick

from .flows import PORTS, A, B, ack, age, ring, syn, udp
from .node import SOURCE, Node
from .test_flows import write

SETTLE = 60
LONGER = SETTLE + 2


def change(node: Node, **pool: Any) -> None:
    """Every slot goes from A to B; A keeps its flows."""
    node.serve(A, settle=SETTLE, **pool)
    node.serve({"address": A, "state": "draining"}, B, settle=SETTLE, **pool)


def settle_now(node: Node, **options: Any) -> Settled:
    (pool,) = settle(node.tables, now_tick(), **options)
    return pool


def silence(node: Node, seconds: int) -> None:
    """Lets every recorded flow have sent its last packet that much earlier."""
    records = list(_flows.records(node.tables))
    write(
        node, [(*flow, backend, seen - _rings.ticks(seconds)) for *flow, backend, seen in records]
    )


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("packet", [ack, udp])
def test_a_flow_on_previous_keeps_its_slot_while_it_lives(
    node: Node, packet: Callable[..., Any], ipv6: bool
) -> None:
    change(node)
    old = PORTS[0]
    assert node.backend_of(packet(old, ipv6)) == A
    assert settle_now(node).after == node.sizes.ring  # nothing is old enough
    age(node, LONGER)
    assert settle_now(node) == Settled("web", node.sizes.ring, 1, 1)
    assert node.backend_of(packet(old, ipv6)) == A
    silence(node, LONGER)
    assert settle_now(node) == Settled("web", 1, 0, 0)
    assert node.backend_of(packet(old, ipv6)) == B


def test_settled_slots_ask_and_fill_no_table(node: Node) -> None:
    change(node)
    node.backend_of(ack(PORTS[0]))
    age(node, LONGER)
    silence(node, LONGER)
    settle_now(node)
    before = sorted(_flows.records(node.tables))
    assert [record[2] for record in before] == [PORTS[0]]
    for port in PORTS:
        assert {node.backend_of(packet(port)) for packet in (syn, ack, udp)} == {B}
    assert sorted(_flows.records(node.tables)) == before


def test_a_flow_begun_on_current_does_not_notice(node: Node) -> None:
    change(node)
    assert node.backend_of(syn(PORTS[0])) == B
    age(node, LONGER)
    assert settle_now(node).busy == 0
    assert node.backend_of(ack(PORTS[0])) == B


def test_the_next_change_of_a_settled_slot_protects_the_flows_of_now(node: Node) -> None:
    change(node)
    age(node, LONGER)
    settle_now(node)
    assert node.backend_of(syn(PORTS[0])) == B
    node.serve(A, {"address": B, "state": "draining"}, settle=SETTLE)
    assert node.backend_of(ack(PORTS[0])) == B
    assert node.backend_of(syn(PORTS[1])) == A


class Meanwhile:
    """The flow tables, with a packet that arrives when they have been read for the first time."""

    def __init__(self, arrive: Callable[[], object]) -> None:
        self.arrive: Callable[[], object] | None = arrive

    def records(self, tables: Any) -> Iterator[Record]:
        yield from _flows.records(tables)
        if self.arrive:
            self.arrive()
            self.arrive = None

    def forget(self, tables: Any, record: Record) -> None:
        _flows.forget(tables, record)


@pytest.mark.parametrize(("tracking", "left"), [("adaptive", {}), ("always", {A: 1})])
def test_a_stray_packet_meanwhile_leaves_no_record_behind(
    node: Node, tracking: str, left: dict[str, int]
) -> None:
    change(node, tracking=tracking)
    age(node, LONGER)
    arrived: list[str] = []
    flows = Meanwhile(lambda: arrived.append(node.backend_of(ack(PORTS[0]))))
    assert settle_now(node, flows=flows).after == 0
    assert arrived == [A]
    assert node.flows() == left


def test_settling_a_node_says_what_it_did_and_then_has_nothing_to_do(node: Node) -> None:
    change(node)
    node.backend_of(ack(PORTS[0]))
    age(node, LONGER)
    paths = node.pins, SOURCE, node.state_dir
    before = ring(node)
    dry = settle_node(*paths, dry=True)
    assert ring(node) == before
    done = settle_node(*paths)
    assert dry == done
    assert done.changed
    assert done.before == [f"pool web: {node.sizes.ring} slots tracked"]
    assert done.after == ["pool web: 1 slots tracked"]
    assert ring(node).tracked_count() == 1
    assert not settle_node(*paths).changed


def test_settling_waits_for_another_writer(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    change(node)
    age(node, LONGER)
    monkeypatch.setattr(_settle, "writer", partial(_lock.writer, patience=0.0))
    with _lock.writer(node.state_dir, "somebody"):
        settle_node(node.pins, SOURCE, node.state_dir, dry=True)
        with pytest.raises(_lock.LockError, match="somebody"):
            settle_node(node.pins, SOURCE, node.state_dir)
    assert ring(node).tracked_count() == node.sizes.ring
