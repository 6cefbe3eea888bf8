# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outer sources spread over a prefix: exact bytes, and everybody who tells or compares them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _program
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import flow_hash
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight import preflight
from ansible_collections.l4lb.xdp.plugins.module_utils._proof import Prover

from .expect import REAL4, REAL6, judge, outer4, outer6
from .node import (
    CLIENT4,
    CLIENT6,
    NODE4,
    NODE6,
    SOURCE,
    VIP4,
    VIP6,
    Node,
    bpffs,
    from_client,
    interface,
)
from .test_explain import explainer
from .test_explain import parse as packet_of
from .test_preflight import arguments

PREFIX4, PREFIX6 = "198.18.16.0/20", "2001:db8:9::/100"
BACKENDS = pytest.mark.parametrize("backend", [REAL4, REAL6], ids=["by IPv4", "by IPv6"])
PORTS = range(4000, 4040)


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("spread")
    with bpffs(directory / "bpf") as pins:
        yield Node(
            pins,
            directory / "state",
            source_prefix_ipv4=PREFIX4,
            source_prefix_ipv6=PREFIX6,
        )


def hash_of(node: Node, packet: Packet) -> int:
    ip, transport = packet.payload, packet.payload.payload
    protocol = ip.nh if isinstance(ip, IPv6) else ip.proto
    ends = (ip.src, ip.dst, protocol, transport.sport, transport.dport)
    return flow_hash(node.hash_seed, *ends)


def source_of(hashed: int, backend: str) -> str:
    """Written anew: the prefix, and the hash's low bits where it is free."""
    network = ip_network(PREFIX6 if ":" in backend else PREFIX4)
    return str(network[hashed % network.num_addresses])


@BACKENDS
@pytest.mark.parametrize("ipv6", [False, True], ids=["of IPv4", "of IPv6"])
def test_source_is_the_prefix_and_the_flows_hash(spread: Node, backend: str, ipv6: bool) -> None:
    spread.reset()
    spread.serve(backend)
    sources = set()
    for port in PORTS:
        packet = from_client(TCP(sport=port, dport=80) / Raw(b"data"), ipv6=ipv6)
        hashed = hash_of(spread, packet)
        outer = outer6 if ":" in backend else outer4
        expected = outer(packet.payload, backend, hashed & 0xFFFFF)
        expected.payload.src = source_of(hashed, backend)
        assert judge(spread, packet).frame == bytes(expected)
        sources.add(expected.payload.src)
    assert len(sources) > len(PORTS) // 2


@BACKENDS
def test_gue_has_it_too_and_its_checksum_counts_it(spread: Node, backend: str) -> None:
    spread.reset()
    spread.serve(backend, forwarding="gue")
    packet = from_client(UDP(sport=4000, dport=80) / Raw(b"data"))
    out = Ether(judge(spread, packet).frame).payload
    assert out.src == source_of(hash_of(spread, packet), backend)
    datagram = out.payload
    sum_of = datagram.chksum
    del datagram.chksum
    again = type(out)(bytes(out)).payload.chksum
    assert sum_of == (again if ":" in backend else 0)


def test_fragments_and_errors_have_their_flows_source(spread: Node) -> None:
    spread.reset()
    spread.serve(REAL4)
    whole = from_client(UDP(sport=4001, dport=80) / Raw(bytes(24)))
    expected = source_of(hash_of(spread, whole), REAL4)
    first = from_client(UDP(sport=4001, dport=80) / Raw(bytes(16)), id=7, flags="MF")
    later = from_client(Raw(bytes(16)), id=7, frag=3, proto=17)
    back = IP(src=VIP4, dst=CLIENT4) / UDP(sport=80, dport=4001)
    error = from_client(ICMP(type=3, code=3) / back)
    for packet in (whole, first, later, error):
        assert Ether(judge(spread, packet).frame).payload.src == expected


