# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ICMP errors reach the backend of the flow they are about, whole, and leave no trace."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.packet import Packet, Raw

from .expect import REAL4, dropped, judge, sent
from .node import CLIENT4, CLIENT6, VIP4, VIP6, Node, from_client

ROUTER4, ROUTER6 = "198.51.100.99", "2001:db8:3::99"
BACKENDS = [f"192.0.2.{i}" for i in range(70, 90)]

ERRORS4 = {
    "port unreachable": ICMP(type=3, code=3),
    "fragmentation needed": ICMP(type=3, code=4, nexthopmtu=1400),
    "time exceeded": ICMP(type=11),
    "parameter problem": ICMP(type=12),
}
ERRORS6 = {
    "unreachable": ICMPv6DestUnreach(),
    "packet too big": ICMPv6PacketTooBig(mtu=1400),
    "hop limit exceeded": ICMPv6TimeExceeded(),
    "parameter problem": ICMPv6ParamProblem(),
}


def error(kind: Packet, embedded: Packet | bytes, keep: int | None = None) -> Packet:
    """An error from a router about a packet that a backend sent to the client; `keep` bytes of
    it.
    """
    raw = Raw(bytes(embedded)[:keep])
    if isinstance(kind, ICMP):
        return from_client(kind.copy() / raw, src=ROUTER4)
    return from_client(kind.copy() / raw, ipv6=True, src=ROUTER6, nh=58)


def reply(transport: Packet, ipv6: bool = False, **fields: object) -> Packet:
    """What a backend sends to the client."""
    if ipv6:
        return IPv6(**{"src": VIP6, "dst": CLIENT6, **fields}) / transport
    return IP(**{"src": VIP4, "dst": CLIENT4, **fields}) / transport


def both(kinds4: dict[str, Packet], kinds6: dict[str, Packet]) -> list[object]:
    named = [*kinds4.items(), *((f"{name} over IPv6", kind) for name, kind in kinds6.items())]
    return [pytest.param(kind, id=name) for name, kind in named]


@pytest.mark.parametrize("layer", [TCP, UDP])
@pytest.mark.parametrize("kind", both(ERRORS4, ERRORS6))
def test_error_follows_its_flow_unchanged(node: Node, kind: Packet, layer: type[Packet]) -> None:
    node.serve(*BACKENDS)
    ipv6 = not isinstance(kind, ICMP)
    followed = set()
    for port in range(4000, 4030):
        backend = node.backend_of(from_client(layer(sport=port, dport=80), ipv6=ipv6))
        packet = error(kind, reply(layer(sport=80, dport=port) / Raw(bytes(50)), ipv6))
        assert judge(node, packet) == sent(packet, backend)
        followed.add(backend)
    assert len(followed) > 5


@pytest.mark.parametrize("transport", [4, 8, 12, 20])
@pytest.mark.parametrize("kind", both(ERRORS4, ERRORS6))
def test_eight_bytes_of_transport_are_enough(node: Node, kind: Packet, transport: int) -> None:
    node.serve(REAL4)
    ipv6 = not isinstance(kind, ICMP)
    packet = error(kind, reply(TCP(sport=80), ipv6), (40 if ipv6 else 20) + transport)
    assert judge(node, packet) == sent(packet)


@pytest.mark.parametrize("ipv6", [False, True])
def test_error_cut_before_the_ports_is_dropped(node: Node, ipv6: bool) -> None:
    node.serve(REAL4)
    kind = ERRORS6["packet too big"] if ipv6 else ERRORS4["port unreachable"]
    for keep in range((40 if ipv6 else 20) + 4):
        packet = error(kind, reply(TCP(sport=80), ipv6), keep)
        assert judge(node, packet) == dropped(packet, "drop_icmp_error")
        padded = bytes(packet) + bytes(reply(TCP(sport=80), ipv6))[keep:]
        assert judge(node, padded) == dropped(padded, "drop_icmp_error")


def test_ports_of_an_embedded_packet_are_found_behind_its_options(node: Node) -> None:
    node.serve(*BACKENDS)
    backend = node.backend_of(from_client(TCP(sport=4000, dport=80)))
    for size in (4, 40):
        options = b"\x01" * size
        packet = error(ICMP(type=3), reply(TCP(sport=80, dport=4000), options=options), 28 + size)
        assert judge(node, packet) == sent(packet, backend)


@pytest.mark.parametrize(
    "headers",
    [
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(),
        IPv6ExtHdrFragment(id=7, m=1),
        IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=7) / IPv6ExtHdrDestOpt(),
    ],
)
def test_ports_of_an_embedded_packet_are_found_behind_its_extension_headers(
    node: Node, headers: Packet
) -> None:
    node.serve(*BACKENDS)
    backend = node.backend_of(from_client(UDP(sport=4000, dport=80), ipv6=True))
    embedded = reply(headers.copy() / UDP(sport=80, dport=4000), ipv6=True)
    packet = error(ICMPv6PacketTooBig(mtu=1400), embedded)
    assert judge(node, packet) == sent(packet, backend)


