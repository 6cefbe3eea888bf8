# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would not fit when encapsulated is answered by an ICMP error, so that the client sends less.

The interfaces of the test's node carry 1500 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from .expect import REAL4, REAL6, Judged, dropped, judge, label_of, sent
from .node import (
    CLIENT4,
    CLIENT6,
    NODE_MAC,
    ROUTER_MAC,
    VIP4,
    VIP6,
    XDP_TX,
    Node,
    from_client,
    interface,
)

RTAX_MTU = 2  # linux/rtnetlink.h; a route's MTU counts for others' packets when it is locked

BACK = Ether(dst=ROUTER_MAC, src=NODE_MAC)


def of_length(length: int, ipv6: bool = False, **fields: object) -> Packet:
    """A client's UDP packet whose IP packet has this length."""
    payload = bytes(i * 7 % 251 for i in range(length - (48 if ipv6 else 28)))
    return from_client(UDP(sport=4000, dport=80) / Raw(payload), ipv6=ipv6, **fields)


def too_big(packet: Packet, mtu: int) -> Packet:
    """The frame that answers an untagged one."""
    inner = bytes(packet.payload)
    if isinstance(packet.payload, IPv6):
        error = ICMPv6PacketTooBig(mtu=mtu) / Raw(inner[:1232])
        return BACK / IPv6(src=VIP6, dst=CLIENT6, hlim=64) / error
    error = ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(inner[:512])
    return BACK / IP(src=VIP4, dst=CLIENT4, ttl=64, id=0, flags="DF", tos=0xC0) / error


def answered(frame: Packet) -> Judged:
    return Judged(XDP_TX, bytes(frame), "answered_too_big")


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize(("backend", "fits"), [(REAL4, 1480), (REAL6, 1460)])
def test_packet_is_answered_when_it_would_not_fit(
    node: Node, backend: str, fits: int, ipv6: bool
) -> None:
    node.serve(backend)
    packet = of_length(fits, ipv6)
    assert judge(node, packet) == sent(packet, backend, label_of(node, packet))
    packet = of_length(fits + 1, ipv6)
    assert judge(node, packet) == answered(too_big(packet, fits))
    packet = of_length(1500, ipv6)
    assert judge(node, packet) == answered(too_big(packet, fits))


@pytest.mark.parametrize("flags", ["", "DF", "MF"])
def test_fragmentation_is_asked_for_whether_allowed_or_not(node: Node, flags: str) -> None:
    node.serve(REAL4)
    packet = of_length(1500, flags=flags)
    assert judge(node, packet) == answered(too_big(packet, 1480))


def test_options_and_extension_headers_are_quoted(node: Node) -> None:
    node.serve(REAL4)
    packet = of_length(1496, options=b"\x94\x04\x00\x00")
    assert judge(node, packet) == answered(too_big(packet, 1480))
    packet = from_client(IPv6ExtHdrDestOpt() / UDP(dport=80) / Raw(bytes(1450)), ipv6=True)
    assert judge(node, packet) == answered(too_big(packet, 1480))


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("tags", [Dot1Q(vlan=7), Dot1AD(vlan=9) / Dot1Q(vlan=7)])
def test_answer_goes_back_with_the_tags(node: Node, tags: Packet, ipv6: bool) -> None:
    node.serve(REAL4)
    packet = of_length(1500, ipv6)
    answer = too_big(packet, 1480)
    tagged = Ether(dst=packet.dst, src=packet.src) / tags.copy() / packet.payload
    expected = Ether(dst=answer.dst, src=answer.src) / tags.copy() / answer.payload
    assert judge(node, tagged) == answered(expected)


def test_padding_is_neither_counted_nor_quoted(node: Node) -> None:
    node.serve(REAL4)
    packet = of_length(1480)
    assert judge(node, bytes(packet) + bytes(40)) == sent(packet, padding=bytes(40))
    packet = of_length(1481)
    assert judge(node, bytes(packet) + bytes(40)) == answered(too_big(packet, 1480))


