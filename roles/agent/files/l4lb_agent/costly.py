# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes long to read from the kernel, kept as long as it is true, or for a while.

A ring of 65,537 slots takes 5 ms, a recorded flow 0.3 us. A ring is only ever replaced whole, by a
map with another id, so what was read of it stays true.
"""

from __future__ import annotations

import ctypes as ct
import time
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _flows, _info
from ansible_collections.l4lb.xdp.plugins.module_utils._info import Ring
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import Actual
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

RINGS_BUDGET = 0.25
"""Seconds for new rings in one reading; what is left comes in the next."""
FLOWS_FRESH = 10.0
"""Seconds for which a count of the flow tables is good enough; a costly one longer."""
_FLOWS_SHARE = 0.02


class Costly:
    """Belongs to one reader at a time."""

    def __init__(self, pins: Path, source: Path) -> None:
        self._pins, self._source = pins, source
        self._rings: dict[int, Ring] = {}
        self._flows: dict[str, int] = {}
        self._flows_until = 0.0

    def rings(self, tables: Tables, actual: Actual) -> dict[int, Ring]:
        """The live rings by pool's index, without those that there was no time for."""
        until = time.monotonic() + RINGS_BUDGET
        known, found = self._rings, {}
        self._rings = {}
        for pool in actual.pools:
            number = _ring_id(tables, pool)
            ring = known.get(number)
            if number and ring is None and time.monotonic() < until:
                ring = _info.ring_of(tables, pool, actual)
            if ring is not None:
                found[pool] = self._rings[number] = ring
        return found

    def flows(self, tables: Tables) -> dict[str, int]:
        """Records of the flow tables by family: counting takes at most 2 % of the time."""
        now = time.monotonic()
        if now >= self._flows_until:
            self._flows = _flows.count(tables)
            took = time.monotonic() - now
            self._flows_until = now + max(FLOWS_FRESH, took / _FLOWS_SHARE)
        return self._flows

    def identity(self, tables: Tables, actual: Actual, rings: dict[int, Ring]) -> dict[str, Any]:
        """Parts `program` and `fingerprint` of _info; no fingerprint while rings are missing."""
        node = _info.Node(self._pins, self._source, tables)
        node.actual, node.rings = actual, rings
        whole = all(pool in rings or not _ring_id(tables, pool) for pool in actual.pools)
        return _info.tell(node, ["program", "fingerprint"] if whole else ["program"])


def _ring_id(tables: Tables, pool: int) -> int:
    """The kernel's number of the map that is the pool's ring; 0 for none."""
    number = ct.c_uint32()
    found = _bpf.look_up(tables.table("rings").map_fd, ct.c_uint32(pool), number)
    return number.value if found else 0
