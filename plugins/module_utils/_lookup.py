# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single entries of a node's maps, looked up as the program looks them up for one packet.

Private to the collection. Reads only, and no map as a whole: it costs the same whatever the node
holds. A lookup by system call does not count as use of a flow (the LRU's order stays).
"""

from __future__ import annotations

import ctypes as ct
import socket
from dataclasses import dataclass
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _filter, _shortcuts
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    PROTOCOLS,
    BackendEntry,
    PoolEntry,
    ServiceEntry,
    ServiceKey,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import Packet
from ansible_collections.l4lb.xdp.plugins.module_utils._steer import Flow, Slot
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables


@dataclass(frozen=True)
class CachedHop:
    """What a CPU last heard of the way to a backend: interface by index, jiffy of the answer."""

    cpu: int
    asked: int
    interface: int
    mac: str


class Lookup:
    """A node's maps, entry by entry."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def shortcut(self, packet: Packet) -> tuple[ServiceKey, ServiceEntry] | None:
        """The packet's service where it is found without a search."""
        key = ServiceKey(packet.destination, packet.destination_port, packet.protocol)
        leaf = self._leaf("shortcuts", _shortcuts.place(key, self._tables.sizes.services))
        if not _shortcuts.leads(bytes(leaf), key):
            return None
        number, pool = leaf.service.id, leaf.service.pool
        return key, ServiceEntry(number, pool, self._name("service_names", number))

    def passes(self, packet: Packet) -> bool:
        """Whether the filter of service addresses lets the packet go on to the services."""
        services = self._tables.sizes.services
        index, bit = _filter.place(packet.destination, services)
        word = ct.c_uint64()
        _bpf.look_up(self._tables.table("address_filter").map_fd, ct.c_uint32(index), word)
        return bool(word.value >> bit & 1)

    def service(self, packet: Packet) -> tuple[ServiceKey, ServiceEntry] | None:
        """The packet's service: by its exact port, else by port 0."""
        for port in (packet.destination_port, 0):
            key = ServiceKey(packet.destination, port, packet.protocol)
            table, at = self._tables.service_key(key)
            leaf = table.Leaf()
            if _bpf.look_up(table.map_fd, at, leaf):
                name = self._name("service_names", leaf.id)
                return key, ServiceEntry(leaf.id, leaf.pool, name)
        return None

    def address(self, packet: Packet) -> ServiceEntry | None:
        """The first service of the packet's destination, whatever the port."""
        table, at = self._tables.address_key(packet.destination)
        leaf = table.Leaf()
        if not _bpf.look_up(table.map_fd, at, leaf):
            return None
        return ServiceEntry(leaf.id, leaf.pool, self._name("service_names", leaf.id))

    def pool(self, index: int) -> PoolEntry:
        return self._tables.pool_entry(self._leaf("pools", index), self._name("pool_names", index))

    def slot(self, pool: int, number: int) -> Slot:
        """A slot of the pool's live ring; one without backends where the pool has no ring."""
        ring = ct.c_uint32()
        leaf = self._tables.table("ring_template").Leaf()
        if _bpf.look_up(self._tables.table("rings").map_fd, ct.c_uint32(pool), ring):
            with _bpf.closing(_bpf.open_map(ring.value)) as fd:
                _bpf.look_up(fd, ct.c_uint32(number), leaf)
        return Slot(number, leaf.current, leaf.previous, leaf.tracked)

    def server(self, pool: int, server_id: int) -> int:
        """The index of the backend with that id in the pool; 0 where none has it."""
        table = self._tables.table("server_ids")
        found = ct.c_uint32()
        key = table.Key(id=server_id, pool=pool)
        return found.value if _bpf.look_up(table.map_fd, key, found) else 0

    def flow(self, packet: Packet) -> Flow | None:
        """The record of the packet's flow, however old."""
        source, destination = packed(packet.source), packed(packet.destination)
        table = self._tables.table("flows4" if len(source) == 4 else "flows6")
        key = table.Key(
            source_port=socket.htons(packet.source_port),
            destination_port=socket.htons(packet.destination_port),
            protocol=PROTOCOLS[packet.protocol],
        )
        at = ct.addressof(key)
        ct.memmove(at + table.Key.source.offset, source, len(source))
        ct.memmove(at + table.Key.destination.offset, destination, len(destination))
        leaf = table.Leaf()
        if not _bpf.look_up(table.map_fd, key, leaf):
            return None
        return Flow(leaf.backend, leaf.seen)

    def backend(self, index: int) -> BackendEntry | None:
        """None where an index is beyond the map."""
        table = self._tables.table("backends")
        leaf = table.Leaf()
        if not _bpf.look_up(table.map_fd, ct.c_uint32(index), leaf):
            return None
        return self._tables.backend_entry(leaf)

    def hops(self, backend: int) -> list[CachedHop]:
        """The next hops that CPUs have found for the backend, fresh or not."""
        cpus = enumerate(self._leaf("nexthops", backend))
        return [
            CachedHop(cpu, hop.asked, hop.interface, bytes(hop.destination).hex(":"))
            for cpu, hop in cpus
            if hop.interface
        ]

    def _leaf(self, name: str, index: int) -> Any:
        table = self._tables.table(name)
        leaf = table.Leaf()
        _bpf.look_up(table.map_fd, ct.c_uint32(index), leaf)
        return leaf

    def _name(self, names: str, index: int) -> str:
        return str(self._leaf(names, index).text.decode())
