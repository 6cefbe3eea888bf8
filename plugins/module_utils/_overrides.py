# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator set on single backends, over what inventory says.

Private to the collection. An override wins over inventory, in every later run and at boot, until it
is given back, its backend leaves inventory, or inventory says the same. State and weight are judged
each on its own. `overridden` is that rule, and the only place that has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _applied
from ansible_collections.l4lb.xdp.plugins.module_utils._address import canonical
from ansible_collections.l4lb.xdp.plugins.module_utils._config import (
    MAX_WEIGHT,
    STATES,
    Backend,
    Fleet,
    Pool,
)

OVERRIDES_FILE = "overrides.json"


@dataclass(frozen=True)
class Override:
    """What stands in place of inventory's; None: inventory's own. since: Unix time, for people."""

    state: str | None = None
    weight: int | None = None
    since: int = 0

    @property
    def stands(self) -> bool:
        """Whether there is anything in it."""
        return self.state is not None or self.weight is not None


Overrides = dict[tuple[str, str], Override]
"""By pool and the canonical address of its backend."""


def load(state_dir: Path) -> Overrides:
    """The overrides of this node. Raises AppliedError for a file that `save` did not write."""
    found = _applied.read(
        state_dir / OVERRIDES_FILE,
        lambda content: dict(_read(entry) for entry in content["backends"]),
        "a list of overridden backends",
        "remove it (inventory is right then) and run l4lb.xdp.services, then set again what it "
        "held",
    )
    return found or {}


def save(state_dir: Path, overrides: Overrides) -> bool:
    """Writes them, or removes the file when there are none; returns whether that changed it."""
    path, content = state_dir / OVERRIDES_FILE, _as_dict(overrides)
    held = _applied.load(path)
    if held == content or (held is None and not overrides):
        return False
    if overrides:
        _applied.save(path, content)
    else:
        _applied.forget(path)
    return True


def overridden(fleet: Fleet, overrides: Overrides) -> tuple[Fleet, Overrides]:
    """The fleet as it is to be, and the overrides that still stand.

    fleet: as inventory has it. What stands differs from inventory and names a backend of it.
    """
    by_pool: dict[str, dict[str, Override]] = {}
    for (name, address), override in overrides.items():
        by_pool.setdefault(name, {})[address] = override
    kept: Overrides = {}
    pools = list(fleet.pools)
    for place, pool in enumerate(fleet.pools):
        if pool.name in by_pool:
            pools[place] = _overridden_pool(pool, by_pool[pool.name], kept)
    if not kept:
        return fleet, kept
    return replace(fleet, pools=tuple(pools)), kept


def overridden_backend(backend: Backend, override: Override) -> Backend:
    """The backend as it is to be."""
    return replace(
        backend,
        state=backend.state if override.state is None else override.state,
        weight=backend.weight if override.weight is None else override.weight,
    )


def lines(overrides: Overrides) -> list[str]:
    """A line for a person, for each."""
    return [
        f"pool {pool} backend {address}: {_words(override)} (inventory is overridden)"
        for (pool, address), override in _sorted(overrides)
    ]


def _overridden_pool(pool: Pool, overrides: dict[str, Override], kept: Overrides) -> Pool:
    """The pool as it is to be; adds to `kept` what stands."""
    backends = list(pool.backends)
    for place, backend in enumerate(pool.backends):
        override = _standing(backend, overrides.get(backend.address, Override()))
        if override.stands:
            kept[pool.name, backend.address] = override
            backends[place] = overridden_backend(backend, override)
    return replace(pool, backends=tuple(backends))


def _standing(backend: Backend, override: Override) -> Override:
    """What of it differs from inventory."""
    return replace(
        override,
        state=None if override.state == backend.state else override.state,
        weight=None if override.weight == backend.weight else override.weight,
    )


def _words(override: Override) -> str:
    state = [] if override.state is None else [f"state {override.state}"]
    weight = [] if override.weight is None else [f"weight {override.weight}"]
    return " ".join(state + weight)


def _sorted(overrides: Overrides) -> Iterable[tuple[tuple[str, str], Override]]:
    return sorted(overrides.items(), key=lambda item: item[0])


def _as_dict(overrides: Overrides) -> dict[str, Any]:
    return {
        "backends": [
            {
                "pool": pool,
                "address": address,
                **({} if override.state is None else {"state": override.state}),
                **({} if override.weight is None else {"weight": override.weight}),
                "since": override.since,
            }
            for (pool, address), override in _sorted(overrides)
        ]
    }


def _read(entry: Any) -> tuple[tuple[str, str], Override]:
    """One entry of the file. Raises KeyError, TypeError or ValueError."""
    key = entry["pool"], entry["address"]
    override = Override(entry.get("state"), entry.get("weight"), entry["since"])
    if not all(isinstance(part, str) for part in key):
        raise ValueError(f"pool and address must be text: {key}")
    if key[1] != canonical(key[1]):
        raise ValueError(f"address {key[1]!r} is to be written {canonical(key[1])}")
    if override.state not in (None, *STATES):
        raise ValueError(f"state {override.state!r} of {key[1]}: one of {', '.join(STATES)}")
    weighs = override.weight is None or _applied.is_integer(override.weight, 1, MAX_WEIGHT)
    if not weighs or not _applied.is_integer(override.since, 0):
        raise ValueError(f"weight or since of {key[1]}: {override.weight!r}, {override.since!r}")
    return key, override
