# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory of the kernel the maps take, before they are made.

Private to the collection. `MAPS` follows `bpf/maps.h`, whose structs only bcc can read, and a host
that is looked at for the first time has no bcc; tests/dataplane holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_check import Check
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import SLOT_BYTES
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes

MAPS = {
    "services4": ("hash", 8, 8, "services"),
    "services6": ("hash", 20, 8, "services"),
    "addresses4": ("hash", 4, 8, "services"),
    "addresses6": ("hash", 16, 8, "services"),
    "shortcuts": ("array", 4, 8 * 32, "services"),
    "service_names": ("array", 4, 64, "services"),
    "service_counters": ("percpu_array", 4, 24, "services"),
    "service_guards": ("array", 4, 16, "services"),
    "guard_states": ("percpu_array", 4, 24, "services"),
    "pools": ("array", 4, 24, "pools"),
    "pool_names": ("array", 4, 64, "pools"),
    "rings": ("array", 4, 4, "pools"),
    "backends": ("array", 4, 24, "backends"),
    "server_ids": ("hash", 16, 4, "backends"),
    "quic_counters": ("percpu_array", 4, 32, "pools"),
    "backend_counters": ("percpu_array", 4, 16, "backends"),
    "nexthops": ("percpu_array", 4, 24, "backends"),
    "flows4": ("lru_hash", 16, 8, "flows"),
    "flows6": ("lru_hash", 40, 8, "flows"),
}
"""Kind, bytes of key and of values, what of Sizes says for how many; smaller maps do not count."""

HASH_ELEMENT = 48
"""struct htab_elem without key and value."""
HASH_BUCKET = 16
MIB = 1 << 20
MAP_OVERHEAD = 4096
"""A map's own struct and the rest of its last page."""


@dataclass(frozen=True)
class Memory:
    """Bytes. available: what the host can still give. limit: what the control groups of this
    process still allow, None without one. rings: how many there are already; maps: whether the
    others are there already.
    """

    available: int
    limit: int | None = None
    cpus: int = 1
    maps: bool = False
    rings: int = 0


def map_bytes(kind: str, key: int, value: int, entries: int, cpus: int) -> int:
    """As the kernel allocates (kernel/bpf/arraymap.c, hashtab.c); cpus: possible ones."""
    if kind == "array":
        return _round8(value) * entries + MAP_OVERHEAD
    if kind == "percpu_array":
        return (8 + _round8(value) * cpus) * entries + MAP_OVERHEAD
    element = HASH_ELEMENT + _round8(key) + _round8(value)
    spare = cpus if kind == "hash" else 0
    buckets = 1 << (entries - 1).bit_length()
    return element * (entries + spare) + HASH_BUCKET * buckets + MAP_OVERHEAD


def ring_bytes(slots: int) -> int:
    return map_bytes("array", 4, SLOT_BYTES, slots, 1)


def maps_bytes(sizes: Sizes, cpus: int) -> int:
    """All maps but the rings."""
    return sum(
        map_bytes(kind, key, value, getattr(sizes, size), cpus)
        for kind, key, value, size in MAPS.values()
    )


def judge_memory(sizes: Sizes, pools: int, have: Memory) -> Check:
    """Whether the maps, and a ring for each pool, fit in what is left.

    While a ring is replaced it is there twice, so there is one more.
    """
    maps = 0 if have.maps else maps_bytes(sizes, have.cpus)
    rings = max(pools - have.rings, 0)
    needed = maps + (rings + 1) * ring_bytes(sizes.ring)
    left = have.available if have.limit is None else min(have.available, have.limit)
    found = (
        f"{_mib(needed)} for {'rings' if have.maps else 'maps and rings'} "
        f"({rings} rings to make), {_mib(left)} left"
    )
    if left < have.available:
        found += f" within the control group's limit, {_mib(have.available)} on the host"
    remedy = (
        "give the host more memory, or lower max_flows, max_backends or, on all nodes, ring_size"
        if left == have.available
        else "raise the memory limit of the control group"
    )
    if needed > left:
        return Check("memory", "", "failed", found, remedy)
    if needed > left / 2:
        return Check("memory", "", "warning", f"{found}: little else will fit", remedy)
    return Check("memory", "", "ok", found)


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB" if size >= 10 * MIB else f"{size / MIB:.1f} MiB"


def _round8(size: int) -> int:
    return (size + 7) // 8 * 8
