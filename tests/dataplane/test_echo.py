# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Echo requests to a service's address are answered by the node, with checksums that verify."""

from __future__ import annotations

import random

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from .expect import REAL4, Judged, dropped, judge, passed
from .node import CLIENT4, CLIENT6, NODE_MAC, ROUTER_MAC, VIP4, VIP6, XDP_TX, Node, from_client

BACK = Ether(dst=ROUTER_MAC, src=NODE_MAC)


def answered(packet: Packet) -> Judged:
    return Judged(XDP_TX, bytes(packet), "answered_echo")


@pytest.mark.parametrize("size", [0, 1, 56, 1400])
@pytest.mark.parametrize("ttl", [1, 64, 255])
def test_echo_is_answered(node: Node, ttl: int, size: int) -> None:
    node.serve(REAL4)
    payload = Raw(random.Random(size).randbytes(size))
    packet = from_client(ICMP(id=5, seq=6) / payload, ttl=ttl, tos=0xB8, id=77, flags="DF")
    reply = IP(src=VIP4, dst=CLIENT4, ttl=64, tos=0xB8, id=77, flags="DF")
    expected = BACK / reply / ICMP(type=0, id=5, seq=6) / payload
    assert judge(node, packet) == answered(expected)


@pytest.mark.parametrize("size", [0, 1, 56, 1400])
@pytest.mark.parametrize("hop_limit", [1, 64, 255])
def test_echo_is_answered_over_ipv6(node: Node, hop_limit: int, size: int) -> None:
    node.serve(REAL4)
    payload = random.Random(size).randbytes(size)
    request = ICMPv6EchoRequest(id=5, seq=6, data=payload)
    packet = from_client(request, ipv6=True, hlim=hop_limit, tc=0xB8, fl=99)
    reply = IPv6(src=VIP6, dst=CLIENT6, hlim=64, tc=0xB8, fl=99)
    expected = BACK / reply / ICMPv6EchoReply(id=5, seq=6, data=payload)
    assert judge(node, packet) == answered(expected)


def test_echo_with_options_and_padding(node: Node) -> None:
    node.serve(REAL4)
    packet = bytes(from_client(ICMP(), options=b"\x94\x04\x00\x00")) + bytes(14)
    reply = IP(src=VIP4, dst=CLIENT4, options=b"\x94\x04\x00\x00") / ICMP(type=0)
    assert judge(node, packet) == answered(bytes(BACK / reply) + bytes(14))


def test_echo_behind_extension_headers(node: Node) -> None:
    node.serve(REAL4)
    packet = from_client(IPv6ExtHdrDestOpt() / ICMPv6EchoRequest(id=3), ipv6=True)
    reply = IPv6(src=VIP6, dst=CLIENT6) / IPv6ExtHdrDestOpt() / ICMPv6EchoReply(id=3)
    assert judge(node, packet) == answered(BACK / reply)


def test_checksum_verifies_for_every_sum(node: Node) -> None:
    """Every value that the request's checksum can have, the ends of the arithmetic among them."""
    node.serve(REAL4)
    values = {*range(0, 0x10000, 251), 0, 1, 0xF7FE, 0xF7FF, 0xF800, 0xFFFE, 0xFFFF}
    for number in sorted(values):
        _action, out = node.run(from_client(ICMP(id=number, seq=0)))
        assert checksum(out[34:]) == 0, f"id {number:#x}"
        assert checksum(out[14:34]) == 0
        request = ICMPv6EchoRequest(id=number, seq=0)
        _action, out = node.run(from_client(request, ipv6=True))
        reply = IPv6(src=VIP6, dst=CLIENT6) / ICMPv6EchoReply(id=number, seq=0)
        pseudo = out[22:54] + len(out[54:]).to_bytes(4, "big") + (58).to_bytes(4, "big")
        assert checksum(pseudo + out[54:]) == 0, f"id {number:#x}"
        assert out[:56] == bytes(BACK / reply)[:56]


def test_checksum_of_a_header_verifies_for_every_ttl(node: Node) -> None:
    node.serve(REAL4)
    for ttl in range(256):
        for number in (0, 0x1234, 0xFFFF):
            _action, out = node.run(from_client(ICMP(), ttl=ttl, id=number))
            assert checksum(out[14:34]) == 0
            assert out[22] == 64


def test_wrong_checksum_stays_wrong(node: Node) -> None:
    node.serve(REAL4)
    _action, out = node.run(from_client(ICMP(chksum=0x1111)))
    assert checksum(out[34:]) != 0


GROUP = Ether(dst="01:00:5e:00:00:01", src=ROUTER_MAC)
UNANSWERED = {
    "no host's address": from_client(ICMP(), src="0.0.0.0"),
    "loopback": from_client(ICMP(), src="127.0.0.1"),
    "multicast": from_client(ICMP(), src="224.0.0.1"),
    "broadcast": from_client(ICMP(), src="255.255.255.255"),
    "unspecified": from_client(ICMPv6EchoRequest(), ipv6=True, src="::"),
    "loopback over IPv6": from_client(ICMPv6EchoRequest(), ipv6=True, src="::1"),
    "multicast over IPv6": from_client(ICMPv6EchoRequest(), ipv6=True, src="ff02::1"),
    "to an Ethernet group": GROUP / IP(src=CLIENT4, dst=VIP4) / ICMP(),
}


@pytest.mark.parametrize("packet", UNANSWERED.values(), ids=UNANSWERED.keys())
def test_echo_not_from_one_host_to_this_node_is_dropped(node: Node, packet: Packet) -> None:
    node.serve(REAL4)
    assert judge(node, packet) == dropped(packet, "drop_malformed")


def test_only_services_addresses_answer(node: Node) -> None:
    packet = from_client(ICMP())
    assert judge(node, packet) == passed(packet)
    node.serve(REAL4)
    assert judge(node, packet).verdict == "answered_echo"
    node.apply({}, [])
    assert judge(node, packet) == passed(packet)
