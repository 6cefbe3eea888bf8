# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make bench-control` shows: its table and its plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from bench.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, canvas, save

COLOURS = {
    "validate": GREY,
    "open the maps": "#e69f00",
    "read the maps": "#56b4e9",
    "plan": BLUE,
    "write the maps": ORANGE,
    "read back": GREEN,
    "remember": PURPLE,
}
RING = "65537"

ROWS = {
    "fill, 300 pools": "from an empty node to the last map write",
    "one backend": "another weight in inventory, `services`: start to the ring's write",
    "one backend, module backend": "drained or given back, `backend`: start to the ring's write",
    "one backend, check mode": "the same change of inventory, predicted only",
    "nothing changed": "`services` again, whole run",
    "nothing changed, check mode": "",
    "info": "`info`, everything",
    "fingerprint only": "`info` with `gather: [fingerprint]`",
    "explain": "`explain`, one packet",
}


def outermost(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The steps that are part of no other."""
    return [
        step
        for step in steps
        if not any(
            other is not step
            and other["began"] <= step["began"]
            and step["ended"] <= other["ended"]
            for other in steps
        )
    ]


def markdown(found: Mapping[str, Any]) -> str:
    rings = found["rings"]
    sizes = sorted(rings, key=int)
    lines = [
        f"{found['machine']}, Linux {found['kernel']}, load {found['load']:.1f} before. "
        + "Seconds, the median of five runs, of three for what only looks, of one for a fill.",
        "",
        "| 3,000 services, 300 pools, 9,000 backends | "
        + " | ".join(f"M = {int(size):,}" for size in sizes)
        + " | at most |",
        "| --- |" + " ---: |" * (len(sizes) + 1),
    ]
    for name, meaning in ROWS.items():
        mark = found["marks"].get(name)
        cells = [f"{rings[size][name]['seconds']:.2f}" for size in sizes]
        title = f"{name}: {meaning}" if meaning else name
        lines.append(f"| {title} | {' | '.join(cells)} | {f'{mark:g}' if mark else ''} |")
    memory = [f"{rings[size]['memory']['bytes'] / 2**20:,.0f} MiB" for size in sizes]
    lines.append(f"| kernel memory of all maps | {' | '.join(memory)} | 2,048 MiB |")
    lines += ["", "| one pool of 30 backends | seconds | at most |", "| --- | ---: | ---: |"]
    others = {"fill, one pool": found["shared"], **found["flows"]}
    for name, taken in others.items():
        mark = found["marks"].get(name)
        lines.append(f"| {_named(name)} | {taken['seconds']:.2f} | {f'{mark:g}' if mark else ''} |")
    return "\n".join(lines)


def _named(name: str) -> str:
    return {
        "fill, one pool": "fill, 3,000 services",
        "scan 100000 flows": "scan of 100,000 records of flows",
        "scan 1000000 flows": "scan of 1,000,000",
        "settle 100000 flows": "settle with 100,000 living flows, whole run in check mode",
        "settle 1000000 flows": "settle with 1,000,000",
    }[name]


def draw(found: Mapping[str, Any]) -> None:
    fleet = found["rings"][RING]
    changes = ["one backend", "one backend, module backend", "nothing changed"]
    figure, axes = canvas("One change in 3,000 services over 300 pools", height=3.4)
    _bars(axes, {name: fleet[name] for name in changes})
    axes.axvline(1, color="black", lw=1.2)
    axes.annotate("1 s", (1, -0.75), ha="center", annotation_clip=False)
    figure.legend(*_legend(axes), loc="outside lower center", ncols=4)
    save(figure, "control-change")

    figure, axes = canvas("Filling an empty node: 300 pools of 30 backends", height=2.9)
    runs = {f"M = {int(size):,}": run for size, run in found["rings"].items()}
    _bars(axes, {name: run["fill, 300 pools"] for name, run in runs.items()})
    figure.legend(*_legend(axes), loc="outside lower center", ncols=4)
    save(figure, "control-fill")


def _bars(axes: Axes, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """A line of time for each run, its steps in their colours."""
    for row, run in enumerate(runs.values()):
        for step in outermost(run["steps"]):
            width = step["ended"] - step["began"]
            name = step["step"]
            axes.barh(row, width, left=step["began"], height=0.55, color=COLOURS[name], label=name)
    axes.set_yticks(range(len(runs)), list(runs))
    axes.set_ylim(len(runs) - 0.5, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds since the module began its work")


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    """Each step once, in the order of a run."""
    handles, labels = axes.get_legend_handles_labels()
    found = dict(zip(labels, handles))
    names = [name for name in COLOURS if name in found]
    return [found[name] for name in names], names
