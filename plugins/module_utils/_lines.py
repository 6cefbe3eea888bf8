# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads of a fleet and of a kernel: inventory's words, a line an entry.

Private to the collection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._address import endpoint, order
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Backend, Fleet
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    Actual,
    BackendEntry,
    PoolEntry,
    ServiceKey,
    pool_entry,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._quic import Quic, text_of


def of_fleet(fleet: Fleet, down: Collection[tuple[str, str]] = ()) -> list[str]:
    """What inventory asks for. down: the backends that are, by pool and address."""
    server_ids = {
        (pool.name, backend.address): backend.server_id
        for pool in fleet.pools
        for backend in pool.backends
        if pool.quic
    }
    return _write(
        ((pool.name, pool_entry(pool), pool.backends) for pool in fleet.pools),
        ((s.name, ServiceKey(s.address, s.port, s.protocol), s.pool) for s in fleet.services),
        down,
        server_ids,
    )


def of_kernel(actual: Actual) -> list[str]:
    """What the kernel holds."""
    members = _members(actual)
    names = {index: pool.name for index, pool in actual.pools.items()}
    down = {
        (names[index], backend.address)
        for index, backends in members.items()
        for backend in backends
        if backend.health != "up"
    }
    return _write(
        ((pool.name, pool, members[index]) for index, pool in actual.pools.items()),
        ((s.name, key, names.get(s.pool, "?")) for key, s in actual.services.items()),
        down,
        _server_ids(actual),
    )


def _server_ids(actual: Actual) -> dict[tuple[str, str], int | None]:
    """By pool and address, where the pool has QUIC."""
    return {
        (actual.pools[pool].name, actual.backends[index].address): number
        for (pool, number), index in actual.server_ids.items()
        if pool in actual.pools and index in actual.backends
    }


def _members(actual: Actual) -> dict[int, list[BackendEntry]]:
    """The backends of each pool."""
    members: dict[int, list[BackendEntry]] = {index: [] for index in actual.pools}
    for backend in actual.backends.values():
        if backend.state != "removed" and backend.pool in members:
            members[backend.pool].append(backend)
    return members


def as_inventory(actual: Actual) -> dict[str, Any]:
    """What the kernel holds in inventory's shape, for a node that lost the file of what was
    applied. Health checks are not the kernel's, so they are missing.
    """
    members, server_ids = _members(actual), _server_ids(actual)
    pools: dict[str, Any] = {
        pool.name: {
            "algorithm": pool.algorithm,
            "identity": pool.identity,
            "forwarding": pool.forwarding,
            "tracking": pool.tracking,
            "udp_transition": _rings.seconds(pool.udp_transition),
            "settle": _rings.seconds(pool.settle),
            "backends": [
                {
                    "address": b.address,
                    "weight": b.weight,
                    "state": b.state,
                    "server_id": server_ids.get((pool.name, b.address)),
                }
                for b in members[index]
            ],
            "quic": dict(vars(pool.quic)) if pool.quic else None,
        }
        for index, pool in actual.pools.items()
    }
    services = [
        {**key._asdict(), "name": service.name, "pool": actual.pools[service.pool].name}
        for key, service in actual.services.items()
        if service.pool in actual.pools
    ]
    return {"pools": pools, "services": services}


def _write(
    pools: Iterable[tuple[str, PoolEntry, Sequence[Backend | BackendEntry]]],
    services: Iterable[tuple[str, ServiceKey, str]],
    down: Collection[tuple[str, str]],
    server_ids: Mapping[tuple[str, str], int | None],
) -> list[str]:
    lines = []
    for name, pool, backends in sorted(pools, key=lambda item: item[0]):
        lines.append(
            f"pool {name}: {pool.algorithm} {pool.forwarding} tracking {pool.tracking} "
            f"udp_transition {_rings.seconds(pool.udp_transition)} "
            f"settle {_rings.seconds(pool.settle)} identity {pool.identity}{_quic_text(pool.quic)}"
        )
        for backend in sorted(backends, key=lambda b: order(b.address)):
            health = " down" if (name, backend.address) in down else ""
            number = server_ids.get((name, backend.address))
            length = pool.quic.server_id_length if pool.quic else 0
            server_id = "" if number is None else f" server_id {text_of(number, length)}"
            lines.append(
                f"pool {name} backend {backend.address}: weight {backend.weight} {backend.state}"
                f"{server_id}{health}"
            )
    for name, key, pool_name in sorted(services, key=_service_order):
        where = endpoint(key.address, key.port or "any")
        lines.append(f"service {name}: {where}/{key.protocol} -> pool {pool_name}")
    return lines


def _quic_text(quic: Quic | None) -> str:
    if quic is None:
        return ""
    return f" quic config_id {quic.config_id} server_id_length {quic.server_id_length}"


def _service_order(item: tuple[str, ServiceKey, str]) -> tuple[Any, ...]:
    return order(item[1].address), item[1].port, item[1].protocol
