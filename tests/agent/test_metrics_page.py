# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/metrics.md says what is exported, no more and no less."""

from __future__ import annotations

from l4lb_agent.families import METRICS
from l4lb_agent.metrics import MAX_BACKEND_SERIES, SERIES_A_BACKEND
from l4lb_agent.options import Options
from l4lb_agent.reasons import WORDS

from .queries import ROOT

PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")


def test_the_table_is_what_is_exported() -> None:
    told = [line for line in PAGE.splitlines() if line.startswith("| `l4lb_")]
    rows = [
        (name, m.kind, ", ".join(f"`{label}`" for label in m.labels), m.help, m.series)
        for name, m in METRICS.items()
    ]
    want = [f"| `{n}` | {kind} | {labels} | {text} | {s} |" for n, kind, labels, text, s in rows]
    assert told == [line.replace("|  |", "| |") for line in want]


def test_the_words_of_reasons_are_all_told() -> None:
    assert ", ".join(f"`{word}`" for word in WORDS) in PAGE


def test_the_limit_of_backends_is_the_one_that_holds() -> None:
    assert Options().max_backend_series == MAX_BACKEND_SERIES
    backends = MAX_BACKEND_SERIES // SERIES_A_BACKEND
    assert f"({MAX_BACKEND_SERIES:,}, so {backends:,} backends)" in PAGE
    of_backends = [m for m in METRICS.values() if m.labels == ("pool", "backend")]
    assert len(of_backends) == SERIES_A_BACKEND
