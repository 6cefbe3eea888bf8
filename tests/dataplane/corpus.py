# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames that are mutated: one or more of every kind, to a fleet that can send every way."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData, SCTPChunkInit
from scapy.packet import Packet, Raw

from .node import CLIENT4, CLIENT6, NODE4, NODE6, NODE_MAC, ROUTER_MAC, VIP4, VIP6

ANY4, ANY6 = "203.0.113.11", "2001:db8:100::11"
LINK4, LINK6 = "203.0.113.12", "2001:db8:100::12"
GUE4, GUE6 = "203.0.113.13", "2001:db8:100::13"
QUIC4, QUIC6 = "203.0.113.14", "2001:db8:100::14"
GUARDED4, GUARDED6 = "203.0.113.15", "2001:db8:100::15"
VIPS = (VIP4, VIP6, ANY4, ANY6, LINK4, LINK6, GUE4, GUE6, QUIC4, QUIC6, GUARDED4, GUARDED6)
DENIED4, DENIED6 = "198.18.99.1", "2001:db8:99::1"
DENY = ("198.18.99.0/24", "2001:db8:99::/48")
NEAR, NEAR6, FAR, FAR6 = "192.0.2.71", "2001:db8:2::71", "192.0.2.130", "2001:db8:4::2"
BACKENDS = (NEAR, NEAR6, FAR, FAR6)
NEIGHBOUR = "192.0.2.1"


