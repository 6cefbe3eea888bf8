# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node makes of a packet, and what it should: exact bytes, and the verdict's name."""

from __future__ import annotations

from typing import NamedTuple

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import flow_hash

from .node import NODE4, NODE6, NODE_MAC, ROUTER_MAC, XDP_DROP, XDP_PASS, XDP_TX, Node

REAL4, REAL6 = "192.0.2.71", "2001:db8:2::71"


class Judged(NamedTuple):
    """Action, frame out, verdict."""

    action: int
    frame: bytes
    verdict: str


def judge(node: Node, packet: bytes | Packet) -> Judged:
    """Runs one packet, which has to be counted once, under one verdict."""
    before = node.tables.verdicts()
    action, out = node.run(packet)
    after = node.tables.verdicts()
    more = {word: after[word]["packets"] - before[word]["packets"] for word in after}
    (verdict,) = (word for word, count in more.items() if count)
    assert more[verdict] == 1
    return Judged(action, out, verdict)


def dropped(packet: bytes | Packet, verdict: str) -> Judged:
    return Judged(XDP_DROP, bytes(packet), verdict)


def passed(packet: bytes | Packet) -> Judged:
    return Judged(XDP_PASS, bytes(packet), "pass_foreign")


def sent(packet: Packet, backend: str = REAL4, label: int = 0, padding: bytes = b"") -> Judged:
    """The packet of an untagged frame, encapsulated, back out of the interface it came in."""
    outer = outer6 if ":" in backend else outer4
    return Judged(XDP_TX, bytes(outer(packet.payload, backend, label)) + padding, "sent")


def outer4(inner: Packet, backend: str = REAL4, _label: int = 0) -> Packet:
    """An inner packet as it goes to a backend by IPv4."""
    protocol, tos = (41, inner.tc) if isinstance(inner, IPv6) else (4, inner.tos)
    header = IP(src=NODE4, dst=backend, proto=protocol, ttl=64, id=0, flags="DF", tos=tos)
    return Ether(dst=ROUTER_MAC, src=NODE_MAC) / header / bytes(inner)


def outer6(inner: Packet, backend: str = REAL6, label: int = 0) -> Packet:
    """An inner packet as it goes to a backend by IPv6."""
    next_header, tc = (41, inner.tc) if isinstance(inner, IPv6) else (4, inner.tos)
    header = IPv6(src=NODE6, dst=backend, nh=next_header, hlim=64, tc=tc, fl=label)
    return Ether(dst=ROUTER_MAC, src=NODE_MAC) / header / bytes(inner)


def label_of(node: Node, packet: Packet) -> int:
    """The flow label that the packet's hash gives."""
    ip, transport = packet.payload, packet.payload.payload
    protocol = ip.nh if isinstance(ip, IPv6) else ip.proto
    args = (ip.src, ip.dst, protocol, transport.sport, transport.dport)
    return flow_hash(node.hash_seed, *args) & 0xFFFFF
