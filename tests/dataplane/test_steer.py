# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ring that remembers, in the real program: docs/steering.md, step by step and under random
changes.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import TCP, UDP

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import flow_hash, slot
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import BackendEntry
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import now_tick

from .flows import PORTS, A, B, C, ack, age, ring, syn, udp
from .node import CLIENT4, VIP4, VIP6, Node, from_client


def moved_port(node: Node, before: str, after: str, send=ack) -> int:
    """A port whose flow was on `before` and whose new flows would go to `after`."""
    for port in PORTS:
        number = slot(
            flow_hash(node.hash_seed, CLIENT4, VIP4, protocol(send), port, 80), node.sizes.ring
        )
        backends = node.tables.actual().backends
        slots = ring(node)
        if slots.tracked[number] and (
            backends[slots.previous[number]].address,
            backends[slots.current[number]].address,
        ) == (before, after):
            return port
    raise AssertionError(f"no port moved from {before} to {after}")


def protocol(send: object) -> int:
    return 17 if send is udp else 6


@pytest.mark.parametrize("ipv6", [False, True])
def test_settled_slots_leave_no_state(node: Node, ipv6: bool) -> None:
    node.serve(A, B)
    for port in PORTS:
        chosen = {node.backend_of(packet(port, ipv6)) for packet in (syn, ack, ack)}
        assert len(chosen) == 1
    assert node.flows() == {}


@pytest.mark.parametrize("ipv6", [False, True])
def test_c_and_python_agree_on_hash_and_slot(make_node: Callable[..., Node], ipv6: bool) -> None:
    """Every slot gets a backend of its own, so that the outer address tells the slot."""
    node = make_node()
    node.serve(A)
    size = node.sizes.ring
    for index in range(1, size + 1):
        backend = BackendEntry(0, f"198.51.100.{index}", 1, "active")
        node.tables.put_backend(index, backend, fresh=True)
    node.tables.put_ring(0, replace(Slots.empty(size), current=array("H", range(1, size + 1))))
    rng = random.Random(4242)
    for _packet in range(300):
        number, port = rng.choice((6, 17)), rng.randrange(1, 65536)
        source = address(rng, ipv6)
        transport = (TCP if number == 6 else UDP)(sport=port, dport=80)
        _verdict, out = node.run(from_client(transport, ipv6=ipv6, src=source))
        hashed = flow_hash(node.hash_seed, source, VIP6 if ipv6 else VIP4, number, port, 80)
        assert out[30:34] == bytes([198, 51, 100, 1 + slot(hashed, size)])


def address(rng: random.Random, ipv6: bool) -> str:
    if ipv6:
        return f"2001:db8:{rng.getrandbits(16):x}::{rng.getrandbits(16):x}"
    return f"198.51.{rng.getrandbits(8)}.{rng.getrandbits(8)}"


def test_old_flow_stays_and_new_flow_goes_to_the_new_backend(node: Node) -> None:
    node.serve(A, B)
    node.serve(A, B, C)
    port = moved_port(node, A, C)
    assert node.backend_of(ack(port)) == A
    assert node.flows() == {A: 1}
    assert node.backend_of(syn(port)) == C
    assert node.backend_of(ack(port)) == C
    assert node.flows() == {C: 1}


def test_recorded_flow_survives_the_next_change(node: Node) -> None:
    node.serve(A)
    node.serve(A, B)
    port = moved_port(node, A, B)
    node.backend_of(syn(port))
    node.serve(A, {"address": B, "state": "draining"})
    assert node.backend_of(ack(port)) == B
    assert node.backend_of(syn(port + 1)) == A


def test_previous_stays_through_a_second_change(node: Node) -> None:
    node.serve(A)
    node.serve(B, {"address": A, "state": "draining"})
    node.serve(C, {"address": A, "state": "draining"}, {"address": B, "state": "draining"})
    assert node.backend_of(ack(PORTS[0])) == A
    assert node.backend_of(syn(PORTS[1])) == C


def test_unknown_udp_flow_takes_previous_only_in_the_transition(node: Node) -> None:
    node.serve(A)
    node.serve({"address": A, "state": "draining"}, B, udp_transition=5)
    port = PORTS[0]
    assert node.backend_of(udp(port)) == A
    age(node, 7)
    assert node.backend_of(udp(port)) == A  # it was recorded meanwhile
    assert node.backend_of(udp(port + 1)) == B


@pytest.mark.parametrize("gone", [{"address": A, "state": "disabled"}, None])
def test_flows_of_a_dead_backend_move_at_once(node: Node, gone: dict[str, str] | None) -> None:
    node.serve(A)
    node.serve(A, B)
    port = moved_port(node, A, B)
    assert node.backend_of(ack(port)) == A
    node.serve(B, *([gone] if gone else []))
    assert node.backend_of(ack(port)) == B
    assert node.backend_of(ack(port + 1)) == B