def fleet() -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Pools, services and who is denied: backends of both families, behind both interfaces."""
    pools = {
        "web": {"backends": [{"address": address} for address in BACKENDS]},
        "all": {"backends": [{"address": NEAR}, {"address": FAR6}], "tracking": "always"}
        | {"identity": "source_address"},
        # The router itself, as one of the node's neighbours, and one on the other link.
        "near": {"backends": [{"address": NEIGHBOUR}, {"address": FAR}], "forwarding": "l2"},
        "udp": {"backends": [{"address": address} for address in BACKENDS], "forwarding": "gue"},
        "quic": {
            "backends": [
                {"address": NEAR, "server_id": 1},
                {"address": FAR6, "server_id": 2},
                {"address": NEAR6, "server_id": 3, "state": "disabled"},
            ],
            "quic": {"server_id_length": 1},
        },
    }
    services = [
        {"name": f"{pool}{i}{protocol}", "address": address, "port": port, "protocol": protocol}
        | {"pool": pool}
        for i, (address, port, pool) in enumerate(
            (
                (VIP4, 80, "web"),
                (VIP6, 80, "web"),
                (ANY4, 0, "all"),
                (ANY6, 0, "all"),
                (LINK4, 80, "near"),
                (LINK6, 80, "near"),
                (GUE4, 0, "udp"),
                (GUE6, 80, "udp"),
                (QUIC4, 80, "quic"),
                (QUIC6, 80, "quic"),
            )
        )
        for protocol in ("tcp", "udp", "sctp")
    ]
    for name, address, near in (
        ("guarded4", GUARDED4, "198.51.100.0/24"),
        ("guarded6", GUARDED6, "2001:db8:3::/48"),
    ):
        guards = {"allow": [near], "new_flows": 2}
        place = {"address": address, "port": 80, "protocol": "tcp", "pool": "web"}
        services.append({"name": name, **place, **guards})
    return pools, services, list(DENY)


def _four(payload: Packet, **fields: Any) -> Packet:
    return IP(**{"src": CLIENT4, "dst": VIP4, **fields}) / payload


def _six(payload: Packet, **fields: Any) -> Packet:
    return IPv6(**{"src": CLIENT6, "dst": VIP6, **fields}) / payload


def _quic(head: str, server: int) -> Packet:
    """A datagram whose connection id names that server; head: what stands before the id."""
    raw = bytes.fromhex(head) + bytes((0, server)) + bytes(range(40))
    return UDP(sport=4000, dport=80) / Raw(raw)


_BACK4 = IP(src=VIP4, dst=CLIENT4) / TCP(sport=80, dport=4000)
_BACK6 = IPv6(src=VIP6, dst=CLIENT6) / UDP(sport=80, dport=4000)

_PACKETS = (
    _four(TCP(sport=4000, dport=80, flags="S")),
    _four(TCP(sport=4000, dport=80, flags="A") / Raw(b"payload")),
    _four(UDP(sport=4000, dport=80) / Raw(b"payload"), tos=0xB9),
    _four(UDP(sport=4000, dport=81), dst=ANY4),
    _four(UDP(sport=4000, dport=80), options=b"\x94\x04\x00\x00"),
    _four(UDP(sport=4000, dport=80) / Raw(bytes(16)), id=7, flags="MF"),
    _four(Raw(bytes(40)), id=7, frag=3, proto=17),
    _four(UDP(sport=4000, dport=80) / Raw(bytes(1472))),
    _four(TCP(sport=4000, dport=80, flags="A") / Raw(b"payload"), dst=LINK4),
    _four(UDP(sport=4001, dport=80) / Raw(bytes(1472)), dst=LINK4),
    _six(UDP(sport=4000, dport=80) / Raw(b"payload"), dst=LINK6),
    _six(IPv6ExtHdrDestOpt() / TCP(sport=4003, dport=80), dst=LINK6),
    _four(TCP(sport=4000, dport=80, flags="A") / Raw(b"payload"), dst=GUE4),
    _four(UDP(sport=4001, dport=80) / Raw(bytes(1472)), dst=GUE4),
    _four(ICMP(type=11) / IP(src=GUE4, dst=CLIENT4) / TCP(sport=80, dport=4000), dst=GUE4),
    _six(UDP(sport=4000, dport=80) / Raw(b"payload"), dst=GUE6),
    _six(IPv6ExtHdrDestOpt() / TCP(sport=4003, dport=80), dst=GUE6),
    _four(_quic("40", 1), dst=QUIC4),
    _four(_quic("40", 3), dst=QUIC4),
    _four(_quic("40", 77), dst=QUIC4),
    _four(_quic("e00000000108", 2), dst=QUIC4),
    _six(_quic("40", 2), dst=QUIC6),
    _six(_quic("f06b3343cf08", 1), dst=QUIC6),
    _six(_quic("c00000000108", 1), dst=QUIC6),
    _four(ICMP(id=1, seq=2) / Raw(b"payload")),
    _four(ICMP(type=3, code=4, nexthopmtu=1400) / _BACK4),
    _four(ICMP(type=11) / _BACK4),
    _four(ICMP(type=11) / _BACK4 / Raw(bytes(1440))),
    _four(SCTP(sport=4000, dport=80) / SCTPChunkInit()),
    _four(SCTP(sport=4000, dport=80, tag=7) / SCTPChunkData(data=b"payload")),
    _four(ICMP(type=3, code=2) / IP(src=VIP4, dst=CLIENT4) / SCTP(sport=80, dport=4000)),
    _six(SCTP(sport=4000, dport=80) / SCTPChunkInit(), dst=GUE6),
    _six(IPv6ExtHdrDestOpt() / SCTP(sport=4000, dport=80) / SCTPChunkData(data=b"payload")),
    _four(TCP(sport=4000, dport=80, flags="S"), dst=GUARDED4),
    _four(TCP(sport=4000, dport=80, flags="A"), dst=GUARDED4, src="192.0.2.250"),
    _six(TCP(sport=4000, dport=80, flags="S"), dst=GUARDED6),
    _six(TCP(sport=4000, dport=80, flags="A"), dst=GUARDED6, src="2001:db8:9::1"),
    _four(UDP(sport=4000, dport=80), src=DENIED4),
    _four(ICMP(), src=DENIED4),
    _six(TCP(sport=4000, dport=80, flags="S"), src=DENIED6),
    _six(ICMPv6ND_NS(tgt=VIP6), src=DENIED6),
    _four(UDP(dport=53), dst=NODE4),
    _four(TCP(dport=22), dst=NODE4),
    _six(TCP(sport=4000, dport=80, flags="S")),
    _six(UDP(sport=4000, dport=80) / Raw(b"payload"), tc=0xB9),
    _six(UDP(sport=4000, dport=81), dst=ANY6),
    _six(IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=4000, dport=80)),
    _six(IPv6ExtHdrFragment(id=7, m=1) / UDP(sport=4000, dport=80) / Raw(bytes(16))),
    _six(IPv6ExtHdrFragment(id=7, offset=3, nh=17) / Raw(bytes(40))),
    _six(UDP(sport=4000, dport=80) / Raw(bytes(1452))),
    _six(ICMPv6EchoRequest(id=1, seq=2, data=b"payload")),
    _six(ICMPv6PacketTooBig(mtu=1400) / _BACK6),
    _six(ICMPv6PacketTooBig(mtu=1400) / IPv6(bytes(_BACK6))),
    _six(ICMPv6ND_NS(tgt=VIP6)),
    _six(TCP(dport=22), dst=NODE6),
    _four(_four(TCP(dport=80))),
)

_LINK = Ether(dst=NODE_MAC, src=ROUTER_MAC)

CORPUS = tuple(
    bytes(frame)
    for frame in (
        *(_LINK / packet for packet in _PACKETS),
        *(_LINK / Dot1Q(vlan=7) / packet for packet in _PACKETS[::3]),
        *(_LINK / Dot1AD(vlan=9) / Dot1Q(vlan=7) / packet for packet in _PACKETS[1::3]),
        Ether(dst="ff:ff:ff:ff:ff:ff", src=ROUTER_MAC) / ARP(pdst=VIP4),
    )
)
