# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which metrics and labels a query of Prometheus names, and whether there are such."""

from __future__ import annotations

import re
from pathlib import Path

from l4lb_agent.families import METRICS

ROOT = Path(__file__).parents[2]

_NAME = re.compile(r"\bl4lb_\w+")
_SELECTOR = re.compile(r"(\bl4lb_\w+)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left)\s*\(([^)]*)\)")
_OF_PROMETHEUS = {"instance", "job", "le"}


def metrics_in(query: str) -> list[str]:
    """Names of ours, those of a histogram's series as the histogram's."""
    return [_whole(name) for name in _NAME.findall(query)]


def _whole(name: str) -> str:
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return base if base in METRICS and METRICS[base].kind == "histogram" else name


def unknown(query: str) -> list[str]:
    """What the query names and nobody exports: metrics, their labels, labels to group by."""
    names = metrics_in(query)
    found = [name for name in names if name not in METRICS]
    for name, selector in _SELECTOR.findall(query):
        metric = METRICS.get(_whole(name))
        labels = set(_LABEL.findall(re.sub(r'"[^"]*"', '""', selector)))
        known = {*_OF_PROMETHEUS, *(metric.labels if metric else ())}
        found += [f"{name}{{{label}}}" for label in sorted(labels - known)]
    everywhere = {label for name in names if name in METRICS for label in METRICS[name].labels}
    for group in _GROUPING.findall(query):
        labels = {label.strip() for label in group.split(",")} - {""}
        found += [f"by {label}" for label in sorted(labels - everywhere - _OF_PROMETHEUS)]
    return found
