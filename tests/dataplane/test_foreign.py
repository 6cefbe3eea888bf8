# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not ours is passed byte for byte, whatever it is; what is ours and not wanted is not."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

from .expect import dropped, judge, passed
from .node import CLIENT4, NODE4, NODE6, NODE_MAC, ROUTER_MAC, VIP4, VIP6, Node, frame, from_client

OTHER4, OTHER6 = "203.0.113.99", "2001:db8:100::99"
TAGGED = Ether(dst=NODE_MAC, src=ROUTER_MAC)

FOREIGN = {
    "ARP": Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=NODE4),
    "ARP for a service's address": Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=VIP4),
    "LLDP": Ether(dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(50)),
    "neighbour solicitation": frame(IPv6(dst="ff02::1:ff00:10") / ICMPv6ND_NS(tgt=VIP6)),
    "solicitation to a service's address": frame(IPv6(dst=VIP6) / ICMPv6ND_NS(tgt=VIP6)),
    "advertisement to a service's address": frame(IPv6(dst=VIP6) / ICMPv6ND_NA(tgt=NODE6)),
    "multicast listener report": frame(
        IPv6(dst="ff02::16") / IPv6ExtHdrHopByHop() / ICMPv6MLReport2()
    ),
    "unknown ethertype": Ether(dst=NODE_MAC, type=0x1234) / Raw(bytes(50)),
    "tagged frame": TAGGED / Dot1Q(vlan=7) / IP(dst=OTHER4) / TCP(dport=80),
    "three tags": TAGGED / Dot1AD() / Dot1Q() / Dot1Q() / IP(dst=VIP4) / TCP(dport=80),
    "a tag and no more": TAGGED / Raw(b"\0\7\x81\0"),
    "the node's BGP": frame(IP(dst=NODE4) / TCP(dport=179)),
    "the node's SSH over IPv6": frame(IPv6(dst=NODE6) / TCP(dport=22)),
    "the node's DNS answer": frame(IP(dst=NODE4) / UDP(sport=53, dport=40000)),
    "another address's echo": frame(IP(dst=OTHER4) / ICMP()),
    "another address's echo over IPv6": frame(IPv6(dst=OTHER6) / ICMPv6EchoRequest()),
    "an ICMP error to the node": frame(
        IP(dst=NODE4) / ICMP(type=3, code=4) / IP(src=VIP4, dst=CLIENT4) / TCP(sport=80)
    ),
    "a later fragment": frame(IP(dst=OTHER4, frag=100, proto=17) / Raw(bytes(40))),
    "a first fragment": frame(IP(dst=OTHER4, flags="MF") / UDP(dport=80)),
    "an IPv6 fragment": frame(IPv6(dst=OTHER6) / IPv6ExtHdrFragment(m=1) / UDP(dport=80)),
    "IP options": frame(IP(dst=OTHER4, options=b"\x94\x04\x00\x00") / UDP(dport=80)),
    "a lying version": frame(IP(dst=OTHER4, version=5) / UDP(dport=80)),
    "a lying version over IPv6": frame(IPv6(dst=OTHER6, version=4) / UDP(dport=80)),
    "a header longer than the packet": frame(IP(dst=OTHER4, ihl=15, len=20, proto=17)),
    "a packet longer than the frame": frame(IP(dst=OTHER4, len=1000) / UDP(dport=80)),
    "another protocol": frame(IP(dst=OTHER4) / GRE()),
}


@pytest.mark.parametrize("packet", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_frame_is_passed_untouched(node: Node, packet: Packet) -> None:
    node.serve("192.0.2.71")
    assert judge(node, packet) == passed(packet)


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("transport", [TCP(dport=80), UDP(dport=80), ICMP(), ICMPv6EchoRequest()])
def test_foreign_frame_cut_at_any_byte_is_passed_untouched(
    node: Node, transport: Packet, ipv6: bool
) -> None:
    node.serve("192.0.2.71")
    whole = bytes(from_client(transport, ipv6=ipv6, dst=OTHER6 if ipv6 else OTHER4))
    for length in range(14, len(whole)):  # the kernel runs nothing on less than an Ethernet header
        assert judge(node, whole[:length]) == passed(whole[:length])


UNSERVED = {
    "other port": from_client(TCP(dport=81)),
    "other port, UDP, IPv6": from_client(UDP(dport=81), ipv6=True),
    "SCTP": from_client(SCTP(dport=80) / SCTPChunkInit()),
    "GRE": from_client(GRE()),
    "IP in IP": from_client(IP(dst=NODE4) / TCP(dport=80)),
    "an ICMP type that is none of ours": from_client(ICMP(type=13)),
    "ICMPv6 over IPv4": from_client(ICMPv6EchoRequest(), proto=58),
    "ICMP over IPv6": from_client(ICMP(), ipv6=True, nh=1),
    "an echo reply": from_client(ICMP(type=0)),
    "no next header": from_client(Raw(bytes(40)), ipv6=True, nh=59),
}


@pytest.mark.parametrize("packet", UNSERVED.values(), ids=UNSERVED.keys())
def test_what_no_service_wants_at_its_address_is_dropped(node: Node, packet: Packet) -> None:
    node.serve("192.0.2.71")
    assert judge(node, packet) == dropped(packet, "drop_unserved")


def test_addresses_are_services_as_long_as_a_service_has_them(node: Node) -> None:
    node.serve("192.0.2.71")
    assert set(node.tables.actual().addresses) == {VIP4, VIP6}
    pool = {"web": {"backends": [{"address": "192.0.2.71"}]}}
    one = {"name": "one", "address": VIP6, "port": 81, "protocol": "udp", "pool": "web"}
    node.apply(pool, [one])
    assert set(node.tables.actual().addresses) == {VIP6}
    four, six = from_client(TCP(dport=80)), from_client(TCP(dport=80), ipv6=True)
    assert judge(node, four) == passed(four)
    assert judge(node, six) == dropped(six, "drop_unserved")