def test_extension_headers_of_the_error_itself_are_stepped_over(node: Node) -> None:
    node.serve(REAL4)
    embedded = Raw(bytes(reply(UDP(sport=80), ipv6=True)))
    packet = from_client(IPv6ExtHdrDestOpt(nh=58) / ICMPv6PacketTooBig() / embedded, ipv6=True)
    assert judge(node, packet) == sent(packet)


def test_error_about_a_first_fragment_follows_its_flow_and_leaves_no_record(node: Node) -> None:
    node.serve(REAL4)
    packet = error(ICMP(type=11), reply(UDP(sport=80), flags="MF", id=7))
    assert judge(node, packet) == sent(packet)
    packet = error(
        ICMPv6TimeExceeded(), reply(IPv6ExtHdrFragment(id=7, m=1) / UDP(sport=80), ipv6=True)
    )
    assert judge(node, packet) == sent(packet)
    assert len(node.tables.table("fragments")) == 0


PORTS = Raw(bytes(UDP(sport=80, dport=4000)))
UNKNOWN = {
    "a later fragment": error(ICMP(type=3), reply(PORTS, proto=17, frag=10)),
    "a later fragment over IPv6": error(
        ICMPv6PacketTooBig(), reply(IPv6ExtHdrFragment(offset=10, nh=17) / PORTS, ipv6=True)
    ),
    "another port": error(ICMP(type=3), reply(UDP(sport=81))),
    "another port over IPv6": error(ICMPv6DestUnreach(), reply(UDP(sport=81), ipv6=True)),
    "another protocol": error(ICMP(type=3), reply(ICMP())),
    "another address": error(ICMP(type=3), reply(UDP(sport=80), src="203.0.113.99")),
    "another address over IPv6": error(
        ICMPv6DestUnreach(), reply(UDP(sport=80), ipv6=True, src="2001:db8:100::99")
    ),
    "a header too short": error(ICMP(type=3), reply(UDP(sport=80), ihl=4)),
    "a lying version": error(ICMP(type=3), reply(UDP(sport=80), version=6)),
    "the other family": error(ICMP(type=3), reply(UDP(sport=80), ipv6=True)),
    "a client's packet": error(ICMP(type=3), IP(src=CLIENT4, dst=VIP4) / UDP(dport=80)),
}


@pytest.mark.parametrize("packet", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_error_about_no_flow_of_a_service_is_dropped(node: Node, packet: Packet) -> None:
    node.serve(REAL4)
    assert judge(node, packet) == dropped(packet, "drop_icmp_error")


@pytest.mark.parametrize("ipv6", [False, True])
def test_icmp_header_cut_by_the_packets_end_is_dropped(node: Node, ipv6: bool) -> None:
    node.serve(REAL4)
    packet = from_client(Raw(bytes(7)), ipv6=ipv6, **({"nh": 58} if ipv6 else {"proto": 1}))
    assert judge(node, packet) == dropped(packet, "drop_malformed")


@pytest.mark.parametrize("ipv6", [False, True])
def test_error_records_no_flow(node: Node, ipv6: bool) -> None:
    node.serve(REAL4, tracking="always")
    kind = ERRORS6["packet too big"] if ipv6 else ERRORS4["port unreachable"]
    node.run(error(kind, reply(TCP(sport=80, dport=4000), ipv6)))
    assert node.flows() == {}


def test_error_follows_a_recorded_flow_without_refreshing_it(node: Node) -> None:
    node.serve(REAL4, tracking="always")
    node.run(from_client(TCP(sport=4000, dport=80)))
    node.serve("192.0.2.72", {"address": REAL4, "state": "draining"}, tracking="always")
    table = node.tables.table("flows4")
    ((key, leaf),) = table.items()
    leaf.seen -= 5
    table[key] = leaf
    packet = error(ICMP(type=3, code=4), reply(TCP(sport=80, dport=4000)))
    assert judge(node, packet) == sent(packet)
    ((_key, after),) = table.items()
    assert after.seen == leaf.seen
    node.run(from_client(TCP(sport=4000, dport=80)))
    ((_key, after),) = table.items()
    assert after.seen > leaf.seen


def test_error_about_an_old_unrecorded_flow_goes_to_the_previous_backend(node: Node) -> None:
    node.serve(REAL4)
    node.serve("192.0.2.72", {"address": REAL4, "state": "draining"})
    packet = error(ICMP(type=3, code=4), reply(TCP(sport=80, dport=4000)))
    assert judge(node, packet) == sent(packet)
    assert node.flows() == {}


def test_error_counts_as_traffic_of_its_service(node: Node) -> None:
    node.serve(REAL4)
    packet = error(ICMP(type=3), reply(UDP(sport=80)))
    number = next(s.id for s in node.tables.actual().services.values() if s.name == "udp0")
    before = node.tables.service_counters()[number]["packets"]
    node.run(packet)
    assert node.tables.service_counters()[number]["packets"] == before + 1
