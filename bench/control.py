# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-control`: how long a change of the inventory takes on one node (docs/performance.md).

Every case is a fresh process of the distribution's Python, as a module is, in network and mount
namespaces that vanish with this one. A case reports when each of its steps began and ended, in
seconds since its main function began; importing the library comes before that and is told apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from bench import control_plots, inventory, machine, page
from tests.dataplane import node
from tests.dataplane.conftest import bpffs

CHECKOUT = Path(__file__).parents[1]
RESULT = CHECKOUT / "bench/results/control.json"
CASE = Path(__file__).with_name("control_case.py")
PYTHON = "/usr/bin/python3"

REPEATS = 5
FLOWS = (100_000, 1_000_000)
RINGS = (16381, 65537)
MARKS = {
    "fill, 300 pools": 60.0,
    "fill, one pool": 5.0,
    "one backend": 1.0,
    "nothing changed": 3.0,
    "scan 100000 flows": 1.0,
}
"""What each case has to stay below, in seconds."""


@contextmanager
def prepared(sizes: Sizes) -> Iterator[dict[str, str]]:
    """An empty node with maps of these sizes; where its things are."""
    with tempfile.TemporaryDirectory(prefix="l4lb-bench-") as directory:
        state_dir = Path(directory)
        with bpffs(state_dir / "bpf") as pins:
            node.Node(pins, state_dir, sizes)
            yield {"pins": str(pins), "source": str(node.SOURCE), "state_dir": directory}


def case(what: str, where: dict[str, str], **more: Any) -> dict[str, Any]:
    """One case in a process of its own."""
    result = subprocess.run(
        [PYTHON, str(CASE)],
        input=json.dumps({"case": what, **where, **more}),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / ".venv/collections")},
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def say(name: str, taken: dict[str, Any]) -> None:
    mark = MARKS.get(name)
    limit = f"  (at most {mark:g})" if mark else ""
    print(f"  {name:34} {taken['seconds']:8.2f} s{limit}", flush=True)


def repeated(what: str, where: dict[str, str], each: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of median duration, and all durations."""
    runs = sorted((case(what, where, **more) for more in each), key=lambda run: run["seconds"])
    median = dict(runs[len(runs) // 2])
    median["all_seconds"] = [round(run["seconds"], 3) for run in runs]
    return median


def measure_fleet(ring: int) -> dict[str, Any]:
    """3,000 services over 300 pools of 30: the fill, one change, none, and what only looks."""
    found: dict[str, Any] = {}

    def add(name: str, taken: dict[str, Any]) -> None:
        found[name] = taken
        say(name, taken)

    print(f"3,000 services over 300 pools of 30 backends, rings of {ring}:", flush=True)
    with prepared(Sizes(ring=ring)) as where:
        full = inventory.fleet(pools=300, backends=30, services=3000)
        add("fill, 300 pools", case("apply", where, **full))
        same = [full] * REPEATS
        add("nothing changed", repeated("apply", where, same))
        add("nothing changed, check mode", repeated("check", where, same))
        changes = [inventory.changed(full, weight) for weight in range(50, 50 + REPEATS)]
        add("one backend, check mode", repeated("check", where, changes))
        add("one backend", repeated("apply", where, changes))
        states = [
            {"address": inventory.address(7, 3), "state": ("draining", "active")[i % 2]}
            for i in range(REPEATS)
        ]
        add("one backend, module backend", repeated("backend", where, states))
        add("info", repeated("info", where, [{}] * 3))
        add("fingerprint only", repeated("fingerprint", where, [{}] * 3))
        add("explain", repeated("explain", where, [{}] * 3))
        found["memory"] = case("memory", where)
        print(f"  kernel memory {found['memory']['bytes'] / 2**20:24.0f} MiB", flush=True)
    return found


def measure_shared() -> dict[str, Any]:
    with prepared(Sizes()) as where:
        taken = case("apply", where, **inventory.fleet(pools=1, backends=30, services=3000))
    say("fill, one pool", taken)
    return taken


def measure_flows() -> dict[str, Any]:
    found = {}
    for flows in FLOWS:
        with prepared(Sizes()) as where:
            one = inventory.fleet(pools=1, backends=30, services=1)
            one["pools"]["pool000"]["settle"] = 60
            case("apply", where, **one)
            case("write flows", where, flows=flows)
            for what in ("scan", "settle"):
                name = f"{what} {flows} flows"
                found[name] = repeated(what, where, [{}] * 3)
                say(name, found[name])
    return found


def main() -> int:
    began = time.monotonic()
    found: dict[str, Any] = {
        **machine.circumstances(),
        "marks": MARKS,
    }
    node.isolate()
    node.wire()
    found["rings"] = {str(ring): measure_fleet(ring) for ring in RINGS}
    found["shared"] = measure_shared()
    found["flows"] = measure_flows()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    control_plots.draw(found)
    page.write("control", control_plots.markdown(found))
    seconds = time.monotonic() - began
    print(f"written: {RESULT.relative_to(CHECKOUT)}, docs/performance*; {seconds:.0f} s")
    taken = {**found["rings"]["65537"], "fill, one pool": found["shared"], **found["flows"]}
    slow = [name for name, mark in MARKS.items() if taken[name]["seconds"] > mark]
    for name in slow:
        print(f"too slow: {name}, {taken[name]['seconds']:.2f} s, at most {MARKS[name]:g}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
