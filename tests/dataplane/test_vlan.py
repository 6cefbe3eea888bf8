# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""802.1Q and 802.1ad: a frame that goes back where it came from keeps its tags."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

from .expect import REAL4, REAL6, Judged, judge, label_of, outer4, outer6
from .node import (
    CLIENT4,
    FAR_MAC,
    NODE_MAC,
    NODE_MAC1,
    ROUTER_MAC,
    VIP4,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    Node,
    from_client,
)

TAGS = {
    "802.1Q": Dot1Q(vlan=7, prio=3),
    "priority alone": Dot1Q(vlan=0, prio=5),
    "802.1ad": Dot1AD(vlan=9),
    "QinQ": Dot1AD(vlan=9, prio=1) / Dot1Q(vlan=7),
    "802.1Q twice": Dot1Q(vlan=9) / Dot1Q(vlan=7),
}


def tagged(packet: Packet, tags: Packet) -> Packet:
    return Ether(dst=packet.dst, src=packet.src) / tags.copy() / packet.payload


@pytest.fixture(params=TAGS.values(), ids=TAGS.keys())
def tags(request: pytest.FixtureRequest) -> Packet:
    return request.param


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("transport", [TCP(sport=4000, dport=80), UDP(sport=4000, dport=80)])
def test_frame_goes_back_with_its_tags(
    node: Node, tags: Packet, transport: Packet, ipv6: bool
) -> None:
    node.serve(REAL4)
    packet = from_client(transport, ipv6=ipv6)
    expected = bytes(tagged(outer4(packet.payload), tags))
    assert judge(node, tagged(packet, tags)) == Judged(XDP_TX, expected, "sent")


def test_frame_to_an_ipv6_backend_goes_back_with_its_tags(node: Node, tags: Packet) -> None:
    node.serve(REAL6)
    packet = from_client(UDP(sport=4000, dport=80), ipv6=True)
    expected = bytes(tagged(outer6(packet.payload, REAL6, label_of(node, packet)), tags))
    assert judge(node, tagged(packet, tags)) == Judged(XDP_TX, expected, "sent")


def test_frame_to_another_interface_leaves_its_tags(node: Node, tags: Packet) -> None:
    node.serve("192.0.2.130")
    packet = from_client(UDP(sport=4000, dport=80))
    out = outer4(packet.payload, "192.0.2.130")
    out.dst, out.src = FAR_MAC, NODE_MAC1
    expected = Judged(XDP_REDIRECT, bytes(out), "redirected")
    assert judge(node, tagged(packet, tags)) == expected


def test_frame_left_to_the_kernel_keeps_its_tags(node: Node, tags: Packet) -> None:
    node.serve("192.0.2.33")
    packet = from_client(UDP(sport=4000, dport=80))
    out = outer4(packet.payload, "192.0.2.33")
    out.dst, out.src = NODE_MAC, ROUTER_MAC
    expected = Judged(XDP_PASS, bytes(tagged(out, tags)), "to_kernel")
    assert judge(node, tagged(packet, tags)) == expected


def test_echo_is_answered_with_its_tags(node: Node, tags: Packet) -> None:
    node.serve(REAL4)
    packet = from_client(ICMP(id=5, seq=6) / b"payload")
    reply = IP(src=VIP4, dst=CLIENT4, ttl=64) / ICMP(type=0, id=5, seq=6) / b"payload"
    expected = tagged(Ether(dst=ROUTER_MAC, src=NODE_MAC) / reply, tags)
    judged = judge(node, tagged(packet, tags))
    assert judged == Judged(XDP_TX, bytes(expected), "answered_echo")
