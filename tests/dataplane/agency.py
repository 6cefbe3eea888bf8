# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent itself at work: a process on the node of a small fleet, with a real BIRD beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _agent_status, _program, _wanted
from ansible_collections.l4lb.xdp.plugins.module_utils._node import Places
from l4lb_agent.announcer import TABLES
from tests.agent.bgp import ROOT, render

from .node import SOURCE, VIP4, VIP6, Node
from .probing import BACKENDS, Fleet

CHECK = {"type": "tcp", "interval": 1, "timeout": 1, "fall": 2, "rise": 1}
PATIENCE = 20.0


@dataclass
class Agency:
    """The node's agent and BIRD."""

    fleet: Fleet
    directory: Path
    agent: subprocess.Popen[bytes] | None = None
    bird: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def made(cls, directory: Path) -> Iterator[Agency]:
        with Fleet.made(directory) as fleet:
            made = cls(fleet, directory)
            made.run_dir.mkdir()
            made.configure()
            try:
                made.start_bird()
                made.start()
                yield made
            finally:
                for process in (made.agent, made.bird):
                    if process is not None:
                        process.kill()
                        process.wait()

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    @property
    def state_dir(self) -> Path:
        return self.directory / "state"

    @property
    def places(self) -> Places:
        return Places(self.state_dir, self.run_dir, self.fleet.pins, SOURCE)

    @property
    def control(self) -> Path:
        return self.directory / "bird.ctl"

    def configure(self) -> None:
        """What Ansible would have done."""
        self.serve(health_check=CHECK)
        _wanted.remember(self.fleet.wanted, self.state_dir)
        config = render(self.directory, l4lb_services=[{"address": VIP4}, {"address": VIP6}])
        options = {
            "pins": str(self.fleet.pins),
            "source": str(SOURCE),
            "state_dir": str(self.state_dir),
            "run_dir": str(self.run_dir),
            "bird_config": str(config),
            "bird_socket": str(self.control),
            "listen": "",
            "hold": 1,
            "settle_interval": 1,
        }
        (self.directory / "agent.json").write_text(json.dumps(options))

    def serve(self, **pool: Any) -> None:
        """One pool of all backends behind both addresses."""
        with self.fleet.node.inside():
            self.fleet.balancer.serve(*BACKENDS, **pool)

    def start(self) -> None:
        path = f"{ROOT}/.venv/collections:{ROOT}/roles/agent/files"
        command = [sys.executable, "-m", "l4lb_agent", str(self.directory / "agent.json")]
        with self.fleet.node.inside():
            self.agent = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})

    def make_maps_anew(self) -> None:
        """As l4lb.xdp.program does, detached and attached again; nothing is in them yet."""
        wanted = self.fleet.wanted
        with self.fleet.node.inside():
            _program.detach(wanted)
            self.fleet.balancer = Node(self.fleet.pins, self.state_dir)
            _program.attach(self.fleet.balancer.loaded)
        _wanted.remember(wanted, self.state_dir)

    def start_bird(self) -> None:
        pid = self.directory / "bird.pid"
        with self.fleet.node.inside():
            self.bird = subprocess.Popen(
                [
                    *("bird", "-f", "-c", str(self.directory / "bird.conf")),
                    *("-s", str(self.control), "-P", str(pid)),
                ]
            )
        until(lambda: "is up" in self.ask_bird("show", "status"))

    def kill(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()

    def ask_bird(self, *words: str) -> str:
        command = ["birdc", "-s", str(self.control), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def announced(self) -> set[str]:
        """What BIRD announces, asked now."""
        held = "".join(self.ask_bird("show", "route", "table", name) for name in TABLES.values())
        return {address for address in (VIP4, VIP6) if f"{address}/" in held}

    def status(self) -> dict[str, Any]:
        return _agent_status.read(self.run_dir) or {}

    def reasons(self, address: str = VIP4) -> str:
        return "; ".join(self.status()["addresses"][address]["reasons"])

    def in_ring(self) -> set[str]:
        """The backends that the kernel's ring points to."""
        tables = self.fleet.balancer.tables
        backends = tables.actual().backends
        ring = tables.ring(0)
        assert ring is not None
        return {backends[index].address for index in set(ring.current) - {0}}

    def health(self) -> dict[str, str]:
        return {each["address"]: each["health"] for each in self.status()["backends"]}


def until(what: Callable[[], Any], patience: float = PATIENCE) -> float:
    """Waits until it is so; returns the seconds that took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < patience, f"not within {patience} s"
        time.sleep(0.05)
    return time.monotonic() - began