NARROW = {"192.0.2.77": "192.0.2.1", "2001:db8:2::77": "2001:db8:1::1"}


@pytest.fixture(params=NARROW)
def narrow(request: pytest.FixtureRequest) -> Iterator[str]:
    """A backend behind a route that carries less than its interface."""
    address = request.param
    prefix = 128 if ":" in address else 32
    route = {
        "dst": f"{address}/{prefix}",
        "oif": interface("eth0"),
        "gateway": NARROW[address],
        "metrics": {"mtu": 1400, "lock": 1 << RTAX_MTU},
    }
    with IPRoute() as ip:
        ip.route("add", **route)
        yield address
        ip.route("del", **route)


def test_locked_mtu_of_a_route_counts(node: Node, narrow: str) -> None:
    node.serve(narrow)
    fits = 1400 - (40 if ":" in narrow else 20)
    packet = of_length(fits)
    assert judge(node, packet) == sent(packet, narrow, label_of(node, packet))
    packet = of_length(fits + 1)
    assert judge(node, packet) == answered(too_big(packet, fits))


GROUP = Ether(dst="01:00:5e:00:00:01", src=ROUTER_MAC)
SILENT = {
    "from nobody": of_length(1500, src="0.0.0.0"),
    "from a group": of_length(1500, src="224.0.0.9"),
    "to an Ethernet group": GROUP / of_length(1500).payload,
    "an error": from_client(
        ICMP(type=11) / IP(src=VIP4, dst=CLIENT4) / UDP(sport=80) / Raw(bytes(1450))
    ),
    "an error over IPv6": from_client(
        ICMPv6TimeExceeded() / IPv6(src=VIP6, dst=CLIENT6) / UDP(sport=80) / Raw(bytes(1400)),
        ipv6=True,
    ),
}


@pytest.mark.parametrize("packet", SILENT.values(), ids=SILENT.keys())
def test_no_error_is_sent_about_what_must_not_be_answered(node: Node, packet: Packet) -> None:
    node.serve(REAL4)
    assert judge(node, packet) == dropped(packet, "drop_too_big")


@pytest.mark.parametrize("ipv6", [False, True])
def test_no_error_is_sent_about_a_later_fragment(node: Node, ipv6: bool) -> None:
    node.serve(REAL4)
    payload = Raw(bytes(1448))
    if ipv6:
        node.run(from_client(IPv6ExtHdrFragment(id=7, m=1) / UDP(dport=80), ipv6=True))
        rest = from_client(IPv6ExtHdrFragment(id=7, offset=9, nh=17) / payload, ipv6=True)
    else:
        node.run(from_client(UDP(dport=80), id=7, flags="MF"))
        rest = from_client(payload / Raw(bytes(32)), id=7, frag=9, proto=17)
    assert judge(node, rest) == dropped(rest, "drop_too_big")


def test_errors_are_limited(node: Node) -> None:
    """512 a tick of half a second and CPU: as many runs take less than two ticks."""
    node.serve(REAL4)
    packet = bytes(of_length(1500))
    for _count in range(4000):
        node.run(packet)
    counted = node.tables.verdicts()
    answered_, silent = (counted[word]["packets"] for word in ("answered_too_big", "drop_too_big"))
    assert answered_ + silent == 4000
    assert answered_ >= 512
    assert silent > 0


def test_big_packet_leaves_its_flow_recorded_and_backend_uncounted(node: Node) -> None:
    node.serve(REAL4, tracking="always")
    (index,) = (i for i, b in node.tables.actual().backends.items() if b.state == "active")
    before = node.tables.backend_counter(index)
    node.run(from_client(TCP(sport=4000, dport=80) / Raw(bytes(1460))))
    assert node.flows() == {REAL4: 1}
    assert node.tables.backend_counter(index) == before
