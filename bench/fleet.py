# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the balancer holds while it is timed: a pool for each way of cases.py, at its own port."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace
from typing import Any

from pyroute2 import IPRoute

from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables, now_tick
from bench.cases import CASES, RINGS, ROUTER_MAC, VIP4, VIP6, Way, ways

BACKENDS = [f"192.0.2.{host}" for host in range(65, 126)]  # behind the node's router
NEIGHBOURS = [f"192.0.2.{host}" for host in range(2, 63) if host != 11]  # beside the node
SERVICES = 1000
"""So many there are, so that the services' table is not an empty one."""

_FIRST_PORT = 8000
_SEED = 3


def fleet() -> tuple[dict[str, Any], list[dict[str, Any]], dict[Way, int]]:
    """Pools and services as inventory writes them, and the port of each way."""
    every = [way for kind in sorted({case.forwarding for case in CASES}) for way in ways(kind)]
    ports = {way: _FIRST_PORT + i for i, way in enumerate(every)}
    pools = {
        way.pool: {
            "backends": [
                {"address": address}
                for address in (NEIGHBOURS if way.forwarding == "l2" else BACKENDS)
            ],
            "forwarding": way.forwarding,
            "tracking": way.tracking,
        }
        for way in every
    }
    wanted = [
        (address, port, protocol, way.pool)
        for way, port in ports.items()
        for address in (VIP4, VIP6)
        for protocol in ("tcp", "udp")
    ]
    wanted += [
        (address, port, "tcp", every[0].pool)
        for port in range(1, (SERVICES - len(wanted)) // 2 + 1)
        for address in (VIP4, VIP6)
    ]
    services = [
        {"name": f"s{i}", "address": address, "port": port, "protocol": protocol, "pool": pool}
        for i, (address, port, protocol, pool) in enumerate(wanted)
    ]
    return pools, services, ports


def meet(interface: int) -> None:
    """Makes the node know its neighbours' MAC addresses: it looks for none while it is timed."""
    with IPRoute() as ip:
        for address in NEIGHBOURS:
            ip.neigh(
                "replace", dst=address, lladdr=ROUTER_MAC, ifindex=interface, state="permanent"
            )


def track(tables: Tables) -> None:
    """Brings every ring into its state: that share of the slots has just changed, from another
    living backend.
    """
    names = {f"-{ring}": share for ring, share in RINGS.items()}
    for index, pool in tables.actual().pools.items():
        slots = tables.ring(index)
        assert slots is not None
        share = next(share for end, share in names.items() if pool.name.endswith(end))
        tables.put_ring(index, _tracked(slots, share))


def _tracked(slots: Slots, share: float) -> Slots:
    size, now = len(slots), now_tick()
    others = slots.current[1:] + slots.current[:1]
    previous, tracked = array("H", bytes(2 * size)), array("I", bytes(4 * size))
    for number in random.Random(_SEED).sample(range(size), round(share * size)):
        previous[number] = others[number]
        tracked[number] = now
    return replace(slots, previous=previous, tracked=tracked)
