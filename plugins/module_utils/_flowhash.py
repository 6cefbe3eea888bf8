# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hash of a flow: the same value here and in bpf/flowhash.h.

Private to the collection. The specification, for any language; `le64` and so on read bytes of
the packet as they are on the wire, little-endian, and all arithmetic is modulo 2^64:

    K            = 0x9E3779B97F4A7C15
    absorb(h, w) : h = (h ^ w) * K;  return h ^ h >> 29
    finish(h)    : h ^= h >> 33;  h *= 0xFF51AFD7ED558CCD
                   h ^= h >> 33;  h *= 0xC4CEB9FE1A85EC53;  return h ^ h >> 33

    IPv4         : h = absorb(seed, le64(source (4 bytes) followed by destination (4 bytes)))
    IPv6         : h = seed; then absorb le64 of each of
                   source[0:8], source[8:16], destination[0:8], destination[8:16], in this order
    ports        = le16(source port) | le16(destination port) << 16 | protocol << 32
    hash         = finish(h ^ ports)
    slot         = (hash >> 32) * size >> 32

A pool's identity says what of the flow is hashed; the rest is 0, and IPv4 without addresses:

    five_tuple          : all of it
    without_source_port : source, destination, destination port, protocol
    source_address      : source
    destination_port    : destination port

Every step is a bijection, so two flows between the same two addresses never have the same hash.
29 is no multiple of 8: with 32, what the last byte of one word changes, the same change in two
bytes of the next word undoes, whatever the seed.
`finish` is the finaliser of MurmurHash3 (A. Appleby, public domain); K is 2^64 over the golden
ratio; the slot is D. Lemire's "fast alternative to the modulo reduction" (2016).
The hash spreads flows. It does not resist someone who knows the seed.
"""

from __future__ import annotations

import socket

from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed

_MASK = 0xFFFFFFFFFFFFFFFF
_K = 0x9E3779B97F4A7C15


def _absorb(state: int, word: int) -> int:
    state = (state ^ word) * _K & _MASK
    return state ^ state >> 29


def _finish(state: int) -> int:
    state ^= state >> 33
    state = state * 0xFF51AFD7ED558CCD & _MASK
    state ^= state >> 33
    state = state * 0xC4CEB9FE1A85EC53 & _MASK
    return state ^ state >> 33


def _wire(port: int) -> int:
    """A port number as the little-endian word its two bytes on the wire make."""
    return (port & 0xFF) << 8 | port >> 8


def flow_hash(
    seed: int,
    source: str | bytes,
    destination: str | bytes,
    protocol: int,
    source_port: int,
    destination_port: int,
) -> int:
    """64-bit hash of a flow, 0..2^64-1.

    seed: 0..2^64-1. Addresses as text or as 4 or 16 packed bytes, both of one family.
    Raises ValueError for addresses of two families.
    """
    source, destination = packed(source), packed(destination)
    if len(source) != len(destination):
        raise ValueError("source and destination are of different families")
    return packed_hash(seed, source, destination, protocol, source_port, destination_port)


def packed_hash(
    seed: int,
    source: bytes,
    destination: bytes,
    protocol: int,
    source_port: int,
    destination_port: int,
) -> int:
    """`flow_hash` of addresses that are known to be packed and of one family: for millions."""
    state = seed
    addresses = source + destination
    for start in range(0, len(addresses), 8):
        state = _absorb(state, int.from_bytes(addresses[start : start + 8], "little"))
    ports = _wire(source_port) | _wire(destination_port) << 16 | protocol << 32
    return _finish(state ^ ports)


def identity_hash(
    identity: str,
    seed: int,
    source: bytes,
    destination: bytes,
    protocol: int,
    source_port: int,
    destination_port: int,
) -> int:
    """The hash that picks the slot in a pool of that identity; of a packed flow."""
    if identity == "five_tuple":
        return packed_hash(seed, source, destination, protocol, source_port, destination_port)
    if identity == "without_source_port":
        return packed_hash(seed, source, destination, protocol, 0, destination_port)
    if identity == "source_address":
        return packed_hash(seed, source, bytes(len(source)), 0, 0, 0)
    return packed_hash(seed, bytes(4), bytes(4), 0, 0, destination_port)


def slot(hash_: int, size: int) -> int:
    """The slot, 0..size-1, that a flow's hash picks in a ring of `size` slots (below 2^32)."""
    return (hash_ >> 32) * size >> 32


def outer_source(prefix: str, hashed: int) -> str:
    """The outer source that a flow has where sources are spread over a prefix (bpf/encap.h)."""
    address, _slash, length = prefix.partition("/")
    raw = packed(address)
    number = int.from_bytes(raw, "big") | hashed & (1 << len(raw) * 8 - int(length)) - 1
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, number.to_bytes(len(raw), "big"))


def gue_source_port(hashed: int) -> int:
    """What GUE shows of a flow's hash: a dynamic port (bpf/gue.h)."""
    return 0xC000 | hashed & 0x3FFF
