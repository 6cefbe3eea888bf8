# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes out of a node, byte for byte: the four forms of IP in IP, and the ways a packet can
leave.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from .expect import REAL4, REAL6, dropped, judge, label_of, outer4, outer6
from .node import (
    CLIENT6,
    FAR_MAC,
    NODE4,
    NODE_MAC,
    NODE_MAC1,
    ROUTER_MAC,
    VIP6,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    Node,
    frame,
    from_client,
)


@pytest.mark.parametrize(
    "transport", [TCP(sport=4000, dport=80, flags="S"), UDP(sport=4000, dport=80)]
)
def test_ipv4_in_ipv4(node: Node, transport: Packet) -> None:
    node.serve(REAL4)
    packet = from_client(transport / Raw(b"payload"), tos=0xB9)
    assert node.run(packet) == (XDP_TX, bytes(outer4(packet.payload)))


def test_ipv6_in_ipv4_is_protocol_41(node: Node) -> None:
    node.serve(REAL4)
    packet = from_client(TCP(sport=4000, dport=80) / Raw(b"payload"), ipv6=True, tc=0xB9)
    assert node.run(packet) == (XDP_TX, bytes(outer4(packet.payload)))


def test_ipv6_in_ipv6(node: Node) -> None:
    node.serve(REAL6)
    packet = from_client(TCP(sport=4000, dport=80) / Raw(b"payload"), ipv6=True, tc=0xB9)
    expected = outer6(packet.payload, REAL6, label_of(node, packet))
    assert node.run(packet) == (XDP_TX, bytes(expected))


def test_ipv4_in_ipv6_is_next_header_4(node: Node) -> None:
    node.serve(REAL6)
    packet = from_client(UDP(sport=4000, dport=80) / Raw(b"payload"), tos=0x01)
    expected = outer6(packet.payload, REAL6, label_of(node, packet))
    assert node.run(packet) == (XDP_TX, bytes(expected))


def test_backend_on_another_interface_is_redirected(node: Node) -> None:
    node.serve("192.0.2.130")
    packet = from_client(UDP(sport=4000, dport=80))
    header = IP(src=NODE4, dst="192.0.2.130", proto=4, ttl=64, id=0, flags="DF")
    expected = Ether(dst=FAR_MAC, src=NODE_MAC1) / header / bytes(packet.payload)
    assert node.run(packet) == (XDP_REDIRECT, bytes(expected))


def test_unknown_neighbour_is_left_to_the_kernel_encapsulated(node: Node) -> None:
    node.serve("192.0.2.33")
    packet = from_client(UDP(sport=4000, dport=80))
    header = IP(src=NODE4, dst="192.0.2.33", proto=4, ttl=64, id=0, flags="DF")
    expected = Ether(dst=NODE_MAC, src=ROUTER_MAC) / header / bytes(packet.payload)
    assert node.run(packet) == (XDP_PASS, bytes(expected))
    assert node.tables.verdicts()["to_kernel"]["packets"] == 1


def test_unreachable_route_drops(node: Node) -> None:
    node.serve("192.0.2.200")
    packet = from_client(UDP(sport=4000, dport=80))
    assert node.run(packet) == (XDP_DROP, bytes(packet))
    assert node.tables.verdicts()["drop_no_route"]["packets"] == 1


def test_pool_without_backends_drops(node: Node) -> None:
    node.serve()
    packet = from_client(UDP(sport=4000, dport=80))
    assert node.run(packet) == (XDP_DROP, bytes(packet))
    assert node.tables.verdicts()["drop_no_backend"]["packets"] == 1


def test_node_without_address_of_the_family_drops(make_node: Callable[..., Node]) -> None:
    node = make_node(source_ipv4=None)
    node.serve(REAL4)
    packet = from_client(UDP(sport=4000, dport=80))
    assert node.run(packet) == (XDP_DROP, bytes(packet))
    assert node.tables.verdicts()["drop_no_source"]["packets"] == 1


def test_removed_backend_gets_nothing_more(node: Node) -> None:
    node.serve(REAL4)
    node.serve()
    packet = from_client(UDP(sport=4000, dport=80))
    assert node.run(packet) == (XDP_DROP, bytes(packet))


def test_packets_and_bytes_are_counted(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.serve(REAL4)
    packet = from_client(TCP(sport=4000, dport=80) / Raw(b"x" * 100))
    for _packet in range(3):
        node.run(packet)
    counted = {"packets": 3, "bytes": 3 * len(packet.payload)}
    actual = node.tables.actual()
    service = next(service.id for service in actual.services.values() if service.name == "tcp0")
    (backend,) = actual.backends
    assert node.tables.verdicts()["sent"] == counted
    assert node.tables.service_counters()[service] == {**counted, "opens": 3}
    assert node.tables.backend_counters()[backend] == counted


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("flags", "opens"), [("S", 1), ("SA", 0), ("A", 0), ("SEC", 1)])
def test_packets_that_open_a_connection_are_counted(
    make_node: Callable[..., Node], flags: str, opens: int, ipv6: bool
) -> None:
    node = make_node()
    node.serve(REAL4)
    node.run(from_client(TCP(sport=4000, dport=80, flags=flags), ipv6=ipv6))
    length = 60 if ipv6 else 40
    counted = {"packets": 1, "bytes": length, "opens": opens}
    assert counted in node.tables.service_counters()


# --- which service ---


def test_exact_port_comes_before_any_port(node: Node) -> None:
    pools = {
        "exact": {"backends": [{"address": "192.0.2.71"}]},
        "any": {"backends": [{"address": "192.0.2.72"}]},
    }
    services = [
        {"name": "exact", "address": VIP6, "port": 80, "protocol": "tcp", "pool": "exact"},
        {"name": "any", "address": VIP6, "port": 0, "protocol": "tcp", "pool": "any"},
    ]
    node.apply(pools, services)
    assert node.backend_of(from_client(TCP(dport=80), ipv6=True)) == "192.0.2.71"
    assert node.backend_of(from_client(TCP(dport=81), ipv6=True)) == "192.0.2.72"
    udp = frame(IPv6(src=CLIENT6, dst=VIP6) / UDP(dport=80))
    assert judge(node, udp) == dropped(udp, "drop_unserved")
