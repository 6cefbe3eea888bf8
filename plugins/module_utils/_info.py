# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is and does, in inventory's words, and the fingerprint by which nodes agree.

Private to the collection. Reads only, and only what is asked for.
"""

from __future__ import annotations

import ctypes as ct
import hashlib
import json
import sys
from array import array
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _flows, _links, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._address import order
from ansible_collections.l4lb.xdp.plugins.module_utils._guard_tables import GuardTables
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import Actual, BackendEntry
from ansible_collections.l4lb.xdp.plugins.module_utils._plan import Plan
from ansible_collections.l4lb.xdp.plugins.module_utils._program import running
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import pin_names, schema
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from ansible_collections.l4lb.xdp.plugins.module_utils._version import VERSION

STATES = ("active", "draining", "disabled")


@dataclass(frozen=True)
class Ring:
    """What is told of a live ring; `content` names what its slots point to."""

    tracked: int
    remembering: int
    content: bytes


class Node:
    """A node's tables, each read once and when first asked for."""

    def __init__(self, pins: Path, source: Path, tables: Tables | None = None) -> None:
        self.pins, self.source = pins, source
        self.tables = tables or Tables(pins, source)

    @cached_property
    def actual(self) -> Actual:
        return self.tables.actual()

    def pool_name(self, index: int) -> str:
        """A pool may go while this reads, or a killed writer leave what belonged to it."""
        pool = self.actual.pools.get(index)
        return pool.name if pool else "?"

    @cached_property
    def program(self) -> dict[str, Any]:
        return _program(self.pins)

    @cached_property
    def rings(self) -> dict[int, Ring]:
        """The live rings by pool."""
        found = ((pool, ring_of(self.tables, pool, self.actual)) for pool in self.actual.pools)
        return {pool: ring for pool, ring in found if ring is not None}


def ring_of(tables: Tables, pool: int, actual: Actual) -> Ring | None:
    """The live ring of a pool, by the pool's index; None when it has none."""
    slots = tables.ring(pool)
    if slots is None:
        return None
    return Ring(
        slots.tracked_count(),
        len(slots) - slots.previous.count(0),
        _content(slots.current, actual.backends),
    )


def info(pins: Path, source: Path, gather: Collection[str] | None = None) -> dict[str, Any]:
    """The parts of PARTS named in `gather`, without it all, as plain data.

    Raises SchemaError when no balancer is prepared here.
    """
    _links.require_libraries()
    return tell(Node(pins, source), PARTS if gather is None else gather)


def tell(node: Node, asked: Collection[str]) -> dict[str, Any]:
    """As `info`, of tables that are open already."""
    return {part: read(node) for part, read in _READERS.items() if part in asked}


def _program(pins: Path) -> dict[str, Any]:
    """The pinned balancer and the interfaces that run it."""
    pin = pins / "balancer"
    pinned, modes = running(pin)
    if pinned is None:
        return {"version": VERSION, "tag": None, "interfaces": []}
    attached = datetime.fromtimestamp(pin.stat().st_mtime, timezone.utc)
    return {
        "name": pinned.name,
        "version": VERSION,
        "tag": pinned.tag,
        "since": attached.isoformat(timespec="seconds"),
        "interfaces": [{"interface": name, "mode": mode} for name, mode in modes.items()],
    }


def _settings(node: Node) -> dict[str, Any]:
    return {
        **node.tables.settings(),
        "schema_version": schema(node.source).version,
        "sizes": vars(node.actual.sizes),
    }


def _services(node: Node) -> list[dict[str, Any]]:
    counters, refused = node.tables.service_counters(), node.tables.guard_counters()
    return [
        {
            "name": service.name,
            "address": key.address,
            "port": key.port,
            "protocol": key.protocol,
            "pool": node.pool_name(service.pool),
            **counters[service.id],
            **refused[service.id],
        }
        for key, service in sorted(
            node.actual.services.items(), key=lambda i: (order(i[0].address), i[0])
        )
    ]


def _pools(node: Node) -> dict[str, Any]:
    states = Counter((backend.pool, backend.state) for backend in node.actual.backends.values())
    pools: dict[str, dict[str, Any]] = {}
    for index, pool in sorted(node.actual.pools.items(), key=lambda item: item[1].name):
        ring = node.rings.get(index, Ring(0, 0, b""))
        pools[pool.name] = {
            "algorithm": pool.algorithm,
            "identity": pool.identity,
            "forwarding": pool.forwarding,
            "tracking": pool.tracking,
            "udp_transition": _rings.seconds(pool.udp_transition),
            "settle": _rings.seconds(pool.settle),
            "backends": {state: states[index, state] for state in STATES},
            "tracked_slots": ring.tracked,
            "remembering_slots": ring.remembering,
        }
        if pool.quic:
            pools[pool.name]["quic"] = {
                **vars(pool.quic),
                "packets": node.tables.quic_counter(index),
            }
    return pools


def _backends(node: Node) -> list[dict[str, Any]]:
    counters = node.tables.backend_counters()
    server_ids = {index: number for (_pool, number), index in node.actual.server_ids.items()}
    found: list[dict[str, Any]] = [
        {
            "pool": node.pool_name(backend.pool),
            "address": backend.address,
            "weight": backend.weight,
            "state": backend.state,
            "health": backend.health,
            **({"server_id": server_ids[index]} if index in server_ids else {}),
            **counters[index],
        }
        for index, backend in node.actual.backends.items()
        if backend.state != "removed"
    ]
    return sorted(found, key=lambda backend: (backend["pool"], order(backend["address"])))


