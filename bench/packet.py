# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: nanoseconds a packet, net of an empty program (docs/performance.md).

Each round times everything once, in an order of its own: what is compared is compared within the
same round, and a disturbance hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from bench import machine, page, plots
from bench.cases import CASES, RINGS, Case, Way, measured
from bench.fleet import BACKENDS, SERVICES, fleet, meet, track
from bench.meter import EMPTY, PUSH, XDP_PASS, XDP_TX, Meter, Program, empty_table, quiet_kernel
from bench.results import markdown, table
from tests.dataplane.conftest import bpffs
from tests.dataplane.node import Node, interface, isolate, wire

ROUNDS = 15
REPEAT = 200_000
WARM = 70_000  # runs before the timed ones: every flow of 65,536 once
RESULTS = Path(__file__).parent / "results" / "packet.json"


class Bench:
    """A node with a pool for each way, and the harness in front of its program."""

    def __init__(self, directory: Path, pins: Path) -> None:
        self.node = Node(pins, directory / "state", sizes=Sizes())
        meet(interface("eth0"))
        pools, services, self.ports = fleet()
        self.node.apply(pools, services)
        track(self.node.tables)
        self.meter = Meter(self.node.loaded.fd, interface("eth0"))
        self._dirty = False

    def overhead(self, case: Case) -> dict[str, float]:
        """Nanoseconds a run of the harness with programs that do nothing."""
        frame = case.frame(min(self.ports.values()))
        times = {}
        for program in (EMPTY, PUSH):
            self.meter.run(program, frame, case.flows, WARM)
            took, _out = self.meter.run(program, frame, case.flows, REPEAT)
            times[program.name] = round(took, 2)
        return times

    def run(self, case: Case, way: Way) -> tuple[float, bool]:
        """Nanoseconds a run of the balancer, harness included, and whether it pushes a header."""
        action = XDP_TX if case.steered else XDP_PASS
        node = self.node
        program = Program("balancer", action, case.verdict, node.tables.verdicts)
        frame = case.frame(self.ports[way])
        self._empty_flows()
        warm = WARM
        if way.records:  # until all flows are recorded, or one more takes the place of another
            warm = max(WARM, min(case.flows, node.sizes.flows * 6 // 5))
            self._dirty = True
        self.meter.run(program, frame, case.flows, warm, shuffle=False)
        took, out = self.meter.run(program, frame, case.flows, REPEAT)
        return took, len(out) > len(frame)

    def _empty_flows(self) -> None:
        if self._dirty:
            for name in ("flows4", "flows6"):
                empty_table(self.node.tables.table(name))
        self._dirty = False


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """All rounds; times in nanoseconds a run."""
    overheads: dict[str, list[dict[str, float]]] = {case.name: [] for case in CASES}
    entries: dict[tuple[str, str, str], dict[str, Any]] = {}
    began = time.monotonic()
    for number in range(rounds):
        jobs: list[tuple[Case, Way | None]] = [*measured(), *((case, None) for case in CASES)]
        random.Random(number).shuffle(jobs)
        for case, way in jobs:
            if way is None:
                overheads[case.name].append(bench.overhead(case))
                continue
            took, pushed = bench.run(case, way)
            names = {"case": case.name, "tracking": way.tracking, "ring": way.ring}
            entry = entries.setdefault(
                tuple(names.values()), {**names, "pushed": pushed, "gross": []}
            )
            entry["gross"].append(round(took, 2))
        print(f"round {number + 1} of {rounds}, {time.monotonic() - began:.0f} s", flush=True)
    order = [(case.name, way.tracking, way.ring) for case, way in measured()]
    return {"overheads": overheads, "entries": [entries[key] for key in order]}


def circumstances(bench: Bench, rounds: int, cpu: int) -> dict[str, Any]:
    """What the figures depend on."""
    info = _bpf._ProgramInfo()
    _bpf._object_info(bench.node.loaded.fd, info)
    return {
        **machine.circumstances(),
        "cpu": cpu,
        "rounds": rounds,
        "repeat": REPEAT,
        "program": {
            "tag": bench.node.loaded.info.tag,
            "instructions": info.xlated_length // 8,
            "jited_bytes": info.jited_length,
        },
        "backends": len(BACKENDS),
        "services": SERVICES,
        "ring": bench.node.sizes.ring,
        "flows": bench.node.sizes.flows,
        "tracked": RINGS,
    }


def asked_rounds(description: str | None) -> int | None:
    """None for a whole measurement."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, help="a quick look with so many rounds: nothing is written"
    )
    rounds: int | None = parser.parse_args().rounds
    return rounds


def alone() -> int:
    """This process bound to a CPU, which is returned, and in namespaces of its own, wired."""
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    isolate()
    wire()
    return cpu


def main() -> None:
    rounds = asked_rounds(__doc__)
    cpu = alone()
    with tempfile.TemporaryDirectory() as path, bpffs(Path(path, "bpf")) as pins:
        bench = Bench(Path(path), pins)
        about = circumstances(bench, rounds or ROUNDS, cpu)
        with quiet_kernel():
            found = {**about, **measure(bench, rounds or ROUNDS)}
    print(table(found))
    if rounds:
        return
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    page.write("packet", markdown(found))
    plots.packet(found)


if __name__ == "__main__":
    main()
