# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A packet as far as it matters where it goes, and what may be said about one.

Private to the collection; pure.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from ansible_collections.l4lb.xdp.plugins.module_utils._address import (
    endpoint,
    packed,
    require_netaddr,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import PROTOCOLS
from ansible_collections.l4lb.xdp.plugins.module_utils._quic import MAX_CONNECTION_ID

OPENINGS = {"tcp": "SYN", "sctp": "INIT"}
"""What opens a connection; of other protocols nothing does."""

_ICMP, _ICMP6 = ("icmp", "1"), ("ipv6-icmp", "icmpv6", "58")


class PacketError(L4lbError):
    """No packet is like that; the text names the arguments."""


@dataclass(frozen=True)
class Packet:
    """Addresses of one family, in their canonical text; the ports are 0 when `is_balanced` is not.

    connection_id: of a QUIC packet that has one which a server issued, all but Initial and 0-RTT.
    opens: a TCP SYN without ACK, an SCTP INIT.
    """

    source: str
    destination: str
    protocol: str
    source_port: int = 0
    destination_port: int = 0
    opens: bool = False
    connection_id: bytes = b""

    @property
    def is_balanced(self) -> bool:
        """Whether the balancer looks at packets of this protocol at all."""
        return self.protocol in PROTOCOLS

    @property
    def is_icmp(self) -> bool:
        """Whether it is ICMP of its family."""
        return self.protocol in (_ICMP6 if ":" in self.destination else _ICMP)

    @property
    def protocol_number(self) -> int:
        """Of a packet that is balanced, or ICMP of its family."""
        if self.is_icmp:
            return socket.IPPROTO_ICMPV6 if ":" in self.destination else socket.IPPROTO_ICMP
        return PROTOCOLS[self.protocol]

    def __str__(self) -> str:
        if not self.is_balanced:
            return f"{self.protocol} {self.source} -> {self.destination}"
        source = endpoint(self.source, self.source_port)
        return f"{self.protocol} {source} -> {endpoint(self.destination, self.destination_port)}"


def parse(
    source_address: str,
    destination_address: str,
    protocol: str,
    source_port: int | None = None,
    destination_port: int | None = None,
    opens: bool = False,
    connection_id: str | None = None,
) -> Packet:
    """The packet. Raises PacketError with every mistake, each naming the argument."""
    require_netaddr()
    mistakes: list[str] = []
    source = _address("source_address", source_address, mistakes)
    destination = _address("destination_address", destination_address, mistakes)
    if source and destination and (":" in source) != (":" in destination):
        mistakes.append(
            f"source_address {source} and destination_address {destination} are of different "
            "families: give both as IPv4 or both as IPv6"
        )
    word = _protocol(protocol, mistakes)
    ports = {"source_port": source_port, "destination_port": destination_port}
    if word in PROTOCOLS:
        for name, port in ports.items():
            _check_port(name, port, word, mistakes)
    if opens and word not in OPENINGS:
        mistakes.append(f"opens: no {word} packet opens a connection as a TCP SYN does: omit it")
    read_id = _connection_id(connection_id, word, mistakes)
    if mistakes:
        raise PacketError("; ".join(mistakes))
    if word not in PROTOCOLS:
        return Packet(source, destination, word)
    ends = source_port or 0, destination_port or 0
    return Packet(source, destination, word, *ends, opens, read_id)


def _connection_id(text: str | None, protocol: str, mistakes: list[str]) -> bytes:
    """Hexadecimal digits, as QUIC's tools show it."""
    if not text:
        return b""
    if protocol != "udp":
        mistakes.append(f"connection_id: QUIC has one, and that is udp, not {protocol}: omit it")
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if not 1 <= len(raw) <= MAX_CONNECTION_ID:
        mistakes.append(
            f"connection_id {text!r} is not 1 to {MAX_CONNECTION_ID} bytes in hexadecimal digits"
        )
    return raw


def _address(name: str, text: str, mistakes: list[str]) -> str:
    """In canonical form. Any address: a packet may have one that no service and no backend has."""
    try:
        raw = packed(text)
    except ValueError:
        mistakes.append(f"{name} {text!r} is not an IPv4 or IPv6 address")
        return ""
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _protocol(text: str, mistakes: list[str]) -> str:
    """Lower case, and a word where there is one for a number."""
    word = text.strip().lower()
    if not word:
        mistakes.append(
            "protocol is empty: give tcp, udp, sctp, or another protocol's name or number"
        )
    words = {str(number): name for name, number in PROTOCOLS.items()}
    return words.get(word, word)


def _check_port(name: str, port: int | None, protocol: str, mistakes: list[str]) -> None:
    if port is None:
        mistakes.append(f"{name} is missing: a {protocol} packet has one")
    elif not 0 <= port <= 65535:
        mistakes.append(f"{name} {port} is not from 0 to 65535")
