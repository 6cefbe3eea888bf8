# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not ours is passed byte for byte, whatever it is."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from .node import NODE4, NODE6, NODE_MAC, VIP4, VIP6, XDP_PASS, Node, frame, from_client

FOREIGN = {
    "ARP": Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=NODE4),
    "LLDP": Ether(dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(50)),
    "neighbour solicitation": frame(IPv6(dst=NODE6) / ICMPv6ND_NS(tgt=NODE6)),
    "unknown ethertype": Ether(dst=NODE_MAC, type=0x1234) / Raw(bytes(50)),
    "tagged frame": Ether(dst=NODE_MAC) / Dot1Q(vlan=7) / IP(dst=VIP4) / TCP(dport=80),
    "the node's BGP": frame(IP(dst=NODE4) / TCP(dport=179)),
    "the node's SSH over IPv6": frame(IPv6(dst=NODE6) / TCP(dport=22)),
    "the node's DNS answer": frame(IP(dst=NODE4) / UDP(sport=53, dport=40000)),
    "other port": from_client(TCP(dport=81)),
    "other protocol": from_client(ICMP()),
    "a later fragment": from_client(Raw(bytes(40)), frag=100, proto=17),
    "a first fragment": from_client(UDP(dport=80), flags="MF"),
    "an IPv6 fragment": frame(IPv6(dst=VIP6) / IPv6ExtHdrFragment(m=1) / UDP(dport=80)),
    "a lying version": from_client(UDP(dport=80), version=5),
    "a header longer than the packet": from_client(Raw(b""), ihl=15, len=20, proto=17),
}


@pytest.mark.parametrize("packet", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_frame_is_passed_untouched(node: Node, packet: Packet) -> None:
    node.serve("192.0.2.71")
    assert node.run(packet) == (XDP_PASS, bytes(packet))
    assert node.tables.verdicts()["pass_foreign"]["packets"] == 1


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("transport", [TCP(dport=80), UDP(dport=80)])
def test_frame_cut_at_any_byte_is_passed_untouched(
    node: Node, transport: Packet, ipv6: bool
) -> None:
    node.serve("192.0.2.71")
    whole = bytes(from_client(transport, ipv6=ipv6))
    for length in range(14, len(whole)):  # the kernel runs nothing on less than an Ethernet header
        assert node.run(whole[:length]) == (XDP_PASS, whole[:length])
