# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's rings, slot by slot, as its kernel holds them. Its own part runs on the node."""

from __future__ import annotations

import hashlib
import json

import inside

PROGRAM = """
import json, sys
sys.path.insert(0, "/usr/lib/l4lb/python")
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
tables = Tables()
actual = tables.actual()
names = {index: backend.address for index, backend in actual.backends.items()}
rings = {pool.name: tables.ring(index) for index, pool in actual.pools.items()}
print(json.dumps({n: [names.get(i, "") for i in r.current] for n, r in rings.items() if r}))
"""


def read(node: str) -> dict[str, list[str]]:
    """Backends' addresses, slot by slot, by pool."""
    return json.loads(inside.do(node, "/usr/bin/python3", "-c", PROGRAM))


def moved(before: list[str], after: list[str]) -> float:
    """Slots that point elsewhere, in per cent."""
    return 100 * sum(a != b for a, b in zip(before, after, strict=True)) / len(before)


def digest(rings: dict[str, list[str]], *pools: str) -> str:
    chosen = {name: rings[name] for name in pools or rings}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
