# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's maps as plain data: what a plan is made against, and what it is written to.

Private to the collection. Every struct is bcc's, from `bpf/maps.h`; numbers become words here and
words become numbers here, nowhere else.
"""

from __future__ import annotations

import ctypes as ct
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _bpf,
    _flows,
    _rates,
    _shortcuts,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    PROTOCOLS,
    Actual,
    BackendEntry,
    PoolEntry,
    ServiceEntry,
    ServiceKey,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._quic import Quic
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import (
    SLOT_BYTES,
    Slots,
    tick,
    ticks,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import (
    CLOCK_MONOTONIC_COARSE,
    PINS,
    SOURCE,
    SchemaError,
    Sizes,
    check_pins,
    compile_unit,
    other_layout,
    prepared_sizes,
    schema,
)

FRAGMENT_LIFETIME = 31
"""Seconds, rounded up, for which a first fragment is remembered (fragments.h)."""
_PROTOCOL_WORDS = {number: word for word, number in PROTOCOLS.items()}


class Tables:
    """The pinned maps of a node."""

    def __init__(self, pins: Path = Path(PINS), source: Path = Path(SOURCE)) -> None:
        """Opens them. Raises SchemaError when there are none, or they are another version's."""
        self.pins, self.source = pins, source
        self.sizes: Sizes = prepared_sizes(pins, source)
        self.words = schema(source)
        self._maps = compile_unit(source / "maps.h", pins, self.sizes)
        check_pins(source / "maps.h", pins, self._maps)

    def table(self, name: str) -> Any:
        """bcc's table of a map: its Key, its Leaf, its map_fd."""
        try:
            return self._maps[name.encode()]
        except KeyError:
            raise SchemaError(other_layout(self.source)) from None

    # --- reading ---

    def actual(self) -> Actual:
        """Services, pools and backends as the kernel holds them; rings are read by `ring`."""
        return Actual(
            dict(self._services()),
            dict(self._pools()),
            dict(self._backends()),
            self.sizes,
            dict(self._addresses()),
            {index: word for index, word in self.entries("address_filter") if word},
            {(key.pool, key.id): leaf for key, leaf in self.entries("server_ids")},
            self._shortcuts(),
        )

    def entries(self, name: str) -> Iterator[tuple[Any, Any]]:
        """Keys and values of a map, as bcc reads maps.h."""
        table = self.table(name)
        for keys, values, count in _bpf.read_batches(
            table.map_fd, table.Key, table.Leaf, table.max_entries
        ):
            for i in range(count):
                yield keys[i], values[i]

    def _services(self) -> Iterator[tuple[ServiceKey, ServiceEntry]]:
        names = dict(self._names("service_names"))
        for name, length in (("services4", 4), ("services6", 16)):
            for key, leaf in self.entries(name):
                at = ServiceKey(
                    _text(bytes(key)[:length]),
                    socket.ntohs(key.port),
                    _PROTOCOL_WORDS.get(key.protocol, str(key.protocol)),
                )
                yield at, ServiceEntry(leaf.id, leaf.pool, names.get(leaf.id, ""))

    def _shortcuts(self) -> dict[int, bytes]:
        table = self.table("shortcuts")
        size = table.max_entries * _shortcuts.BYTES
        return _shortcuts.taken(_bpf.read_array(table.map_fd, size))

    def _addresses(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for name in ("addresses4", "addresses6"):
            for key, leaf in self.entries(name):
                raw = bytes(ct.c_uint32(key)) if isinstance(key, int) else bytes(key)
                yield _text(raw), (leaf.id, leaf.pool)

    def _names(self, table: str) -> Iterator[tuple[int, str]]:
        for key, leaf in self.entries(table):
            if leaf.text:
                yield key, leaf.text.decode()

    def _pools(self) -> Iterator[tuple[int, PoolEntry]]:
        names = dict(self._names("pool_names"))
        for key, leaf in self.entries("pools"):
            if leaf.used:
                yield key, self.pool_entry(leaf, names.get(key, ""))

    def pool_entry(self, leaf: Any, name: str) -> PoolEntry:
        """A struct pool in inventory's words."""
        return PoolEntry(
            name=name,
            algorithm=self.words.word("algorithm", leaf.algorithm),
            forwarding=self.words.word("forwarding", leaf.forwarding),
            tracking=self.words.word("tracking", leaf.tracking),
            udp_transition=leaf.udp_transition,
            settle=leaf.settle,
            ring_digest=leaf.ring_digest,
            identity=self.words.word("identity", leaf.identity),
            quic=Quic(leaf.server_id_length, leaf.quic_config) if leaf.server_id_length else None,
        )

    def _backends(self) -> Iterator[tuple[int, BackendEntry]]:
        unused = self.words.value("state", "unused")
        for key, leaf in self.entries("backends"):
            if leaf.state != unused:
                yield key, self.backend_entry(leaf)

    def backend_entry(self, leaf: Any) -> BackendEntry:
        """A struct backend in inventory's words."""
        raw = bytes(leaf.address)
        return BackendEntry(
            pool=leaf.pool,
            address=_text(raw if leaf.ipv6 else raw[:4]),
            weight=leaf.weight,
            state=self.words.word("state", leaf.state),
            health=self.words.word("health", leaf.health),
            forwarding=self.words.word("forwarding", leaf.forwarding),
        )

    def ring_id(self, pool: int) -> int:
        """Names the live ring of a pool: one that is replaced has another. 0 when it has none."""
        number = ct.c_uint32()
        _bpf.look_up(self.table("rings").map_fd, ct.c_uint32(pool), number)
        return number.value

    def ring(self, pool: int) -> Slots | None:
        """The live ring of a pool; None when it has none."""
        number = self.ring_id(pool)
        if not number:
            return None
        with _bpf.closing(_bpf.open_map(number)) as fd:
            return Slots.from_bytes(_bpf.read_array(fd, self.sizes.ring * SLOT_BYTES))

    def named_by_flows(self) -> set[int]:
        """The indices of the backends that the flow tables name, or fragments still to come."""
        recent = now_tick() - ticks(FRAGMENT_LIFETIME)
        fragments = self.entries("fragments")
        return _flows.named(self) | {
            leaf.backend for _key, leaf in fragments if leaf.seen >= recent
        }

    def settings(self) -> dict[str, Any]:
        """The node's own settings, as inventory writes them."""
        leaf = self.table("settings")[0]
        own, outer = leaf.own, leaf.outer
        return {
            "hash_seed": leaf.hash_seed,
            "source_ipv4": _source(own.ipv4),
            "source_ipv6": _source(own.ipv6),
            "source_prefix_ipv4": _prefix(outer.ipv4, outer.spread4),
            "source_prefix_ipv6": _prefix(outer.ipv6, outer.spread6),
            "other_ports": self.words.word("other_ports", leaf.other_ports),
            "echo": self.words.word("echo", leaf.echo),
            "gue_port": socket.ntohs(leaf.gue_port),
            "new_records": _rates.rate(leaf.record_interval, leaf.new_records, _rates.cpus()),
        }

    def verdicts(self) -> dict[str, dict[str, int]]:
        """Packets and bytes by verdict since the maps were made."""
        names = self.words.enums["verdict"][:-1]  # the last word is their count
        return dict(zip(names, self._counters("verdicts")))

    def service_counters(self) -> list[dict[str, int]]:
        """Packets, bytes, and of the packets those that open a connection, by service id."""
        return [
            {**_total(cpus), "opens": sum(cpu.opens for cpu in cpus)}
            for _key, cpus in self.entries("service_counters")
        ]

    def guard_counters(self) -> list[dict[str, int]]:
        """Packets that services refused, by reason, by service id."""
        return [
            {
                "not_allowed": sum(cpu.not_allowed for cpu in cpus),
                "limited": sum(cpu.limited for cpu in cpus),
            }
            for _key, cpus in self.entries("guard_states")
        ]

    def unrecorded(self) -> int:
        """Packets whose flow was not recorded, because new_records had come in that second."""
        return sum(cpu.refused for cpu in self.table("record_states")[0])

    def backend_counters(self) -> list[dict[str, int]]:
        """Packets and bytes by backend index."""
        return list(self._counters("backend_counters"))

    def backend_counter(self, index: int) -> dict[str, int]:
        """Packets and bytes of one backend."""
        return _total(self.table("backend_counters")[index])

    def quic_counter(self, pool: int) -> dict[str, int]:
        """Datagrams to a pool that asks for QUIC, by what became of them."""
        cpus = self.table("quic_counters")[pool]
        names = self.words.enums["quic"][:-1]
        return {word: sum(cpu.packets[i] for cpu in cpus) for i, word in enumerate(names)}

    def _counters(self, name: str) -> Iterator[dict[str, int]]:
        for _key, cpus in self.entries(name):
            yield _total(cpus)

    # --- writing, an entry at a time ---

    def put_pool(self, index: int, pool: PoolEntry) -> None:
        words = self.words
        self._put("pool_names", index, text=pool.name.encode())
        self._put(
            "pools",
            index,
            used=1,
            algorithm=words.value("algorithm", pool.algorithm),
            forwarding=words.value("forwarding", pool.forwarding),
            tracking=words.value("tracking", pool.tracking),
            udp_transition=pool.udp_transition,
            settle=pool.settle,
            ring_digest=pool.ring_digest,
            identity=words.value("identity", pool.identity),
            server_id_length=pool.quic.server_id_length if pool.quic else 0,
            quic_config=pool.quic.config_id if pool.quic else 0,
        )

    def remove_pool(self, index: int) -> None:
        """Removes the ring, then the pool; in between its entry claims no ring (digest 0)."""
        self._put("pools", index, used=1)
        _bpf.delete(
            self.table("rings").map_fd, ct.c_uint32(index), f"remove the ring of pool {index}"
        )
        self._put("pools", index)
        self._put("pool_names", index)
        self._put("quic_counters", index)

    def put_ring(self, pool: int, slots: Slots) -> None:
        """Replaces the ring in one step: packets see the old one or the new one."""
        with _bpf.closing(_bpf.create_array(SLOT_BYTES, len(slots), "ring")) as fd:
            _bpf.write_array(fd, slots.to_bytes())
            what = f"write the ring of pool {pool}"
            _bpf.update(self.table("rings").map_fd, ct.c_uint32(pool), ct.c_int(fd), what)

    def put_backend(self, index: int, backend: BackendEntry, fresh: bool) -> None:
        """Writes a backend, and lets CPUs ask for its next hop anew; a fresh one begins with empty
        counters.
        """
        if fresh:
            self._put("backend_counters", index)
        raw = packed(backend.address)
        self._put(
            "backends",
            index,
            address=_words16(raw),
            ipv6=len(raw) == 16,
            pool=backend.pool,
            weight=backend.weight,
            state=self.words.value("state", backend.state),
            health=self.words.value("health", backend.health),
            forwarding=self.words.value("forwarding", backend.forwarding),
        )
        self._put("nexthops", index)  # it may have been by a router, which l2 must not use

    def put_filter(self, index: int, word: int) -> None:
        """Writes 64 bits at once: those that stay are seen all the while."""
        what = f"write entry {index} of address_filter"
        at, bits = ct.c_uint32(index), ct.c_uint64(word)
        _bpf.update(self.table("address_filter").map_fd, at, bits, what)

    def put_shortcut(self, place: int, shortcut: bytes) -> None:
        """From here on packets find the service without a search. The place must be free."""
        for number, word in _shortcuts.writes(shortcut, self._next_turn(place)):
            self._write_shortcut(place, number, word)

    def remove_shortcut(self, place: int) -> None:
        """From here on packets search for the service."""
        self._write_shortcut(place, *_shortcuts.removal(self._next_turn(place)))

    def _next_turn(self, place: int) -> int:
        return int(self.table("shortcuts")[place].kind.turn) + 1

    def _write_shortcut(self, place: int, number: int, word: int) -> None:
        table = self.table("shortcuts")
        size = table.max_entries * _shortcuts.BYTES
        _bpf.write_word(table.map_fd, size, place * _shortcuts.WORDS + number, word)

    def put_server_id(self, pool: int, server_id: int, backend: int) -> None:
        """From here on datagrams whose connection id has it go to that backend."""
        table = self.table("server_ids")
        key, what = table.Key(id=server_id, pool=pool), f"write server id {server_id}"
        _bpf.update(table.map_fd, key, ct.c_uint32(backend), what)

    def remove_server_id(self, pool: int, server_id: int) -> None:
        table = self.table("server_ids")
        key = table.Key(id=server_id, pool=pool)
        _bpf.delete(table.map_fd, key, f"remove server id {server_id}")

    def put_address(self, address: str, service: int, pool: int) -> None:
        """From here on what no service wants at this address is dropped, and echo answered."""
        table, at = self.address_key(address)
        leaf = table.Leaf(id=service, pool=pool)
        _bpf.update(table.map_fd, at, leaf, f"write address {address}")

    def remove_address(self, address: str) -> None:
        table, at = self.address_key(address)
        _bpf.delete(table.map_fd, at, f"remove address {address}")

    def address_key(self, address: str) -> tuple[Any, Any]:
        raw = packed(address)
        table = self.table("addresses4" if len(raw) == 4 else "addresses6")
        return table, table.Key.from_buffer_copy(raw)

    def put_service(self, key: ServiceKey, service: ServiceEntry, fresh: bool) -> None:
        """Writes a service: from here on packets find it. Its pool and ring must be there."""
        if fresh:
            self._put("service_counters", service.id)
            self._put("guard_states", service.id)
        self._put("service_names", service.id, text=service.name.encode())
        table, at = self.service_key(key)
        _bpf.update(
            table.map_fd,
            at,
            table.Leaf(id=service.id, pool=service.pool),
            f"write service {service.name}",
        )

    def remove_service(self, key: ServiceKey, service: ServiceEntry) -> None:
        table, at = self.service_key(key)
        _bpf.delete(table.map_fd, at, f"remove service {service.name}")
        self._put("service_names", service.id)

    def service_key(self, key: ServiceKey) -> tuple[Any, Any]:
        raw = packed(key.address)
        table = self.table("services4" if len(raw) == 4 else "services6")
        at = table.Key(port=socket.htons(key.port), protocol=PROTOCOLS[key.protocol])
        ct.memmove(ct.addressof(at), raw, len(raw))
        return table, at

    def _put(self, name: str, index: int, **values: Any) -> None:
        table = self.table(name)
        what = f"write entry {index} of {name}"
        _bpf.update(table.map_fd, ct.c_uint32(index), table.Leaf(**values), what)


def _total(cpus: Any) -> dict[str, int]:
    return {"packets": sum(cpu.packets for cpu in cpus), "bytes": sum(cpu.bytes for cpu in cpus)}


def now_tick() -> int:
    """The tick that the data path would read now."""
    return tick(time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE))


def now_seconds() -> float:
    """The data path's clock in seconds."""
    return time.clock_gettime(CLOCK_MONOTONIC_COARSE)


def _text(raw: bytes) -> str:
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, raw)


def _source(address: Any) -> str | None:
    raw = bytes(ct.c_uint32(address)) if isinstance(address, int) else bytes(address)
    return _text(raw) if any(raw) else None


def _prefix(address: Any, spread: int) -> str | None:
    """None where nothing is spread."""
    if not spread:
        return None
    width = 32 if isinstance(address, int) else 128
    return f"{_source(address)}/{width - socket.ntohl(spread).bit_length()}"


def _words16(raw: bytes) -> Any:
    return (ct.c_uint * 4).from_buffer_copy(raw.ljust(16, b"\0"))
