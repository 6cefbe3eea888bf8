# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the dashboard's panels as they lie in its grid: a likeness of Grafana, not its copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tests.lab.dashboard import Panel, Series

BACK, CARD, EDGE, INK, FAINT = "#111217", "#181b1f", "#2a2d33", "#ccccdc", "#8e8e99"
PALETTE = "#73bf69 #f2cc0c #8ab8ff #ff9830 #f2495c #5794f2 #b877d9 #705da0 #37872d #fade2a".split()
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "text": INK}
COLUMNS, CELL_WIDTH, CELL_HEIGHT = 24, 0.78, 0.36
"""Of the grid, and of one cell in inches."""
_LEGEND_ROWS = 4

mpl.rcParams.update({"svg.hashsalt": "l4lb.xdp", "font.size": 8.5, "svg.fonttype": "none"})


def draw(panels: Sequence[Panel], out: Path, rows: int | None = None) -> None:
    """Writes the picture; its kind is that of the file's name. rows: only the first so many."""
    tops = [p.definition["gridPos"]["y"] for p in panels if p.definition["type"] == "row"]
    end = tops[rows] if rows is not None and rows < len(tops) else math.inf
    panels = [panel for panel in panels if panel.definition["gridPos"]["y"] < end]
    height = max(p.definition["gridPos"]["y"] + p.definition["gridPos"]["h"] for p in panels)
    figure = Figure(figsize=(COLUMNS * CELL_WIDTH, height * CELL_HEIGHT), facecolor=BACK)
    moments = [at for panel in panels for series in panel.series for at, _v in series.points]
    span = datetime.fromtimestamp(min(moments)), datetime.fromtimestamp(max(moments))
    for panel in panels:
        _draw(figure, panel, height, span)
    metadata = {"Date": None} if out.suffix == ".svg" else None
    figure.savefig(out, metadata=metadata, dpi=100, facecolor=BACK)


def _draw(figure: Figure, panel: Panel, rows: int, span: tuple[datetime, datetime]) -> None:
    at, kind = panel.definition["gridPos"], panel.definition["type"]
    gap_x, gap_y = 0.1 / COLUMNS, 0.12 / rows
    left, bottom = at["x"] / COLUMNS + gap_x, 1 - (at["y"] + at["h"]) / rows + gap_y
    width, height = at["w"] / COLUMNS - 2 * gap_x, at["h"] / rows - 2 * gap_y
    card = figure.add_axes((left, bottom, width, height))
    card.set(xlim=(0, 1), ylim=(0, 1))
    card.axis("off")
    if kind == "row":
        card.text(
            0.002, 0.5, panel.definition["title"], color=INK, size=11, weight="bold", va="center"
        )
        return
    style = {"boxstyle": "square,pad=0", "facecolor": CARD, "edgecolor": EDGE}
    card.add_patch(FancyBboxPatch((0, 0), 1, 1, transform=card.transAxes, **style))
    inches = width * COLUMNS * CELL_WIDTH, height * rows * CELL_HEIGHT
    card.text(
        0.1 / inches[0],
        1 - 0.1 / inches[1],
        panel.definition["title"],
        color=INK,
        va="top",
        weight="bold",
    )
    if kind in ("stat", "table"):
        (_stat if kind == "stat" else _table)(card, panel, inches)
        return
    legend = (
        0.0
        if kind == "state-timeline"
        else 0.17 * min(_LEGEND_ROWS, max(1, len(panel.series))) + 0.12
    )
    names = 1.25 if kind == "state-timeline" else 0.6
    box = (
        left + names / (COLUMNS * CELL_WIDTH),
        bottom + (legend + 0.3) / (rows * CELL_HEIGHT),
        width - (names + 0.15) / (COLUMNS * CELL_WIDTH),
        height - (legend + 0.65) / (rows * CELL_HEIGHT),
    )
    axes = figure.add_axes(box, facecolor=CARD)
    _frame(axes)
    axes.set_xlim(*span)
    if not panel.series:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no data", color=FAINT, transform=axes.transAxes, ha="center")
        return
    (_lines if kind == "timeseries" else _timeline)(axes, panel)
    if legend:
        _legend(card, panel, inches)


def _frame(axes: Axes) -> None:
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(color=EDGE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, length=0, labelsize=8)


def _time_axis(axes: Axes) -> None:
    locator = AutoDateLocator(maxticks=6)
    formatter = ConciseDateFormatter(locator, show_offset=False)
    formatter.formats[3:] = formatter.zero_formats[3:] = ["%H:%M", "%H:%M", "%H:%M:%S"]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)


def _values(series: Series) -> tuple[list[datetime], list[float]]:
    return [datetime.fromtimestamp(at) for at, _v in series.points], [v for _at, v in series.points]


def _lines(axes: Axes, panel: Panel) -> None:
    defaults = panel.definition["fieldConfig"]["defaults"]
    custom, unit = defaults["custom"], UNITS[defaults["unit"]]
    where = {"drawstyle": "steps-post"} if custom["lineInterpolation"] == "stepAfter" else {}
    if "stacking" in custom:
        times = sorted({at for series in panel.series for at, _v in series.points})
        rows = [[dict(s.points).get(at, 0.0) for at in times] for s in panel.series]
        step = {"step": "post"} if where else {}
        moments = [datetime.fromtimestamp(at) for at in times]
        axes.stackplot(moments, rows, colors=_colours(panel), alpha=0.75, linewidth=0, **step)
    else:
        for series, colour in zip(panel.series, _colours(panel)):
            axes.plot(*_values(series), color=colour, linewidth=1.4, **where)
    for step in defaults.get("thresholds", {}).get("steps", [])[1:]:
        axes.axhline(step["value"], color=NAMED[step["color"]], linewidth=0.8, linestyle="--")
    low, high = axes.get_ylim()
    axes.set_ylim(
        defaults["min"] if defaults.get("min") is not None else low, defaults.get("max", high)
    )
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=defaults["unit"] == "short"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _at: unit(value)))
    _time_axis(axes)


