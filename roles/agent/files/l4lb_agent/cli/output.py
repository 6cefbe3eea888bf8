# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and colours for a terminal, plain columns for a pipe, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 10_000

GOOD, BAD, DOUBTFUL, QUIET = "green", "bold red", "yellow", "dim"


def console() -> Console:
    """Of standard output. A pipe gets no colours, and lines as long as need be."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, no_color=True, width=_PIPE_WIDTH)


def dump(content: Any) -> None:
    print(json.dumps(content, indent=2))


def note(text: str) -> None:
    """What is to be said besides, without spoiling the output."""
    print(f"l4lb: {text}", file=sys.stderr)


def text(content: object, style: str = "") -> Text:
    """Never read as markup: names and reasons hold brackets."""
    return Text(str(content), style=style)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    right: Sequence[str] = (),
    wide: bool = True,
) -> Table:
    """Cells are texts, or anything that becomes one. right: columns that stand to the right;
    wide: with rules, for a terminal.
    """
    made = Table(
        box=box.SIMPLE_HEAD if wide else None,
        pad_edge=False,
        header_style="bold" if wide else "",
        show_edge=False,
    )
    for name in head:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=not wide)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    return made


def number(value: float) -> str:
    """1,234,567."""
    return f"{value:,.0f}"


def rate(value: float) -> str:
    """Three digits and a prefix: 0, 12.3, 4.56 k, 789 M."""
    for prefix in ("", " k", " M", " G", " T"):
        if value < 999.5:
            digits = 0 if value >= 99.5 or value == int(value) else 1 if value >= 9.95 else 2
            return f"{value:.{digits}f}{prefix}"
        value /= 1000
    return f"{value:.0f} P"


def span(seconds: float) -> str:
    """12 s, 5 min, 3 h, 8 d."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
