# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plots of docs/performance.md, all in one style. The same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.cases import CASES
from bench.results import net

DIRECTORY = Path(__file__).parents[1] / "docs" / "performance"

# Okabe and Ito's colours: they differ for every eye, and marks and labels differ besides.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#767676"

mpl.rcParams.update(
    {
        "svg.hashsalt": "l4lb.xdp",
        "figure.facecolor": "white",  # readable on a dark page, too
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "xtick.color": "#333333",
        "ytick.color": "#333333",
        "legend.frameon": False,
    }
)


def canvas(title: str, width: float = 8, height: float = 4.5) -> tuple[Canvas, Axes]:
    """An empty plot; sizes in inches."""
    figure = Canvas(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, pad=12)
    return figure, axes


def save(figure: Canvas, name: str) -> None:
    """Writes docs/performance/NAME.svg."""
    DIRECTORY.mkdir(exist_ok=True)
    figure.savefig(DIRECTORY / f"{name}.svg", metadata={"Date": None})


def logarithmic(axes: Axes, axis: str, ticks: list[float]) -> None:
    """A logarithmic axis ("x" or "y") with these ticks and no others, written as plain numbers."""
    getattr(axes, f"set_{axis}scale")("log")
    chosen = getattr(axes, f"{axis}axis")
    chosen.set_major_locator(FixedLocator(ticks))
    chosen.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:,.0f}"))
    chosen.set_minor_locator(NullLocator())


def packet(found: Mapping[str, Any]) -> None:
    """The plots of `make bench`."""
    _cases(found)
    _flows(found)


def _cases(found: Mapping[str, Any]) -> None:
    figures = net(found)
    rows = dict(enumerate(CASES))
    ours = {row: figures[case.name, "adaptive", "settled"].median for row, case in rows.items()}
    rival = {
        row: figures[case.name, "always", "settled"].median
        for row, case in rows.items()
        if case.steered
    }
    katran = [(value, row) for row, case in rows.items() for value in case.katran]
    target = {row: case.target for row, case in rows.items() if case.target}

    figure, axes = canvas("What a packet costs", height=5.6)
    axes.plot(ours.values(), ours.keys(), "o", color=BLUE, ms=8, label="adaptive, settled ring")
    axes.plot(target.values(), target.keys(), "|k", ms=15, mew=1.5, label="target")
    table = "tracking: always (every flow in the table)"
    axes.plot(rival.values(), rival.keys(), "s", color=ORANGE, ms=7, label=table)
    for row, case in rows.items():
        axes.plot(case.katran, [row] * len(case.katran), color=GREY, lw=1)
    style = {"color": GREY, "mfc": "white", "ms": 6, "label": "Katran, measured elsewhere"}
    axes.plot(*zip(*katran), "D", **style)
    for row, value in ours.items():
        axes.annotate(
            f"{value:.0f}",
            (value, row),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            color=BLUE,
        )
    axes.set_yticks(list(rows), [case.name for case in CASES])
    axes.set_ylim(len(rows) - 0.5, -0.8)
    axes.grid(axis="y", visible=False)
    logarithmic(axes, "x", [10, 20, 50, 100, 200, 500, 1000, 2000])
    axes.set_xlim(left=min(ours.values()) * 0.6)
    axes.set_xlabel("nanoseconds a packet, net of an empty program (logarithmic)")
    figure.legend(loc="outside lower center", ncols=2)
    save(figure, "packet-cases")


def _flows(found: Mapping[str, Any]) -> None:
    figures = net(found)
    cases = [case for case in CASES if case.name.startswith("TCP")]
    figure, axes = canvas("Established TCP: what it costs to have changed")
    ways = (
        ("adaptive", "settled", BLUE, "o", "settled ring"),
        ("adaptive", "some", GREEN, "^", f"{found['tracked']['some'] * 100:.0f} % of it tracked"),
        ("adaptive", "all", PURPLE, "v", "all of it tracked"),
        ("always", "settled", ORANGE, "s", "tracking: always"),
    )
    places = range(len(cases))
    for tracking, ring, colour, mark, label in ways:
        points = [figures[case.name, tracking, ring] for case in cases]
        middle = [point.median for point in points]
        errors = [
            [point.median - point.low for point in points],
            [point.high - point.median for point in points],
        ]
        axes.errorbar(
            places, middle, errors, color=colour, marker=mark, ms=7, lw=1.5, capsize=3, label=label
        )
    axes.set_xticks(places, [f"{case.flows:,} flow{'s' * (case.flows > 1)}" for case in cases])
    axes.margins(x=0.15)
    logarithmic(axes, "y", [10, 20, 50, 100, 200, 500, 1000])
    axes.set_ylabel("nanoseconds a packet (logarithmic)")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper left")
    save(figure, "packet-tracking")
