# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet at one moment: what the agents say, and where the router sends each address."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import inside
import routes
from common import LabError
from fleet import host_of
from topology import HOSTS, of_kind

STATUS = "/run/l4lb/agent/status.json"
FINGERPRINT = re.compile(r'^l4lb_fingerprint_info\{fingerprint="(\w+)"\} 1\.0$', re.MULTILINE)
FRESH = 3.0
POLL = 0.05
NODES = tuple(host.name for host in of_kind("node"))


@dataclass(frozen=True)
class View:
    """agents: status.json by node; empty where there is none. routes: nodes by service address."""

    agents: dict[str, dict]
    routes: dict[str, set[str]]

    def fresh(self, node: str) -> bool:
        return time.time() - self.agents[node].get("written", 0) < FRESH

    def pid(self, node: str) -> int:
        return self.agents[node].get("pid", 0)

    def backends(self, host: str) -> list[dict]:
        """What every node says of a host's addresses."""
        return [
            backend
            for status in self.agents.values()
            for backend in status.get("backends", ())
            if host_of(backend["address"]) == host
        ]

    def is_down(self, host: str) -> bool:
        """Whether every node has it out of every ring."""
        seen = self.backends(host)
        return bool(seen) and all(b["health"] == "down" and not b["in_ring"] for b in seen)

    def is_up(self, host: str) -> bool:
        return all(b["health"] == "up" and b["in_ring"] for b in self.backends(host))

    def announces(self, node: str) -> bool:
        """Whether the router uses the node for every address."""
        return all(node in nodes for nodes in self.routes.values())

    def withdrawn(self, node: str) -> bool:
        """Whether the router uses the node for no address."""
        return all(node not in nodes for nodes in self.routes.values())

    def is_well(self) -> bool:
        """Agents at work, all they ask up, everything announced by every node."""
        return all(
            self.fresh(node) and self.announces(node) and self.agents[node].get("backends")
            for node in NODES
        ) and all(
            backend["health"] == "up" for node in NODES for backend in self.agents[node]["backends"]
        )


Condition = Callable[[View], bool]


def look(addresses: Collection[str]) -> View:
    return View(
        {node: inside.read_json(node, STATUS) for node in NODES},
        {address: routes.nodes_for(address) for address in addresses},
    )


def watch(addresses: Collection[str], until: Condition, seconds: float) -> tuple[float, list[View]]:
    """Look until it is so. Returns when it was (CLOCK_MONOTONIC) and all that was seen.

    Raises LabError when the time is over.
    """
    deadline = time.monotonic() + seconds
    seen: list[View] = []
    while True:
        seen.append(look(addresses))
        now = time.monotonic()
        if until(seen[-1]):
            return now, seen
        if now > deadline:
            raise LabError(f"it did not come to that within {seconds:.0f} s")
        time.sleep(POLL)


def fingerprint(node: str) -> str:
    """What whoever scrapes the node's metrics sees; empty while there is none."""
    where = f"http://{HOSTS[node].management}:9474/metrics"
    page = inside.do(node, "curl", "--silent", "--show-error", where)
    found = FINGERPRINT.search(page)
    return found[1] if found else ""
