# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter of service addresses: the same bit here and in bpf/services.h.

Private to the collection. Of what is not a service's, nearly every packet ends at a bit that is 0.
With `le32` the four bytes of an address as they are on the wire, little-endian, modulo 2^64:

    IPv4 : hash = le32(address) * K
    IPv6 : hash = (le32(address[0:4]) | le32(address[4:8]) << 32) * K
                + (le32(address[12:16]) | le32(address[8:12]) << 32) * L
    bit  = (hash >> 32 ^ hash & 0xFFFFFFFF) * bits >> 32: in word bit / 64, 1 << bit % 64
    K    = 0x9E3779B97F4A7C15, L = 0xFF51AFD7ED558CCD, bits = 16 * the services there can be

Both halves of the hash, because one alone clusters addresses that follow each other. Whoever picks
addresses can make all of them meet one bit: their packets then cost what they would without it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed

WORD_BITS = 64
_BITS_PER_SERVICE = 16
MULTIPLIER = 0x9E3779B97F4A7C15
_L = 0xFF51AFD7ED558CCD


def address_hash(address: bytes) -> int:
    """Of 64 bits, the upper half of which is exclusive-or'd with the lower."""
    raw = address.ljust(16, b"\0")
    first, second, third, last = (int.from_bytes(raw[i : i + 4], "little") for i in (0, 4, 8, 12))
    hashed = (first | second << 32) * MULTIPLIER + (last | third << 32) * _L
    return (hashed ^ hashed << 32) & 0xFFFFFFFFFFFFFFFF


def place(address: str | bytes, services: int) -> tuple[int, int]:
    """The word of an address and its bit there (0..63). services: how many the maps hold."""
    bit = (address_hash(packed(address)) >> 32) * _BITS_PER_SERVICE * services >> 32
    return divmod(bit, WORD_BITS)


def words(addresses: Iterable[str], services: int) -> dict[int, int]:
    """The filter of these addresses: its words that are not 0, by index."""
    found: dict[int, int] = {}
    for address in addresses:
        index, bit = place(address, services)
        found[index] = found.get(index, 0) | 1 << bit
    return found


def differing(have: dict[int, int], want: dict[int, int]) -> dict[int, int]:
    """The words to write, by index, so that those of `have` become those of `want`."""
    indices = sorted(have.keys() | want.keys())
    return {i: want.get(i, 0) for i in indices if have.get(i, 0) != want.get(i, 0)}
