# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is timed: the cases, and the ways a pool can be when their packets come.

A new case is a line in CASES.
"""

from __future__ import annotations

from dataclasses import dataclass

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

ROUTER_MAC, NODE_MAC = "02:00:00:00:00:01", "02:00:00:00:00:0b"
VIP4, VIP6 = "203.0.113.10", "2001:db8:100::10"
# The harness writes the last bits: as many flows as a case has.
CLIENT4, CLIENT6 = "100.64.0.0", "2001:db8:3::"
FOREIGN4, FOREIGN6 = "203.0.113.99", "2001:db8:100::99"

TRACKING = ("adaptive", "always", "never")
RINGS = {"settled": 0.0, "some": 0.03, "all": 1.0}
"""The share of tracked slots in each state of a ring."""


@dataclass(frozen=True)
class Case:
    """A kind of traffic: `flows` (a power of two) clients send `packet` to one service.

    steered: whether it reaches a ring, so that tracking can matter. target: ns a packet, what it
    should cost at most on a settled ring. katran: what Katran's program took elsewhere, one value
    or a range (a SYN: with its flood limit on, and when it is recorded).
    """

    name: str
    packet: Packet
    flows: int
    verdict: str = "sent"
    forwarding: str = "ipip"
    target: int | None = None
    katran: tuple[int, ...] = ()

    @property
    def steered(self) -> bool:
        return self.verdict != "pass_foreign"

    def frame(self, port: int) -> bytes:
        """The client's frame to that port, as short as Ethernet allows."""
        packet = self.packet.copy()
        packet.payload.dport = port
        frame = Ether(dst=NODE_MAC, src=ROUTER_MAC) / packet
        return bytes(frame).ljust(60, b"\0")


def _v4(transport: Packet, destination: str = VIP4) -> Packet:
    return IP(src=CLIENT4, dst=destination) / transport


def _v6(transport: Packet, destination: str = VIP6) -> Packet:
    return IPv6(src=CLIENT6, dst=destination) / transport


ACK, SYN = TCP(flags="A"), TCP(flags="S")

CASES = (
    Case("TCP, 1 flow", _v4(ACK), 1, target=70, katran=(135,)),
    Case("TCP, 1,024 flows", _v4(ACK), 1 << 10, katran=(138,)),
    Case("TCP, 65,536 flows", _v4(ACK), 1 << 16, target=90, katran=(248,)),
    Case("SYN, 1,024 flows", _v4(SYN), 1 << 10, target=80, katran=(145, 265)),
    Case("SYN flood, 4M sources", _v4(SYN), 1 << 22, target=80, katran=(225, 926)),
    Case("UDP, 1,024 flows", _v4(UDP()), 1 << 10, target=75, katran=(161,)),
    Case("IPv6 TCP, 1,024 flows", _v6(ACK), 1 << 10, target=80, katran=(145,)),
    Case("GUE, 1,024 flows", _v4(ACK), 1 << 10, forwarding="gue", target=105, katran=(304,)),
    Case("MAC addresses, 1,024 flows", _v4(ACK), 1 << 10, forwarding="l2"),
    Case("foreign IPv4", _v4(ACK, FOREIGN4), 1 << 10, "pass_foreign", target=45, katran=(62,)),
    Case("foreign IPv6", _v6(ACK, FOREIGN6), 1 << 10, "pass_foreign", target=45, katran=(68,)),
)


@dataclass(frozen=True)
class Way:
    """How a pool is: which flows it tracks, and which of its ring's slots have changed."""

    tracking: str
    ring: str
    forwarding: str

    @property
    def pool(self) -> str:
        return f"{self.forwarding}-{self.tracking}-{self.ring}"

    @property
    def records(self) -> bool:
        """Whether flows get into the flow table."""
        return self.tracking == "always" or (self.tracking == "adaptive" and self.ring != "settled")


def ways(forwarding: str) -> list[Way]:
    return [Way(tracking, ring, forwarding) for tracking in TRACKING for ring in RINGS]


def measured() -> list[tuple[Case, Way]]:
    """Every case with every way that can matter to it."""
    pairs = []
    for case in CASES:
        every = ways(case.forwarding)
        pairs += [(case, way) for way in (every if case.steered else every[:1])]
    return pairs
