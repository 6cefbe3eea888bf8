# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is and does, in inventory's words, and the fingerprint by which nodes agree.

Private to the collection. Reads only.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Union

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _links, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._address import order
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import Actual
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import schema
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

Rings = dict[int, Union[_rings.Slots, None]]
"""The live rings by pool, each read once."""


def info(pins: Path, source: Path) -> dict[str, Any]:
    """All of it, as plain data. Raises SchemaError when no balancer is prepared here."""
    tables = Tables(pins, source)
    actual = tables.actual()
    program = _program(pins)
    rings = {index: tables.ring(index) for index in actual.pools}
    return {
        "program": program,
        "settings": {**tables.settings(), "sizes": vars(actual.sizes)},
        "verdicts": tables.verdicts(),
        "services": _services(tables, actual),
        "pools": _pools(actual, rings),
        "backends": _backends(tables, actual),
        "fingerprint": _fingerprint(
            actual,
            rings,
            tables.settings()["hash_seed"],
            actual.sizes.ring,
            schema(source).version,
            program["tag"],
        ),
    }


def _program(pins: Path) -> dict[str, Any]:
    """The pinned balancer and the interfaces that run it."""
    fd = _bpf.open_pin(pins / "balancer")
    if fd is None:
        return {"tag": None, "interfaces": []}
    with _bpf.closing(fd):
        pinned = _bpf.program_info(fd)
    interfaces = []
    for link in _links.interfaces():
        seen = _links.xdp(link.name)
        if seen.program_id == pinned.id:
            interfaces.append({"interface": link.name, "mode": seen.mode})
    return {"name": pinned.name, "tag": pinned.tag, "interfaces": interfaces}


def _services(tables: Tables, actual: Actual) -> list[dict[str, Any]]:
    counters = tables.service_counters()
    return [
        {
            "name": service.name,
            "address": key.address,
            "port": key.port,
            "protocol": key.protocol,
            "pool": actual.pools[service.pool].name,
            **counters[service.id],
        }
        for key, service in sorted(
            actual.services.items(), key=lambda i: (order(i[0].address), i[0])
        )
    ]


def _pools(actual: Actual, rings: Rings) -> dict[str, Any]:
    pools = {}
    for index, pool in sorted(actual.pools.items(), key=lambda item: item[1].name):
        ring = rings[index]
        pools[pool.name] = {
            "algorithm": pool.algorithm,
            "forwarding": pool.forwarding,
            "tracking": pool.tracking,
            "udp_transition": _rings.seconds(pool.udp_transition),
            "settle": _rings.seconds(pool.settle),
            "tracked_slots": ring.tracked_count() if ring else 0,
        }
    return pools


def _backends(tables: Tables, actual: Actual) -> list[dict[str, Any]]:
    counters = tables.backend_counters()
    found = [
        {
            "pool": actual.pools[backend.pool].name,
            "address": backend.address,
            "weight": backend.weight,
            "state": backend.state,
            "health": backend.health,
            **counters[index],
        }
        for index, backend in actual.backends.items()
        if backend.state != "removed"
    ]
    return sorted(found, key=lambda backend: (backend["pool"], order(backend["address"])))


def _fingerprint(actual: Actual, rings: Rings, *head: int | str | None) -> str:
    """One value over the head (seed, ring size, layout, program) and what every slot points to.

    Backends count by address, so nodes with different histories agree.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(head).encode())
    services = sorted(
        (key, actual.pools[service.pool].name) for key, service in actual.services.items()
    )
    digest.update(json.dumps(services).encode())
    for index, pool in sorted(actual.pools.items(), key=lambda item: item[1].name):
        digest.update(pool.name.encode())
        ring = rings[index]
        for backend in ring.current if ring else ():
            digest.update(actual.backends[backend].address.encode() if backend else b"-")
    return digest.hexdigest()