def _colours(panel: Panel) -> list[str]:
    fixed = {
        override["matcher"]["options"]: NAMED[override["properties"][0]["value"]["fixedColor"]]
        for override in panel.definition["fieldConfig"]["overrides"]
    }
    return [
        fixed.get(series.name, PALETTE[i % len(PALETTE)]) for i, series in enumerate(panel.series)
    ]


def _timeline(axes: Axes, panel: Panel) -> None:
    steps = panel.definition["fieldConfig"]["defaults"]["thresholds"]["steps"]
    for row, series in enumerate(panel.series):
        times, values = _values(series)
        for i, value in enumerate(values):
            following = times[i + 1] if i + 1 < len(times) else times[i]
            axes.barh(
                row, following - times[i], left=times[i], height=0.7, color=_colour(value, steps)
            )
    axes.set_yticks(range(len(panel.series)), [series.name for series in panel.series], size=7)
    axes.set_ylim(len(panel.series) - 0.4, -0.6)
    _time_axis(axes)


def _colour(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    chosen = [s["color"] for s in steps if s["value"] is None or value >= s["value"]]
    return NAMED[chosen[-1]]


def _stat(card: Axes, panel: Panel, inches: tuple[float, float]) -> None:
    defaults = panel.definition["fieldConfig"]["defaults"]
    value = panel.series[0].points[-1][1] if panel.series else math.nan
    known = not math.isnan(value)
    text = UNITS[defaults["unit"]](value) if known else defaults["noValue"]
    colour = _colour(value, defaults["thresholds"]["steps"]) if known else FAINT
    size = min(26.0, inches[0] * 72 / max(4, len(text)) * 1.2)
    card.text(0.5, 0.42, text, color=colour, size=size, weight="bold", ha="center", va="center")


def _table(card: Axes, panel: Panel, inches: tuple[float, float]) -> None:
    order = panel.definition["transformations"][0]["options"]["indexByName"]
    columns, line = list(order), 0.19 / inches[1]
    rows = [[series.labels.get(name, "") for name in columns] for series in panel.series]
    top = 1 - 0.45 / inches[1]
    if not rows:
        card.text(
            0.5,
            0.5,
            panel.definition["fieldConfig"]["defaults"]["noValue"],
            color=FAINT,
            ha="center",
        )
        return
    for number, row in enumerate([columns, *rows]):
        y = top - number * line
        if y < line:
            card.text(0.03, y, f"and {len(rows) - number + 1} more", color=FAINT, va="top")
            return
        for i, cell in enumerate(row):
            colour = FAINT if number == 0 else INK
            card.text(0.03 + i * 0.94 / len(columns), y, cell, color=colour, va="top", size=8)


def _legend(card: Axes, panel: Panel, inches: tuple[float, float]) -> None:
    unit = UNITS[panel.definition["fieldConfig"]["defaults"]["unit"]]
    shown = list(zip(panel.series, _colours(panel)))
    columns = 2 if len(shown) > _LEGEND_ROWS else 1
    most = _LEGEND_ROWS * columns
    if len(shown) > most:
        shown = shown[: most - 1]
    rows = min(_LEGEND_ROWS, len(panel.series))
    for i, (series, colour) in enumerate(shown):
        column, row = divmod(i, _LEGEND_ROWS)
        x = 0.02 + column * 0.49
        y = (0.17 * (rows - row) - 0.02) / inches[1]
        card.plot([x, x + 0.025], [y, y], color=colour, linewidth=2.5)
        last = unit(series.points[-1][1])
        card.text(x + 0.035, y, series.name, color=INK, size=7.5, va="center")
        card.text(x + 0.96 / columns - 0.01, y, last, color=INK, size=7.5, va="center", ha="right")
    if len(panel.series) > most:
        y = 0.15 / inches[1]
        card.text(
            0.55, y, f"and {len(panel.series) - most + 1} more", color=FAINT, size=7.5, va="center"
        )


# --- units, as Grafana writes them ---


def _scaled(value: float, unit: str = "", base: float = 1000.0, low: Sequence[str] = ()) -> str:
    size = abs(value)
    if 0 < size < 1 and low:
        return _small(value, unit, low)
    prefix = ""
    for larger in "kMGT":
        if size < base:
            break
        value, size, prefix = value / base, size / base, larger
    digits = f"{value:.3g}" if size < 1000 else f"{value:.0f}"
    return f"{digits} {prefix}{unit}".rstrip()


def _small(value: float, unit: str, prefixes: Sequence[str]) -> str:
    for prefix in prefixes:
        value *= 1000
        if abs(value) >= 1:
            return f"{value:.3g} {prefix}{unit}"
    return f"0 {unit}"


UNITS: Mapping[str, Callable[[float], str]] = {
    "short": _scaled,
    "pps": lambda value: _scaled(value, "p/s"),
    "bps": lambda value: _scaled(value, "b/s"),
    "ops": lambda value: _scaled(value, "/s"),
    "s": lambda value: (
        _scaled(value, "s", low=("m", "µ")) if value < 120 else f"{value / 60:.3g} min"
    ),
    "bytes": lambda value: _scaled(value, "iB", 1024.0) if value >= 1024 else f"{value:.0f} B",
    "percentunit": lambda value: f"{value * 100:.3g} %",
}
