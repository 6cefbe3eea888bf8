# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forwarding by MAC addresses: a frame gets others, and nothing else of it changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils._config import parse
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._proof import Prover
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

from .expect import Judged, dropped, judge, outer4
from .node import (
    CLIENT4,
    FAR_MAC,
    NODE_MAC,
    NODE_MAC1,
    SOURCE,
    VIP4,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    Node,
    from_client,
    interface,
)
from .test_explain import arguments, explainer
from .test_explain import parse as packet_of

NEAR4, NEAR6 = "192.0.2.40", "2001:db8:1::40"
NEAR_MAC = "02:00:00:00:00:20"
FAR4 = "192.0.2.130"
UNKNOWN = "192.0.2.41"
BEHIND = "192.0.2.71"  # a router


@pytest.fixture(scope="module", autouse=True)
def neighbours() -> Iterator[None]:
    with IPRoute() as ip:
        near = [
            {"dst": address, "lladdr": NEAR_MAC, "ifindex": interface("eth0")}
            for address in (NEAR4, NEAR6)
        ]
        for entry in near:
            ip.neigh("replace", **entry, state="permanent")
        yield
        for entry in near:
            ip.neigh("del", **entry)


def serve(node: Node, *backends: str, **pool: Any) -> None:
    node.serve(*backends, forwarding="l2", **pool)


def readdressed(packet: Packet, destination: str, source: str) -> bytes:
    copy = packet.copy()
    copy.dst, copy.src = destination, source
    return bytes(copy)


PACKETS = {
    "TCP": from_client(TCP(sport=4000, dport=80, flags="S") / Raw(b"x"), ttl=7, tos=0xB9, id=9),
    "UDP over IPv6": from_client(UDP(sport=4000, dport=80) / Raw(b"x"), ipv6=True, hlim=7, tc=5),
    "options": from_client(UDP(sport=4000, dport=80), options=b"\x94\x04\x00\x00"),
    "extension headers": from_client(IPv6ExtHdrDestOpt() / UDP(dport=80), ipv6=True),
    "a fragment": from_client(UDP(sport=4000, dport=80) / Raw(bytes(16)), id=7, flags="MF"),
    "an ICMP error": from_client(
        ICMP(type=11) / IP(src=VIP4, dst=CLIENT4) / UDP(sport=80, dport=4000)
    ),
    "as large as the link": from_client(UDP(sport=4000, dport=80) / Raw(bytes(1472))),
}


@pytest.mark.parametrize("backend", [NEAR4, NEAR6], ids=["by IPv4", "by IPv6"])
@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS.keys())
def test_frame_gets_the_backends_address(node: Node, packet: Packet, backend: str) -> None:
    serve(node, backend)
    expected = readdressed(packet, NEAR_MAC, NODE_MAC)
    assert judge(node, packet) == Judged(XDP_TX, expected, "sent")


def test_padding_stays(node: Node) -> None:
    serve(node, NEAR4)
    packet = PACKETS["TCP"]
    expected = readdressed(packet, NEAR_MAC, NODE_MAC) + bytes(11)
    assert judge(node, bytes(packet) + bytes(11)) == Judged(XDP_TX, expected, "sent")


@pytest.mark.parametrize("tags", [1, 2])
def test_tags_stay_on_the_link_and_only_there(node: Node, tags: int) -> None:
    link = Ether(dst=NODE_MAC, src="02:00:00:00:00:01")
    for vlan in range(7, 7 + tags):
        link = link / Dot1Q(vlan=vlan)
    packet = link / PACKETS["TCP"].payload
    serve(node, NEAR4)
    expected = readdressed(packet, NEAR_MAC, NODE_MAC)
    assert judge(node, packet) == Judged(XDP_TX, expected, "sent")
    serve(node, FAR4)
    expected = readdressed(PACKETS["TCP"], FAR_MAC, NODE_MAC1)
    assert judge(node, packet) == Judged(XDP_REDIRECT, expected, "redirected")


