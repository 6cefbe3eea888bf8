# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets to plan for: written in one line, or drawn at random."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse

VIPS = ["203.0.113.10", "203.0.113.11", "2001:db8::10", "2001:db8::11"]
ADDRESSES = [f"10.0.0.{i}" for i in range(1, 7)]


def fleet_of(pools: dict[str, Any], *services: str) -> Fleet:
    """Pools as lists of backends, services as "name pool port"."""
    entries = [
        {"name": name, "address": "203.0.113.10", "port": port, "protocol": "tcp", "pool": pool}
        for name, pool, port in (service.split() for service in services)
    ]
    return parse({name: {"backends": members} for name, members in pools.items()}, entries)


def members(*addresses: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"address": address, **fields} for address in addresses]


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3))
    pools = {
        name: {
            "algorithm": draw(st.sampled_from(["maglev", "rendezvous"])),
            "tracking": draw(st.sampled_from(["adaptive", "always", "never"])),
            "backends": [
                {
                    "address": address,
                    "weight": draw(st.integers(1, 3)),
                    "state": draw(st.sampled_from(["active", "active", "draining", "disabled"])),
                }
                for address in draw(st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=4))
            ],
        }
        for name in names
    }
    services = [
        {"name": f"s{port}", "address": vip, "port": port, "protocol": "tcp", "pool": pool}
        for port, vip, pool in draw(
            st.lists(
                st.tuples(
                    st.integers(80, 84),
                    st.sampled_from(VIPS),
                    st.sampled_from(names),
                ),
                unique_by=lambda service: service[0],
                max_size=4,
            )
            if names
            else st.just([])
        )
    ]
    return parse(pools, services)
