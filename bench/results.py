# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From times to figures: what the harness costs comes off, rounds become median and quartiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from bench.cases import CASES, RINGS, TRACKING


@dataclass(frozen=True)
class Figure:
    """Nanoseconds a packet: the rounds' median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, _middle, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)

    def __str__(self) -> str:
        return f"{self.median:.0f} ±{max(self.high - self.median, self.median - self.low):.0f}"


Net = dict[tuple[str, str, str], Figure]


def overhead(times: Sequence[Mapping[str, float]], pushed: bool) -> float:
    """What the harness costs with this packet. Where the timed program pushes a header, the harness
    takes it back: half of what `push`, which does both and nothing else, costs more than `empty`.
    """
    empty = median(time["empty"] for time in times)
    return empty + (median(time["push"] for time in times) - empty) / 2 * pushed


def net(found: Mapping[str, Any]) -> Net:
    """The figures by case, tracking and ring."""
    figures = {}
    for entry in found["entries"]:
        base = overhead(found["overheads"][entry["case"]], entry["pushed"])
        key = entry["case"], entry["tracking"], entry["ring"]
        figures[key] = Figure.of([gross - base for gross in entry["gross"]])
    return figures


def rows(found: Mapping[str, Any]) -> list[list[str]]:
    """The table: two head lines, then a line for each case."""
    figures = net(found)
    columns = [(tracking, ring) for tracking in TRACKING for ring in RINGS]
    shares = {"settled": "settled", "some": f"{RINGS['some'] * 100:.0f} %", "all": "all"}
    head = [
        ["", *(tracking for tracking, _ring in columns), "target"],
        ["slots tracked", *(shares[ring] for _tracking, ring in columns), ""],
    ]
    lines = []
    for case in CASES:
        cells = [figures.get((case.name, *column)) for column in columns]
        target = str(case.target or "")
        lines.append([case.name, *("" if cell is None else str(cell) for cell in cells), target])
    return head + lines


def table(found: Mapping[str, Any]) -> str:
    """For the terminal."""
    text = rows(found)
    widths = [max(map(len, column)) for column in zip(*text)]
    lines = [
        "  ".join(cell.ljust(width) if not i else cell.rjust(width) for i, (cell, width) in pairs)
        for pairs in (list(enumerate(zip(line, widths))) for line in text)
    ]
    return "\n".join(["nanoseconds a packet, net of an empty program: median ± quartile", *lines])


def markdown(found: Mapping[str, Any]) -> str:
    """For the page: what it was measured on, and the table."""
    program = found["program"]
    about = (
        f"{found['machine']}, Linux {found['kernel']}, load {found['load']:.1f} before; "
        f"{program['instructions']:,} instructions, "
        f"{program['jited_bytes']:,} bytes of machine code; "
        f"median of {found['rounds']} rounds of {found['repeat']:,} packets ± the farther quartile."
    )
    (first, second, *body) = rows(found)
    head = [" ".join(filter(None, pair)) for pair in zip(first, second)]
    head[0] = "ns a packet; slots tracked:"
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join([about, "", *("| " + " | ".join(line) + " |" for line in lines)])
