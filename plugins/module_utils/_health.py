# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of backends: what the agent decided, kept on disk, and brought into the rings.

Private to the collection. Inventory and overrides say who is to get flows, health says who can; a
backend gets new flows when all agree. The file outlives restarts and reboots. It is written before
the kernel is: a killed run leaves each ring old or new, and the next run of anything converges to
the file. Without a file health is what the kernel holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _applied,
    _overrides,
    _plan,
    _predict,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._address import canonical
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import (
    SERVICES_FILE,
    AppliedError,
    applied_services,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import (
    Backend,
    Fleet,
    parse,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import Actual, BackendEntry, Kernel
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._overrides import Overrides
from ansible_collections.l4lb.xdp.plugins.module_utils._reader import few
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables, now_tick

HEALTH_FILE = "health.json"
HEALTHS = ("up", "down")
PATIENCE = 0.5
"""Seconds that the agent waits for another writer: it has more to do, and its turn comes again."""

AT_ONCE = 8
"""Different rings that the agent builds in one turn, about a second's work."""

Key = tuple[str, str]
"""A pool's name and the canonical address of its backend."""


@dataclass(frozen=True)
class Health:
    """share: per cent of the backend's weight, 1..100, below 100 while it starts slowly.

    since: Unix time at which it went up or down.
    """

    health: str = "up"
    share: int = 100
    since: int = 0

    @property
    def differs(self) -> bool:
        """Whether the backend gets less than inventory says."""
        return self.health != "up" or self.share != 100


Healths = dict[Key, Health]
"""Those that differ from up at full weight."""


# --- the file ---


def load(state_dir: Path) -> Healths:
    """The health of this node's backends. Raises AppliedError for a file that `save` did not
    write.
    """
    return known(state_dir) or {}


def known(state_dir: Path) -> Healths | None:
    """As `load`; None where nothing was ever decided."""
    return _applied.read(
        state_dir / HEALTH_FILE,
        lambda content: dict(_read(entry) for entry in content["backends"]),
        "a list of backends",
        "remove it (health is what the kernel holds then, and up after a reboot) and restart "
        "l4lb-agent",
    )


def save(state_dir: Path, healths: Mapping[Key, Health]) -> bool:
    """Writes them, none as well; returns whether that changed the file."""
    path, content = state_dir / HEALTH_FILE, _as_dict(healths)
    if _applied.load(path) == content:
        return False
    _applied.save(path, content)
    return True


def _as_dict(healths: Mapping[Key, Health]) -> dict[str, Any]:
    return {
        "backends": [
            {"pool": pool, "address": address, **vars(health)}
            for (pool, address), health in sorted(healths.items(), key=lambda item: item[0])
            if health.differs
        ]
    }


def _read(entry: Any) -> tuple[Key, Health]:
    """One entry of the file. Raises KeyError, TypeError or ValueError."""
    key = entry["pool"], entry["address"]
    health = Health(entry["health"], entry["share"], entry["since"])
    if not all(isinstance(part, str) for part in key):
        raise ValueError(f"pool and address must be text: {key}")
    if key[1] != canonical(key[1]):
        raise ValueError(f"address {key[1]!r} is to be written {canonical(key[1])}")
    if health.health not in HEALTHS:
        raise ValueError(f"health {health.health!r} of {key[1]}: one of {', '.join(HEALTHS)}")
    if not _applied.is_integer(health.share, 1, 100):
        raise ValueError(f"share {health.share!r} of {key[1]}: from 1 to 100")
    if not _applied.is_integer(health.since, 0):
        raise ValueError(f"since {health.since!r} of {key[1]}")
    return key, health


# --- what it makes of a fleet ---


def weighed(fleet: Fleet, healths: Mapping[Key, Health]) -> Fleet:
    """The fleet with the weights that backends have while they start slowly."""
    pools = list(fleet.pools)
    slow = {key[0] for key, health in healths.items() if health.share != 100}
    for place, pool in enumerate(fleet.pools):
        if pool.name in slow:
            backends = (
                _weighed(backend, healths.get((pool.name, backend.address)))
                for backend in pool.backends
            )
            pools[place] = replace(pool, backends=tuple(backends))
    return replace(fleet, pools=tuple(pools)) if slow else fleet


def _weighed(backend: Backend, health: Health | None) -> Backend:
    if health is None or health.share == 100:
        return backend
    return replace(backend, weight=max(1, (backend.weight * health.share + 50) // 100))


@overload
def down(healths: Mapping[Key, Health]) -> frozenset[Key]: ...
@overload
def down(healths: None) -> None: ...


def down(healths: Mapping[Key, Health] | None) -> frozenset[Key] | None:
    """Those that are down, as `_plan.make` takes it."""
    if healths is None:
        return None
    return frozenset(key for key, health in healths.items() if health.health != "up")


def kept(healths: Mapping[Key, Health], fleet: Fleet) -> Healths:
    """Without those that are not in the fleet."""
    members = {(pool.name, backend.address) for pool in fleet.pools for backend in pool.backends}
    return {key: health for key, health in healths.items() if key in members}


# --- into the rings ---


def apply_health(
    healths: Healths,
    tables: Tables,
    state_dir: Path,
    patience: float = PATIENCE,
    most: int | None = None,
) -> Outcome:
    """Makes file and kernel hold this health of all backends, as the node's only writer.

    healths: all that differ; those of backends that were not applied are left out. Where the kernel
    does not hold a pool as it was applied, the file is written and the rest waits for the next run
    of services: a warning names it. Raises LockError after `patience` seconds, and AppliedError,
    before anything is written.

    most: how many rings are built at most, about 0.1 s each; pools that have the same backends
    share one. The result's data tell how many pools are left for another call (`left`), and what
    was killed or failed on its way is done by another call, too.
    """
    with writer(state_dir, "l4lb-agent", patience=patience):
        last = applied_services(state_dir)
        if last is None:
            return Outcome(False, data={"left": 0})
        return set_health(healths, last, tables, state_dir, most)


def set_health(
    healths: Healths,
    last: Mapping[str, Any],
    kernel: Kernel,
    state_dir: Path,
    most: int | None = None,
) -> Outcome:
    """As apply_health; the caller is the only writer. last: what was applied.

    Reads and writes the pools concerned and no others, so that it is quick in a fleet of any size.
    """
    overrides = _overrides.load(state_dir)
    applied = _effective(last, overrides, state_dir)
    wanted = {key: h for key, h in healths.items() if key[1] in applied.get(key[0], ())}
    actual = kernel.actual()
    all_names, lacking = _concerned(applied, wanted, actual)
    names = _first(all_names, applied, wanted, most)
    fleet = parse({name: last["pools"][name] for name in names}, [])
    fleet = weighed(_overrides.overridden(fleet, overrides)[0], wanted)
    now = now_tick()
    plan = _plan.make(
        fleet, actual.of_pools(names), kernel.ring, kernel.named_by_flows, now, down(wanted)
    )
    news = save(state_dir, wanted)
    if plan.changed:
        _plan.apply(plan, kernel, now_tick)
        _plan.verify(plan, fleet, kernel, now, names)
    return _outcome(plan, news, lacking, len(all_names) - len(names))


Members = dict[str, Backend]
"""A pool's backends by address."""


def _effective(
    last: Mapping[str, Any], overrides: Overrides, state_dir: Path
) -> dict[str, Members]:
    """What was applied, overrides included, by pool."""
    try:
        applied = {
            name: {
                each["address"]: Backend(each["address"], each["weight"], each["state"])
                for each in pool["backends"]
            }
            for name, pool in last["pools"].items()
        }
    except (KeyError, TypeError) as error:
        raise AppliedError(
            f"cannot use {state_dir / SERVICES_FILE}: remove it and apply again"
        ) from error
    for (name, address), override in overrides.items():
        members = applied.get(name, {})
        if address in members:
            members[address] = _overrides.overridden_backend(members[address], override)
    return applied


def _concerned(
    applied: Mapping[str, Members], healths: Mapping[Key, Health], actual: Actual
) -> tuple[list[str], list[str]]:
    """The pools that the kernel holds in another way, those first in which a backend falls; and
    those whose backends it does not hold at all as they were applied.

    A killed writer may have left a pool's entry without a ring (digest 0): that one, too.
    """
    held: dict[int, dict[str, BackendEntry]] = {index: {} for index in actual.pools}
    for backend in actual.backends.values():
        if backend.state != "removed" and backend.pool in held:
            held[backend.pool][backend.address] = backend
    indices = {pool.name: index for index, pool in actual.pools.items()}
    falling, others, lacking = [], [], []
    for name, members in applied.items():
        index = indices.get(name, -1)
        entries = held.get(index, {})
        if index < 0 or entries.keys() != members.keys():
            lacking.append(name)
            continue
        forwarding = actual.pools[index].forwarding
        wanted = [
            _entry(index, b, healths.get((name, b.address)), forwarding) for b in members.values()
        ]
        differing = [entry for entry in wanted if entries[entry.address] != entry]
        if any(entry.health != "up" for entry in differing):
            falling.append(name)
        elif differing or not actual.pools[index].ring_digest:
            others.append(name)
    return falling + others, lacking


def _entry(
    pool: int, backend: Backend, health: Health | None, forwarding: str = "ipip"
) -> BackendEntry:
    """What the kernel is to hold of a backend."""
    weight = _weighed(backend, health).weight
    word = health.health if health else "up"
    return BackendEntry(pool, backend.address, weight, backend.state, word, forwarding)


def _first(
    names: list[str],
    applied: Mapping[str, Members],
    healths: Mapping[Key, Health],
    most: int | None,
) -> list[str]:
    """The first of them, as far as they need `most` different rings."""
    if most is None:
        return names
    rings: set[frozenset[BackendEntry]] = set()
    first = []
    for name in names:
        ring = frozenset(
            _entry(0, b, healths.get((name, b.address))) for b in applied[name].values()
        )
        if ring in rings or len(rings) < most:
            rings.add(ring)
            first.append(name)
    return first


def _outcome(plan: _plan.Plan, news: bool, lacking: list[str], left: int) -> Outcome:
    shares = {name: each.percent() for name, each in plan.pool_shares.items()}
    warnings = [
        f"the kernel does not hold pools as they were applied (an interrupted run, or maps made "
        f"anew), so their health is not written: {few(lacking)}; run l4lb.xdp.services"
    ]
    return Outcome(
        plan.changed or news,
        plan.before,
        plan.after,
        {"plan": {"pools": shares}, "left": left},
        _predict.sentences(plan.pool_shares, {}),
        warnings if lacking else [],
    )
