# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's maps of guards: what `_guards` plans against and writes to.

Private to the collection. Prefixes go in by the thousand: a system call for each takes seconds.
"""

from __future__ import annotations

import ctypes as ct
import socket
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _rates
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._guards import (
    OPEN,
    Allowed,
    Guards,
    ServiceGuard,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

BATCH = 4096
"""Entries of a system call: a few milliseconds."""

_ID_BITS = 32


class GuardTables:
    """A node's pinned maps of guards."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    # --- reading ---

    def guards(self) -> Guards:
        denied = (prefix for _id, prefix in self._prefixes("deny"))
        return Guards(
            frozenset(denied),
            frozenset(self._prefixes("allow")),
            self.services(),
            frozenset(self.on()),
        )

    def on(self) -> set[str]:
        """What the program looks up: words of enum guard."""
        words = self._tables.words
        bits = self._tables.table("settings")[0].guards
        return {w for w in words.enums["guard"][:-1] if bits & 1 << words.value("guard", w)}

    def guard(self, service: int) -> ServiceGuard:
        """Of one service."""
        table = self._tables.table("service_guards")
        leaf = table.Leaf()
        _bpf.look_up(table.map_fd, ct.c_uint32(service), leaf)
        return _guard(leaf)

    def matches(self, kind: str, address: str, service: int = 0) -> bool:
        """Whether a prefix has the address, as the program asks; kind: deny, allow."""
        bits = len(packed(address)) * 8
        table = self._table(kind, address)
        key = _key(table, f"{address}/{bits}", service)
        return _bpf.look_up(table.map_fd, key, table.Leaf())

    def dues(self, service: int) -> list[int]:
        """When each CPU's bucket of new flows will be full: ns of the data path's clock."""
        return [cpu.due for cpu in self._tables.table("guard_states")[service]]

    def services(self) -> dict[int, ServiceGuard]:
        """Those that are not OPEN, by id."""
        entries = self._tables.entries("service_guards")
        found = {key: _guard(leaf) for key, leaf in entries if leaf.new_flows or leaf.allow}
        return {key: guard for key, guard in found.items() if guard != OPEN}

    def _prefixes(self, kind: str) -> Iterator[Allowed]:
        for family, length in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            name = f"{kind}{'4' if length == 4 else '6'}"
            table = self._tables.table(name)
            head = _ID_BITS if hasattr(table.Key, "service") else 0
            for keys, _values, count in _bpf.read_batches(
                table.map_fd, table.Key, table.Leaf, BATCH
            ):
                for key in keys[:count]:
                    raw = bytes(key)[-length:]
                    text = f"{socket.inet_ntop(family, raw)}/{key.length - head}"
                    yield (key.service if head else 0), text

    # --- writing ---

    def put_denied(self, prefixes: Collection[str]) -> None:
        self._put("deny", ((0, prefix) for prefix in prefixes))

    def remove_denied(self, prefixes: Collection[str]) -> None:
        self._remove("deny", ((0, prefix) for prefix in prefixes))

    def put_allowed(self, entries: Collection[Allowed]) -> None:
        self._put("allow", entries)

    def remove_allowed(self, entries: Collection[Allowed]) -> None:
        self._remove("allow", entries)

    def put_guard(self, service: int, guard: ServiceGuard) -> None:
        table = self._tables.table("service_guards")
        leaf = table.Leaf(
            interval=_rates.interval(guard.new_flows, _rates.cpus()),
            new_flows=guard.new_flows,
            allow=guard.allow,
        )
        what = f"write the guard of service {service}"
        _bpf.update(table.map_fd, ct.c_uint32(service), leaf, what)

    def put_guards_on(self, words: Collection[str]) -> None:
        table = self._tables.table("settings")
        leaf = table[0]
        leaf.guards = sum(1 << self._tables.words.value("guard", word) for word in words)
        _bpf.update(table.map_fd, ct.c_uint32(0), leaf, "write settings")

    def _put(self, kind: str, entries: Iterable[Allowed]) -> None:
        for table, keys in self._batches(kind, entries):
            values = (table.Leaf * len(keys))(*([1] * len(keys)))
            _bpf.update_batch(table.map_fd, keys, values, f"write {len(keys)} prefixes to {kind}")

    def _remove(self, kind: str, entries: Iterable[Allowed]) -> None:
        for table, keys in self._batches(kind, entries):
            _bpf.delete_batch(table.map_fd, keys, f"remove {len(keys)} prefixes of {kind}")

    def _batches(self, kind: str, entries: Iterable[Allowed]) -> Iterator[tuple[Any, Any]]:
        """Tables and arrays of keys, sorted so that runs are alike."""
        ordered = sorted(entries)
        for six in (False, True):
            table = self._tables.table(f"{kind}{6 if six else 4}")
            keys = [_key(table, prefix, i) for i, prefix in ordered if (":" in prefix) == six]
            for start in range(0, len(keys), BATCH):
                some = keys[start : start + BATCH]
                yield table, (table.Key * len(some))(*some)

    def _table(self, kind: str, address: str) -> Any:
        return self._tables.table(f"{kind}{'6' if ':' in address else '4'}")


def _guard(leaf: Any) -> ServiceGuard:
    new_flows = _rates.rate(leaf.interval, leaf.new_flows, _rates.cpus())
    return ServiceGuard(new_flows, bool(leaf.allow))


def _key(table: Any, prefix: str, service: int) -> Any:
    address, _slash, length = prefix.partition("/")
    raw = packed(address)
    key = table.Key(length=int(length))
    if hasattr(key, "service"):
        key.length, key.service = key.length + _ID_BITS, service
    ct.memmove(ct.addressof(key) + ct.sizeof(key) - len(raw), raw, len(raw))
    return key
