# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of what comes in a second, and each CPU's part of them (bpf/steer.h: take_token).

Private to the collection; pure but for the number of CPUs. A CPU keeps its own bucket, since one
for all of them would be a line that they take from each other with every new flow of a flood. Each
gets an equal part, because a NIC's hash spreads flows evenly.
"""

from __future__ import annotations

import os

MAX_RATE = 10_000_000
"""A second; above that a nanosecond is too coarse."""

_SECOND = 1_000_000_000


def cpus() -> int:
    """Those that are online: any of them may take packets."""
    return os.cpu_count() or 1


def interval(rate: int, among: int) -> int:
    """Nanoseconds between two on one of so many CPUs; 0 for a rate of 0, which is no limit."""
    return among * _SECOND // rate if rate else 0


def rate(found: int, said: int, among: int) -> int:
    """What an interval comes to, a second and for all CPUs: what was said where it is of that."""
    if found == interval(said, among):
        return said
    return round(among * _SECOND / found) if found else 0
