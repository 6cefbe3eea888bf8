# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shortcuts to services: the same place here and in bpf/services.h.

Private to the collection; pure. With `hash` and K of _filter.py, and the port as it is on the wire,
read little-endian, modulo 2^64:

    both  = hash ^ hash << 32
    place = (both + (port | protocol << 16) * K >> 32) * places >> 32, places = 8 * the services
            there can be

Of services that meet at one place the first by key has it; the others are found by the hash maps,
as all are that have port 0.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._filter import MULTIPLIER, address_hash
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    PROTOCOLS,
    ServiceEntry,
    ServiceKey,
)

PLACES_PER_SERVICE = 8
WORDS = 4
"""Of 64 bits, in a shortcut."""
BYTES = 8 * WORDS
_SHORTCUT = struct.Struct("=16s2sBBIII")
_FAMILY, _TURN = 19, 20
"""Where in a shortcut the family (4, 6, or 0 where no service is) and the turn stand."""


def place(key: ServiceKey, services: int) -> int:
    """The index of its shortcut. services: how many the maps hold."""
    port = int.from_bytes(struct.pack("!H", key.port), "little")
    kind = port | PROTOCOLS[key.protocol] << 16
    hashed = address_hash(packed(key.address)) + kind * MULTIPLIER
    return (hashed >> 32 & 0xFFFFFFFF) * PLACES_PER_SERVICE * services >> 32


def shortcut(key: ServiceKey, service: ServiceEntry) -> bytes:
    """A struct shortcut whose turn is 0."""
    address = packed(key.address)
    port = struct.pack("!H", key.port)
    family = 4 if len(address) == 4 else 6
    kind = PROTOCOLS[key.protocol], family
    return _SHORTCUT.pack(address, port, *kind, 0, service.id, service.pool)


def shortcuts(services: Mapping[ServiceKey, ServiceEntry], size: int) -> dict[int, bytes]:
    """Those of all these services, by place. size: how many services the maps hold."""
    found: dict[int, bytes] = {}
    for key in sorted(services):
        if key.port:
            found.setdefault(place(key, size), shortcut(key, services[key]))
    return found


def leads(found: bytes, key: ServiceKey) -> bool:
    """Whether a struct shortcut is that service's."""
    return found[:_TURN] == shortcut(key, ServiceEntry(0, 0, ""))[:_TURN]


def taken(memory: bytes) -> dict[int, bytes]:
    """Those that lead to a service, by place, their turns 0. memory: of the whole map."""
    found = {}
    for i, family in enumerate(memory[_FAMILY::BYTES]):
        if family:
            found[i] = _timeless(memory[i * BYTES : (i + 1) * BYTES])
    return found


def _timeless(shortcut: bytes) -> bytes:
    return shortcut[:_TURN] + bytes(4) + shortcut[_TURN + 4 :]


def writes(shortcut: bytes, turn: int) -> list[tuple[int, int]]:
    """The words of a shortcut at a free place, by number, in the order in which they are written:
    last the one that says what it is for.
    """
    first, second, kind, service = struct.unpack("=4Q", shortcut)
    return [(0, first), (1, second), (3, service), (2, kind | _turned(turn))]


def removal(turn: int) -> tuple[int, int]:
    """The word, and its number, that makes a place free."""
    return 2, _turned(turn)


def _turned(turn: int) -> int:
    (word,) = struct.unpack("=Q", struct.pack("=II", 0, turn & 0xFFFFFFFF))
    return int(word)