def test_record_older_than_the_settle_time_is_not_believed(node: Node) -> None:
    """Its flow has ended; the same five-tuple may have begun again in the settled slot since."""
    node.serve(A)
    node.serve(A, B, settle=10, udp_transition=5)
    port = moved_port(node, A, B)
    node.backend_of(ack(port))
    table = node.tables.table("flows4")
    for key, leaf in table.items():
        leaf.seen -= _rings.ticks(12)
        table[key] = leaf
    node.tables.put_ring(0, replace(ring(node), previous=array("H", bytes(2 * node.sizes.ring))))
    assert node.backend_of(ack(port)) == B


@pytest.mark.parametrize("ahead", [1, 2])
def test_flow_seen_by_a_cpu_that_is_ticks_ahead_stays(node: Node, ahead: int) -> None:
    """Its record says B; without it the flow would count as older than the change, on A."""
    node.serve(A)
    node.serve(A, B)
    port = moved_port(node, A, B)
    assert node.backend_of(syn(port)) == B
    table = node.tables.table("flows4")
    ((key, leaf),) = table.items()
    leaf.seen = seen = now_tick() + ahead
    table[key] = leaf
    assert node.backend_of(ack(port)) == B
    assert table[key].seen >= seen, "an earlier time was written"


def test_slot_tracked_since_a_tick_ahead_is_in_the_udp_transition(node: Node) -> None:
    node.serve(A)
    node.serve({"address": A, "state": "draining"}, B, udp_transition=5)
    slots = ring(node)
    ahead = array("I", (now_tick() + 2 if t else 0 for t in slots.tracked))
    node.tables.put_ring(0, replace(slots, tracked=ahead))
    assert node.backend_of(udp(PORTS[0])) == A


def test_flow_recorded_on_a_backend_whose_health_is_down_moves(node: Node) -> None:
    node.serve(A)
    node.serve(A, B)
    port = moved_port(node, A, B)
    node.backend_of(ack(port))
    index, entry = next((i, b) for i, b in node.tables.actual().backends.items() if b.address == A)
    node.tables.put_backend(index, replace(entry, health="down"), fresh=False)
    assert node.backend_of(ack(port)) == B


def test_tracking_always_records_settled_slots(node: Node) -> None:
    node.serve(A, tracking="always")
    node.backend_of(ack(PORTS[0]))
    assert node.flows() == {A: 1}


def test_tracking_never_ignores_what_a_slot_remembers(node: Node) -> None:
    node.serve(A, tracking="never")
    node.serve({"address": A, "state": "draining"}, B, tracking="never")
    assert node.backend_of(ack(PORTS[0])) == B
    assert node.flows() == {}


def test_settled_again_after_the_settle_time(node: Node) -> None:
    node.serve(A)
    node.serve({"address": A, "state": "draining"}, B)
    age(node, 12)
    node.tables.put_ring(0, _rings.settle(ring(node), now_tick(), _rings.ticks(10)))
    assert ring(node).tracked_count() == 0
    assert node.backend_of(ack(PORTS[0])) == B
    assert node.flows() == {}


@pytest.mark.parametrize("seed", range(3))
def test_no_connection_breaks_through_random_changes(node: Node, seed: int) -> None:
    """Additions, drains and weights: who began on a backend stays there, in tcp and udp, IPv4 and
    IPv6.
    """
    rng = random.Random(seed)
    members = {A: (100, "active"), B: (100, "active")}
    connections: dict[tuple[int, object, bool], str] = {}
    for step in range(12):
        begun = rng.sample(PORTS, 6)
        for port in begun:
            for first, then in ((syn, ack), (udp, udp)):
                for ipv6 in (False, True):
                    if step and (port, then, ipv6) not in connections:
                        connections[port, then, ipv6] = node.backend_of(first(port, ipv6))
        change(rng, members)
        node.serve(*({"address": a, "weight": w, "state": s} for a, (w, s) in members.items()))
        for (port, then, ipv6), backend in connections.items():
            assert node.backend_of(then(port, ipv6)) == backend, f"step {step}, port {port}"
    assert len(Counter(connections.values())) > 1


def change(rng: random.Random, members: dict[str, tuple[int, str]]) -> None:
    """One of the changes that must break nothing."""
    kind = rng.choice(("add", "drain", "weight", "return"))
    if kind == "add":
        members[f"192.0.2.{rng.randrange(64, 127)}"] = (100, "active")
        return
    name = rng.choice(sorted(members))
    weight, state = members[name]
    active = sum(1 for _weight, other in members.values() if other == "active")
    if kind == "drain" and active > 1:
        state = "draining"
    elif kind == "return":
        state = "active"
    else:
        weight = rng.randrange(1, 200)
    members[name] = (weight, state)


def test_removing_a_backend_moves_only_its_flows(node: Node) -> None:
    node.serve(A, B, C)
    before = {port: node.backend_of(syn(port)) for port in PORTS}
    node.serve(A, B)
    for port, backend in before.items():
        now = node.backend_of(ack(port))
        assert now == backend if backend != C else now in (A, B)


def test_without_memory_the_same_changes_break_connections(node: Node) -> None:
    """The test above can fail: a ring that does not remember breaks flows of living backends."""
    node.serve(A, B, tracking="never")
    before = {port: node.backend_of(syn(port)) for port in PORTS}
    node.serve(A, B, C, tracking="never")
    assert any(node.backend_of(ack(port)) != backend for port, backend in before.items())
