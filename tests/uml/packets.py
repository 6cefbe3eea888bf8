# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets that a client sends, and what nodes put them into."""

from __future__ import annotations

import socket
import struct

CLIENT_PORT = 4000


def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0)
    total = checksum(head + addresses)
    return head[:10] + struct.pack("!H", total) + addresses + payload


def packed6(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def ipv6(source: str, destination: str, header: int, payload: bytes) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(payload), header, 64)
    return head + packed6(source) + packed6(destination) + payload


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """Of the addresses' version."""
    build = ipv6 if ":" in source else ipv4
    return build(source, destination, protocol, payload)


def datagram(text: bytes, pseudo_header: bytes = b"", port: int = 80) -> bytes:
    """Its checksum is optional in IPv4, not in IPv6."""
    udp = struct.pack("!HHHH", CLIENT_PORT, port, 8 + len(text), 0) + text
    if not pseudo_header:
        return udp
    total = checksum(pseudo_header + struct.pack("!II", len(udp), 17) + udp)
    return udp[:6] + struct.pack("!H", total or 0xFFFF) + udp[8:]


def request(client: str, service: str, text: bytes, port: int = 80) -> bytes:
    """A client's datagram with its headers."""
    pseudo_header = packed6(client) + packed6(service) if ":" in service else b""
    return ip(client, service, socket.IPPROTO_UDP, datagram(text, pseudo_header, port))
