# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories of any size, as `l4lb_pools` and `l4lb_services` hold them."""

from __future__ import annotations

import copy
from typing import Any


def address(pool: int, backend: int) -> str:
    return f"10.{pool // 250}.{pool % 250}.{backend + 1}"


def fleet(pools: int, backends: int, services: int) -> dict[str, Any]:
    """Pools of equal size, no backend in two of them; services share them evenly."""
    return {
        "pools": {
            f"pool{pool:03}": {
                "backends": [
                    {"address": address(pool, backend), "weight": 100}
                    for backend in range(backends)
                ]
            }
            for pool in range(pools)
        },
        "services": [
            {
                "name": f"service{i:04}",
                "address": f"198.18.{i // 250}.{i % 250 + 1}",
                "port": 443,
                "protocol": "tcp",
                "pool": f"pool{i % pools:03}",
            }
            for i in range(services)
        ],
    }


def changed(full: dict[str, Any], weight: int) -> dict[str, Any]:
    """The same with another weight of one backend."""
    new = copy.deepcopy(full)
    new["pools"]["pool007"]["backends"][3]["weight"] = weight
    return new
