# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCTP: steered by its five-tuple, whatever the verification tag; INIT opens, as a SYN does."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkCookieEcho, SCTPChunkData, SCTPChunkInit
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import flow_hash, slot

from .expect import REAL4, REAL6, dropped, judge, label_of, sent
from .flows import A, B, ring
from .node import CLIENT4, CLIENT6, VIP4, VIP6, Node, from_client
from .test_explain import check, explainer

PORTS = range(20000, 20120)


def serve(node: Node, *backends: str | dict[str, Any], port: int = 80, **pool: Any) -> None:
    entries = [{"address": b} if isinstance(b, str) else b for b in backends]
    services = [
        {"name": f"s{i}", "address": vip, "port": port, "protocol": "sctp", "pool": "web"}
        for i, vip in enumerate((VIP4, VIP6))
    ]
    node.apply({"web": {"backends": entries, **pool}}, services)


def packet(chunk: Packet, port: int = 4000, tag: int = 1, ipv6: bool = False) -> Packet:
    return from_client(SCTP(sport=port, dport=80, tag=tag) / chunk, ipv6=ipv6)


def init(port: int, ipv6: bool = False) -> Packet:
    return packet(SCTPChunkInit(init_tag=7), port, 0, ipv6)


def data(port: int, ipv6: bool = False) -> Packet:
    return packet(SCTPChunkData(data=b"payload"), port, 7, ipv6)


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("backend", [REAL4, REAL6])
def test_every_chunk_is_sent_whole(node: Node, backend: str, ipv6: bool) -> None:
    serve(node, backend)
    for whole in (init(4000, ipv6), data(4000, ipv6), packet(SCTPChunkCookieEcho(), ipv6=ipv6)):
        label = label_of(node, whole)
        assert judge(node, whole) == sent(whole, backend, label)


def test_only_init_is_counted_as_opening(node: Node) -> None:
    serve(node, A)
    for whole in (init(4000), data(4000), packet(SCTPChunkCookieEcho())):
        node.run(whole)
    (service,) = (s for key, s in node.tables.actual().services.items() if key.address == VIP4)
    counter = node.tables.service_counters()[service.id]
    assert (counter["packets"], counter["opens"]) == (3, 1)


def test_tag_does_not_matter(node: Node) -> None:
    serve(node, *(f"192.0.2.{i}" for i in range(70, 90)))
    for port in PORTS:
        tags = (packet(SCTPChunkData(data=b"x"), port, tag) for tag in (0, 1, 0xDEADBEEF))
        assert len({node.backend_of(each) for each in tags}) == 1


def moved_port(node: Node) -> int:
    """A port whose flow was on A and whose new flows go to B."""
    held = node.tables.actual().backends
    for port in PORTS:
        number = slot(flow_hash(node.hash_seed, CLIENT4, VIP4, 132, port, 80), node.sizes.ring)
        slots = ring(node)
        if slots.tracked[number] and held[slots.current[number]].address == B:
            return port
    raise AssertionError("no port moved")


def test_associations_stay_and_init_goes_to_the_new_backend(node: Node) -> None:
    serve(node, A)
    serve(node, A, B)
    port = moved_port(node)
    assert node.backend_of(data(port)) == A
    assert node.backend_of(init(port)) == B
    assert node.backend_of(data(port)) == B
    assert node.flows() == {B: 1}


@pytest.mark.parametrize("ipv6", [False, True])
def test_cut_before_the_first_chunk_is_malformed(node: Node, ipv6: bool) -> None:
    serve(node, A)
    bare = from_client(SCTP(sport=4000, dport=80), ipv6=ipv6)
    assert judge(node, bare) == dropped(bare, "drop_malformed")
    padded = bytes(bare) + bytes(20)
    assert judge(node, padded) == dropped(padded, "drop_malformed")


def test_port_without_a_service_is_unserved(node: Node) -> None:
    serve(node, A, port=81)
    assert judge(node, init(4000)) == dropped(init(4000), "drop_unserved")


def test_any_port(node: Node) -> None:
    serve(node, A, port=0)
    assert judge(node, init(4000)) == sent(init(4000), A)


def test_tcp_and_udp_of_the_port_are_others(node: Node) -> None:
    node.serve(A)
    assert judge(node, init(4000)) == dropped(init(4000), "drop_unserved")


def test_errors_go_where_their_association_goes(node: Node) -> None:
    serve(node, *(f"192.0.2.{i}" for i in range(70, 90)))
    for port in PORTS[:20]:
        about = IP(src=VIP4, dst=CLIENT4) / SCTP(sport=80, dport=port)
        cut = Raw(bytes(about)[:28])
        error = from_client(ICMP(type=3, code=2) / cut, src="198.51.100.99")
        assert node.backend_of(error) == node.backend_of(data(port))
        about6 = IPv6(src=VIP6, dst=CLIENT6) / SCTP(sport=80, dport=port)
        error6 = from_client(ICMPv6DestUnreach() / about6, ipv6=True)
        assert node.backend_of(error6) == node.backend_of(data(port, ipv6=True))


def test_checksum_of_udp_around_it_is_none_over_ipv6(node: Node) -> None:
    """SCTP has a CRC in place of a sum: the outer one cannot be told from it."""
    serve(node, REAL6, forwarding="gue")
    _action, out = node.run(data(4000, ipv6=True))
    outer = Ether(out).payload
    assert (outer.nh, outer.payload.chksum) == (17, 0)


def test_explained_as_it_goes(node: Node) -> None:
    serve(node, A)
    serve(node, A, B)
    port = moved_port(node)
    ask = explainer(node)
    old = check(node, ask, data(port))
    assert any("opens now (INIT) goes to" in text for text in old["why"])
    new = check(node, ask, init(port))
    assert any("the packet opens a connection (INIT)" in text for text in new["why"])
