# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fragments follow the first of their datagram, and nobody reads ports out of payload."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings

from .expect import REAL4, dropped, judge, sent
from .node import Node, from_client

BACKENDS = [f"192.0.2.{i}" for i in range(70, 90)]
PAYLOAD = bytes(UDP(sport=9, dport=80)) * 3


def first(transport: Packet, number: int, ipv6: bool = False, **fields: str) -> Packet:
    if ipv6:
        return from_client(IPv6ExtHdrFragment(id=number, m=1) / transport, ipv6=True, **fields)
    return from_client(transport, id=number, flags="MF", **fields)


def later(
    number: int, ipv6: bool = False, protocol: int = 17, offset: int = 185, **fields: str
) -> Packet:
    if ipv6:
        header = IPv6ExtHdrFragment(id=number, offset=offset, nh=protocol)
        return from_client(header / Raw(PAYLOAD), ipv6=True, **fields)
    return from_client(Raw(PAYLOAD), id=number, frag=offset, proto=protocol, **fields)


@pytest.mark.parametrize("ipv6", [False, True])
def test_later_fragments_follow_the_first(node: Node, ipv6: bool) -> None:
    node.serve(*BACKENDS)
    followed = set()
    for port in range(4000, 4040):
        whole = from_client(UDP(sport=port, dport=80), ipv6=ipv6)
        backend = node.backend_of(whole)
        begin = first(UDP(sport=port, dport=80) / Raw(bytes(16)), port, ipv6)
        assert judge(node, begin) == sent(begin, backend)
        for offset in (1, 185, 8191):
            rest = later(port, ipv6, offset=offset)
            assert judge(node, rest) == sent(rest, backend)
        followed.add(backend)
    assert len(followed) > 5


def test_later_fragment_has_the_flow_label_of_the_first(node: Node) -> None:
    node.serve("2001:db8:2::71")
    _action, begun = node.run(first(UDP(sport=4000, dport=80), 7))
    _action, followed = node.run(later(7))
    assert followed[14:18] == begun[14:18] != b"\x60\x00\x00\x00"


OTHERS = {
    "id": later(8),
    "source": later(7, src="198.51.100.3"),
    "protocol": later(7, protocol=6),  # over IPv6 it tells nothing: RFC 8200, 4.5
    "id over IPv6": later(8, ipv6=True),
    "source over IPv6": later(7, ipv6=True, src="2001:db8:3::3"),
}


@pytest.mark.parametrize("rest", OTHERS.values(), ids=OTHERS.keys())
def test_fragment_of_another_datagram_is_dropped(node: Node, rest: Packet) -> None:
    node.serve(REAL4)
    for ipv6 in (False, True):
        node.run(first(UDP(sport=4000, dport=80), 7, ipv6))
    assert judge(node, rest) == dropped(rest, "drop_fragment")


@pytest.mark.parametrize("ipv6", [False, True])
def test_fragment_without_a_first_is_dropped(node: Node, ipv6: bool) -> None:
    node.serve(REAL4)
    rest = later(7, ipv6)
    assert judge(node, rest) == dropped(rest, "drop_fragment")


def test_new_datagram_with_an_old_id_goes_its_own_way(node: Node) -> None:
    node.serve(*BACKENDS)
    for port in range(4000, 4020):
        backend = node.backend_of(first(UDP(sport=port, dport=80), 7))
        assert node.backend_of(later(7)) == backend


def test_first_fragment_not_seen_for_half_a_minute_is_forgotten(node: Node) -> None:
    node.serve(REAL4)
    node.run(first(UDP(sport=4000, dport=80), 7))
    assert len(node.tables.named_by_flows()) == 1  # the index must not be another's meanwhile
    table = node.tables.table("fragments")
    for key, leaf in table.items():
        leaf.seen -= _rings.ticks(32)
        table[key] = leaf
    assert node.tables.named_by_flows() == set()
    assert judge(node, later(7)) == dropped(later(7), "drop_fragment")


def test_fragments_of_a_dead_backend_are_dropped(node: Node) -> None:
    node.serve(REAL4)
    node.run(first(UDP(sport=4000, dport=80), 7))
    node.serve("192.0.2.72")
    assert judge(node, later(7)) == dropped(later(7), "drop_fragment")


def test_first_tcp_fragment_without_its_whole_header_is_dropped(node: Node) -> None:
    node.serve(REAL4)
    packet = first(Raw(bytes(TCP(dport=80))[:8]), 7, proto=6)
    assert judge(node, packet) == dropped(packet, "drop_malformed")


def test_first_fragment_to_no_port_of_a_service_is_not_remembered(node: Node) -> None:
    node.serve(REAL4)
    packet = first(UDP(dport=81), 7)
    assert judge(node, packet) == dropped(packet, "drop_unserved")
    assert judge(node, later(7)) == dropped(later(7), "drop_fragment")


@pytest.mark.parametrize("ipv6", [False, True])
def test_fragments_of_icmp_are_dropped(node: Node, ipv6: bool) -> None:
    node.serve(REAL4)
    echo = ICMPv6EchoRequest() if ipv6 else ICMP()
    packet = first(echo / Raw(bytes(64)), 7, ipv6)
    assert judge(node, packet) == dropped(packet, "drop_fragment")
    rest = later(7, ipv6, protocol=58 if ipv6 else 1)
    assert judge(node, rest) == dropped(rest, "drop_fragment")


def test_options_before_and_behind_a_fragment_header(node: Node) -> None:
    node.serve(REAL4)
    options = IPv6ExtHdrDestOpt()
    begin = from_client(
        options / IPv6ExtHdrFragment(id=7, m=1) / options.copy() / UDP(dport=80), ipv6=True
    )
    rest = from_client(
        options.copy() / IPv6ExtHdrFragment(id=7, offset=9, nh=60) / Raw(PAYLOAD), ipv6=True
    )
    assert judge(node, begin) == sent(begin)
    assert judge(node, rest) == sent(rest)


def test_whole_packets_leave_no_record(node: Node) -> None:
    node.serve(REAL4)
    node.run(from_client(UDP(dport=80)))
    node.run(from_client(IPv6ExtHdrFragment(id=7) / UDP(dport=80), ipv6=True))
    assert len(node.tables.table("fragments")) == 0
