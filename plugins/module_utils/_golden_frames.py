# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of every kind that the data path tells apart, made by hand: no library for them is on
nodes.

Private to the collection; pure. Addresses are packed bytes, both of one family. Checksums are
right, though the data path looks at none.
"""

from __future__ import annotations

import struct
from functools import lru_cache

MAC = bytes.fromhex("020000000001")
"""Of the router that the frames come from."""

TCP, UDP, SCTP, GRE, ICMP, ICMP6 = 6, 17, 132, 47, 1, 58
FIN, SYN, ACK = 0x01, 0x02, 0x10
SCTP_DATA, SCTP_INIT = 0, 1

_ETHERTYPES = {4: 0x0800, 16: 0x86DD}
_FRAGMENT, _DESTINATION_OPTIONS = 44, 60


def ethernet(destination: bytes, packet: bytes, tags: int = 0) -> bytes:
    """A frame around an IP packet, in so many VLAN tags."""
    kind = struct.pack("!H", _ETHERTYPES[16 if packet[0] >> 4 == 6 else 4])
    return destination + MAC + b"\x81\x00\x00\x07" * tags + kind + packet


def checksum(data: bytes) -> int:
    """RFC 1071."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    return source + destination + struct.pack("!II", length, protocol)


def tcp(source: bytes, destination: bytes, ports: tuple[int, int], flags: int, data: int) -> bytes:
    """A TCP segment with `data` bytes."""
    payload = b"g" * data
    header = struct.pack("!HHIIBBHHH", *ports, 1, int(bool(flags & ACK)), 5 << 4, flags, 512, 0, 0)
    length = len(header) + data
    check = checksum(_pseudo(source, destination, TCP, length) + header + payload)
    return header[:16] + struct.pack("!H", check) + header[18:] + payload


def udp(source: bytes, destination: bytes, ports: tuple[int, int], data: int) -> bytes:
    """A UDP datagram with `data` bytes."""
    payload = b"g" * data
    header = struct.pack("!HHHH", *ports, 8 + data, 0)
    check = checksum(_pseudo(source, destination, UDP, 8 + data) + header + payload)
    return header[:6] + struct.pack("!H", check or 0xFFFF) + payload


def sctp(ports: tuple[int, int], chunk: int, data: int = 8) -> bytes:
    """An SCTP packet: an INIT, which has tag 0, or a chunk with `data` bytes (RFC 9260, 3.3)."""
    tag, body = 1, struct.pack("!IHHI", 1, 0, 0, 0) + b"g" * data
    if chunk == SCTP_INIT:
        tag, body = 0, struct.pack("!IIHHI", 1, 65536, 1, 1, 1)
    flags = 0 if chunk == SCTP_INIT else 3  # first and last part of a message
    payload = struct.pack("!BBH", chunk, flags, 4 + len(body)) + body
    payload += bytes(-len(payload) % 4)
    head = struct.pack("!HHI", *ports, tag)
    return head + struct.pack("<I", crc32c(head + bytes(4) + payload)) + payload


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC, as SCTP reckons it (RFC 9260, appendix A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _crc32c_table()[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _bit in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def icmp(source: bytes, destination: bytes, kind: int, code: int, rest: int, data: bytes) -> bytes:
    """A message of ICMP or ICMPv6; `rest` is the header's second word."""
    body = struct.pack("!BBHI", kind, code, 0, rest) + data
    before = _pseudo(source, destination, ICMP6, len(body)) if len(source) == 16 else b""
    return body[:2] + struct.pack("!H", checksum(before + body)) + body[4:]


def ip(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    options: bool = False,
    fragment: tuple[int, bool] | None = None,
) -> bytes:
    """An IP packet. fragment: (offset in 8 bytes, whether more follow)."""
    if len(source) == 4:
        return _ipv4(source, destination, protocol, payload, options, fragment)
    return _ipv6(source, destination, protocol, payload, options, fragment)


def _ipv4(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    options: bool,
    fragment: tuple[int, bool] | None,
) -> bytes:
    extra = b"\x01\x01\x01\x00" if options else b""  # no operation, thrice, and the end
    offset, more = fragment or (0, False)
    header = struct.pack(
        "!BBHHHBBH",
        0x45 + len(extra) // 4,
        0,
        20 + len(extra) + len(payload),
        0x6F6C,
        (0x2000 if more else 0) | offset,
        61,
        protocol,
        0,
    )
    header += source + destination + extra
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def _ipv6(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    options: bool,
    fragment: tuple[int, bool] | None,
) -> bytes:
    body, first = payload, protocol
    if fragment is not None:
        offset, more = fragment
        body = struct.pack("!BBHI", first, 0, offset << 3 | int(more), 0x6F6C646E) + body
        first = _FRAGMENT
    if options:
        body = struct.pack("!BBBB4x", first, 0, 1, 4) + body  # PadN
        first = _DESTINATION_OPTIONS
    return struct.pack("!IHBB", 6 << 28, len(body), first, 61) + source + destination + body


def arp() -> bytes:
    head = bytes.fromhex("ffffffffffff") + MAC + bytes.fromhex("08060001080006040001")
    return head + MAC + bytes([198, 18, 0, 1]) + bytes(6) + bytes([198, 18, 0, 2]) + bytes(18)