def test_what_the_kernel_forwards_has_the_nodes_address(spread: Node) -> None:
    """Its neighbour is not known, so the kernel looks for it and sends the packet."""
    spread.reset()
    spread.serve("192.0.2.133")
    packet = from_client(TCP(sport=4000, dport=80))
    judged = judge(spread, packet)
    assert (judged.verdict, Ether(judged.frame).payload.src) == ("to_kernel", NODE4)
    told = explainer(spread).explain(packet_of(CLIENT4, VIP4, "tcp", 4000, 80))
    assert (told["verdict"], told["tunnel"]["source"]) == ("to_kernel", NODE4)


def test_route_is_asked_with_the_nodes_address(spread: Node) -> None:
    """A policy rule by source sees the node, not the prefix."""
    rules = ({"src": "198.18.16.0", "src_len": 20, "table": 77, "priority": 100},)
    with IPRoute() as ip:
        ip.route("add", dst="0.0.0.0/0", type="unreachable", table=77)
        for rule in rules:
            ip.rule("add", **rule)
        try:
            spread.reset()
            spread.serve(REAL4)
            assert judge(spread, from_client(TCP(sport=4000, dport=80))).verdict == "sent"
        finally:
            for rule in rules:
                ip.rule("del", **rule)
            ip.route("del", dst="0.0.0.0/0", type="unreachable", table=77)


@BACKENDS
def test_explain_tells_the_source_and_proofs_compare_it(spread: Node, backend: str) -> None:
    spread.reset()
    spread.serve(backend)
    ask = explainer(spread)
    for port in PORTS:
        for client, vip, ipv6 in ((CLIENT4, VIP4, False), (CLIENT6, VIP6, True)):
            frame = judge(spread, from_client(UDP(sport=port, dport=80), ipv6=ipv6)).frame
            told = ask.explain(packet_of(client, vip, "udp", port, 80))
            assert told["tunnel"]["source"] == Ether(frame).payload.src
    prover = Prover(spread.tables, SOURCE, spread.pins)
    prover.open(os.dup(spread.loaded.fd), "eth0", interface("eth0"))
    try:
        for vip in (VIP4, VIP6):
            assert prover.prove(ServiceKey(vip, 80, "tcp")) is None
    finally:
        prover.close()


def test_settings_tell_the_prefixes(spread: Node, node: Node) -> None:
    told = spread.tables.settings()
    assert (told["source_ipv4"], told["source_ipv6"]) == (NODE4, NODE6)
    assert (told["source_prefix_ipv4"], told["source_prefix_ipv6"]) == (PREFIX4, PREFIX6)
    without = node.tables.settings()
    assert (without["source_prefix_ipv4"], without["source_prefix_ipv6"]) == (None, None)


def test_prefix_that_comes_or_goes_is_a_change(spread: Node) -> None:
    assert not _program.prepare(spread.wanted(), dry=True).changed
    assert _program.prepare(spread.wanted(source_prefix_ipv4=None), dry=True).changed


@pytest.mark.parametrize(
    ("prefix", "status", "says"),
    [
        ("198.18.16.0/20", "ok", "198.18.16.0/20"),
        ("192.0.2.64/26", "failed", "192.0.2.71, a backend's"),
        ("203.0.113.0/24", "failed", "203.0.113.10, a service's"),
    ],
)
def test_preflight_looks_at_the_prefix(pins: Path, prefix: str, status: str, says: str) -> None:
    outcome = preflight(arguments(pins, source_prefix_ipv4=prefix))
    (check,) = (c for c in outcome.data["checks"] if c["subject"] == "source_prefix_ipv4")
    assert (check["name"], check["status"]) == ("tunnel_source", status)
    assert says in check["found"]


def test_prefix_has_no_more_than_free_bits(spread: Node) -> None:
    """All of what flows get is of the prefix."""
    spread.reset()
    spread.serve(REAL4)
    for port in PORTS:
        out = Ether(judge(spread, from_client(TCP(sport=port, dport=80))).frame).payload
        assert ip_address(out.src) in ip_network(PREFIX4)