def _flow_tables(node: Node) -> dict[str, dict[str, int]]:
    size = node.actual.sizes.flows
    entries = _flows.count(node.tables)
    return {family: {"entries": number, "size": size} for family, number in entries.items()}


def _guards(node: Node) -> dict[str, Any]:
    """Prefixes by their number: there may be a hundred thousand."""
    held = GuardTables(node.tables).guards()
    names = {service.id: service.name for service in node.actual.services.values()}
    allowed = Counter(service for service, _prefix in held.allow)
    services = {
        names.get(number, "?"): {"new_flows": guard.new_flows, "allow": allowed[number]}
        for number, guard in sorted(held.services.items())
    }
    digest = _digest(json.dumps(sorted(held.deny)).encode()).hex() if held.deny else None
    return {
        "deny": {"prefixes": len(held.deny), "digest": digest},
        "services": services,
        "unrecorded": node.tables.unrecorded(),
    }


# --- memory ---


def _memory(node: Node) -> dict[str, Any]:
    """What the kernel counts for each map; all rings together are one entry."""
    maps = {}
    for name in pin_names(node.source / "maps.h"):
        fd = _bpf.open_pin(node.pins / name)
        if fd is not None:
            with _bpf.closing(fd):
                maps[name] = _memlock(fd)
    rings = node.tables.table("rings").map_fd
    for index in node.actual.pools:
        ring = ct.c_uint32()
        if _bpf.look_up(rings, ct.c_uint32(index), ring):
            with _bpf.closing(_bpf.open_map(ring.value)) as fd:
                maps["rings"] += _memlock(fd)
    return {"bytes": sum(maps.values()), "maps": maps}


def _memlock(fd: int) -> int:
    """Bytes of a map, by the kernel's own account (bpf_map_show_fdinfo)."""
    text = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii")
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields["memlock"])


# --- the fingerprint ---


def _fingerprint(node: Node) -> str:
    """One value over layout, program, and what flows are steered by (see _steering)."""
    head = [schema(node.source).version, node.program["tag"]]
    return _digest(json.dumps([head, _steering(node)]).encode()).hex()


def _steering(node: Node) -> str:
    """One value over seed, ring size, and what every service's slots and QUIC's server ids point
    to: nodes that share it send a new flow to the same backend, whatever program they run.

    Backends count by address, so nodes with different histories agree.
    """
    return _steered(
        node.tables,
        node.actual,
        {index: ring.content for index, ring in node.rings.items()},
    )


def steering_after(plan: Plan, actual: Actual, tables: Tables) -> tuple[str, str]:
    """What `steering` is now, and what it is once this plan was applied to these tables.

    actual: what the plan was made for.
    """
    live = {index: tables.ring(index) for index in actual.pools}
    before = {
        index: _content(slots.current, actual.backends)
        for index, slots in live.items()
        if slots is not None
    }
    services = {k: s for k, s in actual.services.items() if k not in plan.gone_services}
    pools = {i: pool for i, pool in actual.pools.items() if i not in plan.gone_pools}
    then = Actual(
        {**services, **plan.services},
        {**pools, **plan.pools},
        {**actual.backends, **plan.backends},
        actual.sizes,
        server_ids={
            **{key: i for key, i in actual.server_ids.items() if key not in plan.gone_server_ids},
            **plan.server_ids,
        },
    )
    after = {index: content for index, content in before.items() if index in then.pools}
    for index, slots in plan.rings.items():
        after[index] = _content(slots.current, then.backends)
    return _steered(tables, actual, before), _steered(tables, then, after)


def _steered(tables: Tables, actual: Actual, contents: Mapping[int, bytes]) -> str:
    """contents: of the rings, by their pools' indices."""

    def name(index: int) -> str:
        return actual.pools[index].name if index in actual.pools else "?"

    services = sorted((key, name(service.pool)) for key, service in actual.services.items())
    rings = sorted(
        (pool.name, pool.identity, contents[index].hex() if index in contents else "")
        for index, pool in actual.pools.items()
    )
    connections = sorted(
        (
            name(pool),
            str(actual.pools[pool].quic) if pool in actual.pools else "",
            server_id,
            actual.backends[index].address if index in actual.backends else "",
        )
        for (pool, server_id), index in actual.server_ids.items()
    )
    head = [tables.settings()["hash_seed"], actual.sizes.ring]
    return _digest(json.dumps([head, services, rings, connections]).encode()).hex()


def _content(current: array[int], backends: dict[int, BackendEntry]) -> bytes:
    """Equal for rings whose slots point to the same addresses, whatever the indices of these."""
    used = set(current)
    known = [index for index in used if index in backends]  # others are being written just now
    known.sort(key=lambda index: order(backends[index].address))
    rank = dict.fromkeys(used, 0)
    rank.update((index, place) for place, index in enumerate(known, 1))
    ranks = array("H", map(rank.__getitem__, current))
    if sys.byteorder == "big":
        ranks.byteswap()
    addresses = json.dumps([backends[index].address for index in known])
    return _digest(addresses.encode() + ranks.tobytes())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


_READERS = {
    "program": lambda node: node.program,
    "settings": _settings,
    "verdicts": lambda node: node.tables.verdicts(),
    "services": _services,
    "pools": _pools,
    "backends": _backends,
    "flow_tables": _flow_tables,
    "guards": _guards,
    "memory": _memory,
    "steering": _steering,
    "fingerprint": _fingerprint,
}

PARTS = tuple(_READERS)
