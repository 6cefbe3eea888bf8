# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's options: what is for none of an address' services, and who answers echo requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6ExtHdrDestOpt
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _flows, _program
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import flow_hash, slot

from .expect import REAL4, REAL6, Judged, dropped, judge, outer4, outer6, passed, sent
from .node import CLIENT4, CLIENT6, VIP4, VIP6, XDP_PASS, Node, from_client
from .test_explain import check, explainer
from .test_steer import A, B, ring

MakeNode = Callable[..., Node]

UNSERVED = {
    "another port": from_client(TCP(sport=4000, dport=81)),
    "another port over IPv6": from_client(UDP(sport=4000, dport=81), ipv6=True),
    "another protocol": from_client(Raw(bytes(20)), proto=132),
    "another protocol over IPv6": from_client(Raw(bytes(20)), ipv6=True, nh=47),
    "another kind of ICMP": from_client(ICMP(type=13)),
    "an echo reply": from_client(ICMPv6EchoReply(), ipv6=True),
}


def let_through(packet: Packet) -> Judged:
    return Judged(XDP_PASS, bytes(packet), "pass_unserved")


@pytest.fixture
def open_node(make_node: MakeNode) -> Node:
    node = make_node(other_ports="pass", echo="pass")
    node.serve(REAL4)
    return node


@pytest.mark.parametrize("packet", UNSERVED.values(), ids=UNSERVED.keys())
def test_unserved_packet_is_dropped_unless_told(node: Node, packet: Packet) -> None:
    node.serve(REAL4)
    assert judge(node, packet) == dropped(packet, "drop_unserved")


def test_what_is_unserved_passes_and_nothing_else(open_node: Node) -> None:
    for packet in UNSERVED.values():
        assert judge(open_node, packet) == let_through(packet)
    served = from_client(UDP(sport=4000, dport=80))
    assert judge(open_node, served) == sent(served)
    foreign = from_client(UDP(dport=81), dst="203.0.113.99")
    assert judge(open_node, foreign) == passed(foreign)
    lying = from_client(UDP(dport=81), len=19)
    assert judge(open_node, lying) == dropped(lying, "drop_malformed")
    about = from_client(ICMP(type=3) / IP(src=VIP4, dst=CLIENT4) / UDP(sport=81, dport=4000))
    assert judge(open_node, about) == dropped(about, "drop_icmp_error")


# --- echo ---

ECHO4 = from_client(ICMP(id=5, seq=6) / Raw(b"payload"), tos=0xB8)
ECHO6 = from_client(ICMPv6EchoRequest(id=5, seq=6, data=b"payload"), ipv6=True, tc=0xB8)


@pytest.mark.parametrize("packet", [ECHO4, ECHO6], ids=["IPv4", "IPv6"])
def test_echo_is_passed_when_told(open_node: Node, packet: Packet) -> None:
    assert judge(open_node, packet) == let_through(packet)


def test_options_do_not_depend_on_each_other(make_node: MakeNode) -> None:
    node = make_node(echo="pass")
    node.serve(REAL4)
    packet = UNSERVED["another port"]
    assert judge(node, packet) == dropped(packet, "drop_unserved")
    assert judge(node, ECHO4) == let_through(ECHO4)


@pytest.fixture
def forwarding(make_node: MakeNode) -> Node:
    return make_node(echo="forward")


def label(node: Node, source: str, destination: str, protocol: int) -> int:
    return flow_hash(node.hash_seed, source, destination, protocol, 0, 0) & 0xFFFFF


def test_echo_is_forwarded_unchanged_when_told(forwarding: Node) -> None:
    forwarding.serve(REAL4)
    padded = bytes(ECHO4) + bytes(9)
    assert judge(forwarding, ECHO4) == sent(ECHO4)
    assert judge(forwarding, padded) == sent(ECHO4, padding=bytes(9))
    assert judge(forwarding, ECHO6)[:2] == (3, bytes(outer4(ECHO6.payload)))
    behind = from_client(IPv6ExtHdrDestOpt() / ICMPv6EchoRequest(id=3), ipv6=True)
    assert judge(forwarding, behind)[:2] == (3, bytes(outer4(behind.payload)))
    forwarding.serve(REAL6)
    shown = label(forwarding, CLIENT4, VIP4, 1)
    assert judge(forwarding, ECHO4)[:2] == (3, bytes(outer6(ECHO4.payload, REAL6, shown)))
    shown = label(forwarding, CLIENT6, VIP6, 58)
    assert judge(forwarding, ECHO6)[:2] == (3, bytes(outer6(ECHO6.payload, REAL6, shown)))


