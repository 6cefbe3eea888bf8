# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lengths that lie, options, extension headers, padding: ports are read where they are, or not at
all.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.packet import Packet, Raw

from .expect import REAL4, dropped, judge, passed, sent
from .node import Node, from_client

MALFORMED = {
    "a lying version": from_client(UDP(dport=80), version=5),
    "version 6 in an IPv4 frame": from_client(UDP(dport=80), version=6),
    "a lying version over IPv6": from_client(UDP(dport=80), ipv6=True, version=4),
    "a header shorter than a header": from_client(UDP(dport=80), ihl=4),
    "a header longer than the packet": from_client(Raw(b""), ihl=15, len=20, proto=17),
    "a packet shorter than its header": from_client(UDP(dport=80), len=19),
    "a packet one byte longer than the frame": from_client(UDP(dport=80), len=29),
    "as much over IPv6": from_client(UDP(dport=80), ipv6=True, plen=9),
    "a payload of 64 KB over IPv6": from_client(UDP(dport=80), ipv6=True, plen=65535),
    "a TCP header cut by the packet's end": from_client(TCP(dport=80) / bytes(20), len=39),
    "a UDP header cut by the packet's end": from_client(UDP(dport=80) / bytes(20), len=27),
    "a TCP header cut over IPv6": from_client(TCP(dport=80) / bytes(20), ipv6=True, plen=19),
    "an extension header cut by the packet's end": from_client(
        IPv6ExtHdrDestOpt() / UDP(dport=80), ipv6=True, plen=7
    ),
    "an extension header longer than the packet": from_client(
        IPv6ExtHdrDestOpt(len=3) / UDP(dport=80), ipv6=True
    ),
}


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_lies_about_itself_is_dropped(node: Node, packet: Packet) -> None:
    node.serve(REAL4)
    assert judge(node, packet) == dropped(packet, "drop_malformed")


def test_bytes_of_a_length_that_lies_are_not_counted(node: Node) -> None:
    node.serve(REAL4)
    node.run(from_client(UDP(dport=80), len=60000))
    assert node.tables.verdicts()["drop_malformed"] == {"packets": 1, "bytes": 0}


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("transport", [TCP(dport=80), UDP(dport=80)])
def test_frame_cut_anywhere_is_dropped_once_it_has_the_address(
    node: Node, transport: Packet, ipv6: bool
) -> None:
    node.serve(REAL4)
    whole = bytes(from_client(transport, ipv6=ipv6))
    addressed = 14 + (40 if ipv6 else 20)
    for length in range(14, len(whole)):
        cut = whole[:length]
        expected = dropped(cut, "drop_malformed") if length >= addressed else passed(cut)
        assert judge(node, cut) == expected


@pytest.mark.parametrize("size", [4, 20, 40])
def test_ports_are_found_behind_ip_options(node: Node, size: int) -> None:
    node.serve(REAL4)
    options = b"\x94\x04\x00\x00".ljust(size, b"\x01")
    packet = from_client(TCP(sport=4000, dport=80), options=options)
    assert judge(node, packet) == sent(packet)


def test_options_that_look_like_ports_are_not_read_as_such(node: Node) -> None:
    node.serve(REAL4)
    packet = from_client(TCP(sport=4000, dport=81), options=b"\x01\x01\x00\x50")
    assert judge(node, packet) == dropped(packet, "drop_unserved")


HEADERS = {
    "hop-by-hop": IPv6ExtHdrHopByHop(),
    "destination options": IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(50))]),
    "the longest": IPv6ExtHdrDestOpt(
        len=63, options=[PadN(optdata=bytes(253)), PadN(optdata=bytes(253))]
    ),
    "routing": IPv6ExtHdrRouting(addresses=["2001:db8::1"]),
    "fragment that is none": IPv6ExtHdrFragment(id=7),
    "all kinds": IPv6ExtHdrHopByHop()
    / IPv6ExtHdrDestOpt()
    / IPv6ExtHdrRouting()
    / IPv6ExtHdrFragment(id=7)
    / IPv6ExtHdrDestOpt(),
}


@pytest.mark.parametrize("transport", [TCP(sport=4000, dport=80), UDP(sport=4000, dport=80)])
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
def test_ports_are_found_behind_extension_headers(
    node: Node, headers: Packet, transport: Packet
) -> None:
    node.serve(REAL4)
    packet = from_client(headers.copy() / transport, ipv6=True)
    assert judge(node, packet) == sent(packet)


def test_extension_headers_do_not_change_the_flow(node: Node) -> None:
    node.serve(*(f"192.0.2.{i}" for i in range(70, 90)))
    for port in range(4000, 4020):
        plain = from_client(UDP(sport=port, dport=80), ipv6=True)
        dressed = from_client(IPv6ExtHdrDestOpt() / UDP(sport=port, dport=80), ipv6=True)
        assert node.backend_of(plain) == node.backend_of(dressed)


def test_more_extension_headers_than_there_are_kinds_are_not_followed(node: Node) -> None:
    node.serve(REAL4)
    options = IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt()
    three = from_client(options / UDP(dport=80), ipv6=True)
    four = from_client(IPv6ExtHdrHopByHop() / options / UDP(dport=80), ipv6=True)
    assert judge(node, three) == sent(three)
    assert judge(node, four) == dropped(four, "drop_unserved")


@pytest.mark.parametrize("ipv6", [False, True])
def test_padding_is_carried_but_not_counted(node: Node, ipv6: bool) -> None:
    node.serve(REAL4)
    packet = from_client(UDP(sport=4000, dport=80), ipv6=ipv6)
    judged = judge(node, bytes(packet) + bytes(18))
    assert judged == sent(packet, padding=bytes(18))
    assert node.tables.verdicts()["sent"]["bytes"] == len(packet.payload)


def test_ports_are_not_read_from_padding(node: Node) -> None:
    node.serve(REAL4)
    padding = bytes(TCP(sport=4000, dport=80))
    packet = bytes(from_client(Raw(b""), proto=6)) + padding
    assert judge(node, packet) == dropped(packet, "drop_malformed")
    assert IP(packet[14:34]).len == 20
