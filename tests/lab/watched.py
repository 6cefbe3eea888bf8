# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboard as a picture: a real Prometheus watches the lab's fleet while things break in it.

watched.py OUT.svg
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import chaos
import hosts
import network
from common import CHECKOUT, STATE, LabError, step
from dashboard import prometheus
from topology import MANAGEMENT, of_kind

LISTEN = "127.0.0.1:9090"
PORT = 9474
BREAKS = ("process_dead", "node_drained")


def watch(out: Path) -> None:
    """Draws what Prometheus saw."""
    targets = {node.name: f"{node.management}:{PORT}" for node in of_kind("node")}
    began = time.time()
    # The management network is a namespace: this thread, and what it starts, goes there.
    with network.inside(MANAGEMENT), prometheus(targets, STATE / "prometheus", LISTEN):
        chaos.Chaos().run_all(list(BREAKS))
        minutes = (time.time() - began) / 60
        step(f"dashboard: drawing the last {minutes:.1f} minutes")
        subprocess.run(
            [
                *(sys.executable, "-m", "tests.lab.dashboard", f"http://{LISTEN}"),
                *(str(out), "--minutes", f"{minutes:.2f}", "--rows", "3"),
            ],
            cwd=CHECKOUT,
            check=True,
        )


def main() -> int:
    hosts.up()
    watch(Path(sys.argv[1]).absolute())
    step(f"written: {sys.argv[1]}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"[lab] failed: {error}\n[lab] what is up stays up: make lab-shell HOST=node1")
