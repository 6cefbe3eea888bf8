# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab's fleet goes through scenarios under constant load, and tables of what came of it.

What `make chaos` breaks and what `make lifecycle` does differ in their lists of scenarios, in what
they count, and in what they expect; all else is here.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import fleet
import hosts
import report
import trouble
import view
from breakage import INVENTORY
from common import LabError, step
from fleet import Inventory
from load import DATAGRAMS, LONG, MESSAGES, SHORT
from verify import wait_for_routes

from bench import page

CALM = 3.0  # seconds without trouble after which there is none
WHOLE = 45.0  # seconds that trouble may last
MENDED = 90.0
NONE = "-"
BREAK_LOCK = ("-e", "l4lb_break_lock=true")  # of a run that was interrupted


class Shown(Protocol):
    """A scenario, as far as the stage knows it."""

    @property
    def title(self) -> str: ...


class Result(Protocol):
    """What came of one."""

    name: str
    wrong: list[str]

    def cells(self) -> list[str]:
        """The row of the table, in words; the title comes first."""


S = TypeVar("S", bound=Shown)
R = TypeVar("R", bound=Result)


def of(counted: tuple[int, int]) -> str:
    return f"{counted[0]} of {counted[1]}" if counted[1] else NONE


def datagram_target(inventory: Inventory) -> str:
    found = [s for s in inventory.services if s["protocol"] == "udp"]
    if not found:
        raise LabError(f"{INVENTORY} has no service over UDP for the load")
    return f"{found[0]['address']}:{found[0]['port']}"


class Stage(ABC, Generic[S, R]):
    """One run of some scenarios, over one inventory."""

    block: str
    """The table's block in `page`, and the name of the target in the Makefile."""
    page: Path
    head: tuple[str, ...]
    scenarios: Mapping[str, S]
    quick: tuple[str, ...] = ()
    """Scenarios for a machine that is busy besides: times are not judged with them."""
    strict = True

    def __init__(self) -> None:
        self.inventory = fleet.read_inventory(INVENTORY)
        self.addresses = sorted({service["address"] for service in self.inventory.services})
        self.loads = int(time.time()) % 80  # other addresses than a run before this one had

    @abstractmethod
    def run(self, name: str, scenario: S) -> R:
        """Go through one; whatever comes of it, the fleet is as it was afterwards."""

    def begin(self, _names: list[str]) -> None:
        """The fleet as inventory says."""
        hosts.up()
        step("site: ansible-playbook -i inventories/lab playbooks/site.yml")
        fleet.play(INVENTORY, "site", *BREAK_LOCK)
        wait_for_routes(self.inventory)

    def watch(self, until: view.Condition, seconds: float) -> tuple[float, list[view.View]]:
        return view.watch(self.addresses, until, seconds)

    def under_load(self, work: Callable[[trouble.Load], None]) -> None:
        """Do something while the client is busy; begins when all its connections stand."""
        urls, datagrams = list(self.inventory.urls), datagram_target(self.inventory)
        self.loads += 1
        with (
            trouble.addresses(self.loads) as sources,
            trouble.constant_load(urls, datagrams, sources) as load,
        ):
            load.wait_until_calm(CALM, WHOLE)
            work(load)

    def show(self, results: list[R]) -> None:
        rows = [[result.name, *result.cells()[1:]] for result in results]
        title = (
            f"Under {LONG} long connections with {MESSAGES} requests a second each, {SHORT} new"
            f" connections and {DATAGRAMS} datagrams a second"
        )
        print(report.table(title, ("scenario", *self.head[1:]), rows), flush=True)

    def markdown(self, results: list[R]) -> str:
        rows = [[*result.cells(), "; ".join(result.wrong) or "as it should"] for result in results]
        lines = [(*self.head, "verdict"), ("---",) * (len(self.head) + 1), *rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def run_all(self, names: list[str]) -> list[R]:
        chosen = names or list(self.scenarios)
        self.begin(chosen)
        results = []
        for name in chosen:
            step(f"{name}: {self.scenarios[name].title}")
            result = self.run(name, self.scenarios[name])
            results.append(result)
            self.show([result])
            for line in result.wrong:
                step(f"wrong: {line}")
        return results

    def parse(self) -> list[str]:
        parser = argparse.ArgumentParser(description=f"What `make {self.block}` does.")
        known = list(self.scenarios)
        parser.add_argument("names", nargs="*", metavar="SCENARIO", help=", ".join(known))
        if self.quick:
            chosen = ", ".join(self.quick)
            parser.add_argument(
                "--quick", action="store_true", help=f"{chosen}; times do not count"
            )
        given = parser.parse_args()
        names = given.names
        if self.quick and given.quick:
            self.strict = False
            names = names or list(self.quick)
        unknown = [name for name in names if name not in known]
        if unknown:
            parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    def main(self) -> int:
        names = self.parse()
        began = time.monotonic()
        results = self.run_all(names)
        self.show(results)
        if not names:
            page.write(self.block, self.markdown(results), self.page)
            step(f"written: {self.page}")
        wrong = sum(bool(result.wrong) for result in results)
        took = time.monotonic() - began
        step(f"{len(results)} scenarios, {wrong} not as they should be, {took:.0f} s")
        return 1 if wrong else 0


def interrupt(*_signal: object) -> None:
    """Whatever is broken is mended before the end."""
    raise KeyboardInterrupt


def perform(stage: Callable[[], Stage]) -> None:
    """The whole program."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        sys.exit(stage().main())
    except LabError as error:
        sys.exit(f"[lab] failed: {error}\n[lab] what is up stays up: make lab-shell HOST=node1")
    except KeyboardInterrupt:
        sys.exit("[lab] interrupted, and mended; the lab stays up")