def test_forwarded_echo_counts_for_the_first_service(forwarding: Node) -> None:
    forwarding.serve(REAL4)
    first = next(s.id for s in forwarding.tables.actual().services.values() if s.name == "tcp0")
    judge(forwarding, ECHO4)
    counts = forwarding.tables.service_counters()[first]
    assert counts == {"packets": 1, "bytes": 35, "opens": 0}


def test_forwarded_echo_follows_the_ring_and_leaves_no_record(forwarding: Node) -> None:
    """Tracked slots too: a flow that is not one has no past."""
    forwarding.serve(A, tracking="always")
    forwarding.serve(A, B, tracking="always")
    slots, backends = ring(forwarding), forwarding.tables.actual().backends
    met = set()
    for last in range(1, 60):
        source = f"198.51.100.{last}"
        number = slot(flow_hash(forwarding.hash_seed, source, VIP4, 1, 0, 0), len(slots))
        expected = backends[slots.current[number]].address
        assert forwarding.backend_of(from_client(ICMP(), src=source)) == expected
        met.add((expected, bool(slots.tracked[number])))
    assert (B, True) in met
    assert (A, False) in met
    assert list(_flows.records(forwarding.tables)) == []


def test_address_whose_first_service_goes_follows_the_next(forwarding: Node) -> None:
    pools = {name: {"backends": [{"address": at}]} for name, at in (("a", A), ("b", B))}
    service = {"address": VIP4, "port": 80}
    both = [
        {**service, "name": "udp", "protocol": "udp", "pool": "b"},
        {**service, "name": "tcp", "protocol": "tcp", "pool": "a"},
    ]
    forwarding.apply(pools, both)
    assert forwarding.backend_of(ECHO4) == A
    forwarding.apply({"b": pools["b"]}, both[:1])
    assert forwarding.backend_of(ECHO4) == B
    assert not forwarding.apply({"b": pools["b"]}, both[:1]).changed


def test_forwarded_echo_meets_what_packets_meet(forwarding: Node) -> None:
    forwarding.serve()
    assert judge(forwarding, ECHO4) == dropped(ECHO4, "drop_no_backend")
    forwarding.serve(REAL4)
    big = from_client(ICMP() / Raw(bytes(1460)))
    assert judge(forwarding, big).verdict == "answered_too_big"
    other = from_client(ICMP(), dst="203.0.113.99")
    assert judge(forwarding, other) == passed(other)
    fragment = from_client(ICMP() / Raw(bytes(8)), flags="MF")
    assert judge(forwarding, fragment) == dropped(fragment, "drop_fragment")


# --- said and known ---


@pytest.mark.parametrize(
    ("other_ports", "echo"), [("drop", "answer"), ("pass", "pass"), ("drop", "forward")]
)
def test_explained_as_it_is(make_node: MakeNode, other_ports: str, echo: str) -> None:
    node = make_node(other_ports=other_ports, echo=echo)
    assert node.tables.settings()["other_ports"] == other_ports
    assert node.tables.settings()["echo"] == echo
    node.serve(A, B)
    node.serve(A, B, "192.0.2.130")
    ask = explainer(node)
    for packet in packets():
        assert check(node, ask, packet)["why"]
    node.serve()
    for packet in packets():
        check(node, ask, packet)


def packets() -> Iterator[Any]:
    for last in range(1, 30):
        yield from_client(ICMP(), src=f"198.51.100.{last}")
        yield from_client(TCP(sport=last, dport=81))
        yield from_client(UDP(sport=last, dport=80))


def test_another_option_is_written_at_once(make_node: MakeNode) -> None:
    node = make_node()
    node.serve(REAL4)
    packet = UNSERVED["another port"]
    assert judge(node, packet) == dropped(packet, "drop_unserved")
    assert _program.prepare(node.wanted(other_ports="pass")).changed
    assert judge(node, packet) == let_through(packet)
    assert not _program.prepare(node.wanted(other_ports="pass")).changed
