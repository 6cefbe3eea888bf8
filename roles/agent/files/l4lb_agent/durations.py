# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A histogram for thousands of answers a second: one writer, no lock."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds in seconds, inclusive; all above is the last bucket."""


class Durations:
    """How long checks of one type took, and how many failed."""

    def __init__(self) -> None:
        self.failed = 0
        self._sum = 0.0
        self._counts = [0] * (len(BOUNDS) + 1)

    def add(self, ok: bool, seconds: float) -> None:
        self._sum += seconds
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.failed += not ok

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum of seconds: as prometheus_client wants."""
        names = [*map(str, BOUNDS), "+Inf"]
        return list(zip(names, accumulate(self._counts))), self._sum
