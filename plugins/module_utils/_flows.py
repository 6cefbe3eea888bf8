# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flow tables, read as a whole: about half a second for a million records, a batch at a time.

Private to the collection. Where a field lies in a record is bcc's to say, from `bpf/maps.h`; it is
turned into a format of `struct` here, because an attribute of a ctypes object costs ten times as
much as a whole record unpacked.

A scan sees every record that is there from its beginning to its end, each once: a record stays in
its bucket of the hash, and a batch takes whole buckets, each under its lock. Records that come, go
or are refreshed meanwhile are seen as they are when their bucket's turn comes, or not at all.
"""

from __future__ import annotations

import ctypes as ct
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf

if TYPE_CHECKING:
    from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

TABLES = {"ipv4": "flows4", "ipv6": "flows6"}

Record = tuple[bytes, bytes, int, int, int, int, int]
"""Source, destination (4 or 16 bytes each), source port, destination port, protocol; the index of
the flow's backend, and the tick of its last packet. A plain tuple: there may be millions."""


def count(tables: Tables) -> dict[str, int]:
    """How many records there are, by family."""
    return {
        family: sum(rows for _keys, _values, rows in _batches(tables.table(name)))
        for family, name in TABLES.items()
    }


def named(tables: Tables) -> set[int]:
    """The indices of the backends that a record names, however old it is."""
    found: set[int] = set()
    for name in TABLES.values():
        table = tables.table(name)
        backend = _unpacker("=", ct.sizeof(table.Leaf), {table.Leaf.backend.offset: "I"})
        for _keys, values, _rows in _batches(table):
            found.update(index for (index,) in backend.iter_unpack(values))
    return found


def living_by_backend(tables: Tables, now: int, since_ticks: int) -> dict[int, int]:
    """How many flows had a packet within the last `since_ticks`, by backend index; none: absent."""
    found: Counter[int] = Counter()
    for name in TABLES.values():
        table = tables.table(name)
        value = _value(table)
        for _keys, values, _rows in _batches(table):
            found.update(
                backend for backend, seen in value.iter_unpack(values) if now - seen <= since_ticks
            )
    return dict(found)


def records(tables: Tables) -> Iterator[Record]:
    """All records, IPv4 first. Tables may be written while this runs: see above."""
    for name in TABLES.values():
        table = tables.table(name)
        key, value = _key(table), _value(table)
        for keys, values, _rows in _batches(table):
            for flow, state in zip(key.iter_unpack(keys), value.iter_unpack(values)):
                yield flow + state


def forget(tables: Tables, record: Record) -> None:
    """Removes a flow's record; one that is not there any more is fine."""
    flow = record[:5]
    table = tables.table(TABLES["ipv4" if len(flow[0]) == 4 else "ipv6"])
    at = table.Key.from_buffer_copy(_key(table).pack(*flow))
    _bpf.delete(table.map_fd, at, f"remove the record of a flow to {_text(flow[1])}")


def _batches(table: Any) -> Iterator[tuple[bytes, bytes, int]]:
    """A table's keys and values as bytes, record after record, and how many; a batch at a time."""
    key_size, value_size = ct.sizeof(table.Key), ct.sizeof(table.Leaf)
    for keys, values, rows in _bpf.read_batches(
        table.map_fd, table.Key, table.Leaf, table.max_entries
    ):
        if rows:
            yield ct.string_at(keys, rows * key_size), ct.string_at(values, rows * value_size), rows


def _key(table: Any) -> struct.Struct:
    """What makes of a key the first five of a Record, and back."""
    key = table.Key
    # Ports are in network order as the addresses are; the protocol, below 256, is in the node's
    # order in a wider field: its low byte.
    low = 0 if sys.byteorder == "little" else key.protocol.size - 1
    return _unpacker(
        ">",
        ct.sizeof(key),
        {
            key.source.offset: f"{key.source.size}s",
            key.destination.offset: f"{key.destination.size}s",
            key.source_port.offset: "H",
            key.destination_port.offset: "H",
            key.protocol.offset + low: "B",
        },
    )


def _value(table: Any) -> struct.Struct:
    """What makes of a value the last two of a Record."""
    leaf = table.Leaf
    return _unpacker("=", ct.sizeof(leaf), {leaf.backend.offset: "I", leaf.seen.offset: "I"})


def _unpacker(order: str, size: int, fields: dict[int, str]) -> struct.Struct:
    """Unpacks `fields` (offset -> code) of a C struct of `size` bytes and skips the rest."""
    codes, at = order, 0
    for offset, code in fields.items():
        codes += f"{offset - at}x{code}"
        at = offset + struct.calcsize(order + code)
    return struct.Struct(f"{codes}{size - at}x")


def _text(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