def test_later_fragment_follows(node: Node) -> None:
    serve(node, NEAR4)
    node.run(PACKETS["a fragment"])
    later = from_client(Raw(bytes(8)), id=7, frag=3, proto=17)
    expected = readdressed(later, NEAR_MAC, NODE_MAC)
    assert judge(node, later) == Judged(XDP_TX, expected, "sent")


def test_larger_than_the_link_is_answered(node: Node) -> None:
    serve(node, NEAR4)
    packet = from_client(UDP(sport=4000, dport=80) / Raw(bytes(1473)))
    judged = judge(node, packet)
    assert judged.verdict == "answered_too_big"
    assert Ether(judged.frame)[ICMP].nexthopmtu == 1500


def test_unknown_neighbour_is_found_by_the_kernel_with_a_wrapped_packet(node: Node) -> None:
    serve(node, UNKNOWN)
    packet = PACKETS["TCP"]
    wrapped = Ether(dst=NODE_MAC, src=packet.src) / outer4(packet.payload, UNKNOWN).payload
    assert judge(node, packet) == Judged(XDP_PASS, bytes(wrapped), "to_kernel")


def test_backend_behind_a_router_gets_nothing(node: Node) -> None:
    serve(node, BEHIND)
    assert judge(node, PACKETS["TCP"]) == dropped(PACKETS["TCP"], "drop_no_route")


def test_pool_changes_its_forwarding(node: Node) -> None:
    """A CPU that remembers the router as next hop does not send bare packets there."""
    packet = PACKETS["TCP"]
    node.serve(BEHIND)
    assert judge(node, packet).frame == bytes(outer4(packet.payload, BEHIND))
    serve(node, BEHIND)
    assert judge(node, packet) == dropped(packet, "drop_no_route")
    node.serve(NEAR4)
    assert judge(node, packet).verdict == "sent"
    serve(node, NEAR4)
    assert judge(node, packet).frame == readdressed(packet, NEAR_MAC, NODE_MAC)
    assert node.tables.actual().pools[0].forwarding == "l2"
    node.serve(NEAR4)
    assert len(judge(node, packet).frame) == len(packet) + 20


def test_kernel_holds_what_was_written(node: Node) -> None:
    serve(node, NEAR4)
    again = parse({"web": {"backends": [{"address": NEAR4}], "forwarding": "l2"}}, [])
    assert again.pools[0].forwarding == "l2"
    backends = Tables(node.pins, SOURCE).actual().backends.values()
    assert {b.forwarding for b in backends if b.state == "active"} == {"l2"}


@pytest.mark.parametrize(
    ("backend", "verdict", "word"),
    [
        (NEAR4, "sent", "reached directly by eth0"),
        (FAR4, "redirected", "redirected there from eth0"),
        (UNKNOWN, "to_kernel", "encapsulated, is left to the kernel"),
        (BEHIND, "drop_no_route", "through 192.0.2.1, but its pool forwards by MAC addresses"),
    ],
)
def test_explained_as_it_is(node: Node, backend: str, verdict: str, word: str) -> None:
    serve(node, backend)
    packet = from_client(UDP(sport=4000, dport=80))
    answer = explainer(node).explain(packet_of(**arguments(packet)), "eth0")
    assert answer["verdict"] == judge(node, packet).verdict == verdict
    assert word in answer["why"][-1]
    assert answer["tunnel"]["kind"] == "l2"


def test_proof_knows_the_bytes(node: Node) -> None:
    prover = Prover(node.tables, SOURCE, node.pins)
    prover.open(os.dup(node.loaded.fd), "eth0", interface("eth0"))
    service = ServiceKey(VIP4, 80, "tcp")
    for backend in (NEAR4, NEAR6, FAR4):
        serve(node, backend)
        prover.renew()
        assert prover.prove(service) is None
    serve(node, BEHIND)
    reason = prover.prove(service)
    assert reason is not None
    assert reason.startswith(f"backend {BEHIND}: {BEHIND} is reached by eth0 through 192.0.2.1")
    prover.close()
