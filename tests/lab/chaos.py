# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Break the lab's fleet under constant load, thing by thing, and say what came of it.

chaos.py [SCENARIO...]      without any: all of them, and the table goes into docs/operations.md
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import dataclass, field

import fleet
import hosts
import report
import trouble
import view
from breakage import INVENTORY
from common import CHECKOUT, LabError, step
from fleet import Inventory
from load import DATAGRAMS, LONG, MESSAGES, SHORT
from scenarios import EVERYBODY, NODE, Scenario, scenarios
from verify import wait_for_routes

from bench import page

PAGE = CHECKOUT / "docs/operations.md"
HEAD = (
    "what happens",
    "noticed",
    "whole again",
    "broken on it",
    "broken elsewhere",
    "paused elsewhere",
    "new ones failed",
    "datagrams lost",
    "broken by its return",
)
NONE = "-"
CALM = 3.0  # seconds without trouble after which there is none
WHOLE = 45.0  # seconds that trouble may last
MENDED = 90.0


@dataclass
class Result:
    """What came of a scenario; times in seconds since it began."""

    name: str
    scenario: Scenario
    noticed: float = 0.0
    whole: float | None = None
    on_it: tuple[int, int] = (0, 0)
    elsewhere: tuple[int, int] = (0, 0)
    paused: int = 0
    refused: tuple[int, int] = (0, 0)
    lost: tuple[int, int] = (0, 0)
    returned: int = 0
    wrong: list[str] = field(default_factory=list)

    def cells(self) -> list[str]:
        whole = "with them" if self.whole is None else f"{self.whole:.1f} s"
        return [
            self.scenario.title,
            f"{self.noticed:.1f} s",
            whole if self.whole != 0 else NONE,
            of(self.on_it),
            of(self.elsewhere),
            str(self.paused),
            of(self.refused),
            of(self.lost),
            str(self.returned),
        ]


def of(counted: tuple[int, int]) -> str:
    return f"{counted[0]} of {counted[1]}" if counted[1] else NONE


def datagram_target(inventory: Inventory) -> str:
    found = [s for s in inventory.services if s["protocol"] == "udp"]
    if not found:
        raise LabError(f"{INVENTORY} has no service over UDP for the load")
    return f"{found[0]['address']}:{found[0]['port']}"


class Chaos:
    """One run, over one inventory."""

    def __init__(self) -> None:
        self.inventory = fleet.read_inventory(INVENTORY)
        self.addresses = sorted({service["address"] for service in self.inventory.services})
        self.loads = int(time.time()) % 80  # other addresses than a run before this one had

    def watch(self, until: view.Condition, seconds: float) -> tuple[float, list[view.View]]:
        return view.watch(self.addresses, until, seconds)

    def run(self, name: str, scenario: Scenario) -> Result:
        self.watch(view.View.is_well, MENDED)
        result = Result(name, scenario)
        urls, datagrams = list(self.inventory.urls), datagram_target(self.inventory)
        try:
            scenario.prepares()
            self.loads += 1
            with (
                trouble.addresses(self.loads) as sources,
                trouble.constant_load(urls, datagrams, sources) as load,
            ):
                load.wait_until_calm(CALM, WHOLE)
                self.go_through(scenario, load, result)
        finally:
            scenario.mends()
        return result

    def go_through(self, scenario: Scenario, load: trouble.Load, result: Result) -> None:
        before = view.look(self.addresses)
        began = time.monotonic()
        scenario.breaks()
        try:
            limit = scenario.within + WHOLE
            noticed, seen = self.watch(lambda now: scenario.noticed(before, now), limit)
            result.noticed = noticed - began
        except LabError:
            result.noticed, seen = float("inf"), []
        if scenario.dead == EVERYBODY:
            time.sleep(CALM)  # what comes of it without anybody left
        else:
            load.wait_until_calm(CALM, WHOLE)
        mending = time.monotonic()
        scenario.mends()
        _mended, later = self.watch(view.View.is_well, MENDED)
        load.wait_until_calm(CALM, WHOLE)
        self.count(load, result, began, mending, time.monotonic())
        self.judge(result, seen + later)

    def count(
        self, load: trouble.Load, result: Result, began: float, mending: float, ended: float
    ) -> None:
        scenario = result.scenario
        servers = load.servers(began)
        dead = {number for number, who in servers.items() if scenario.dead in (who, EVERYBODY)}
        broken = load.troubles(began, mending, "broken")
        there = {each["id"] for each in broken if scenario.dead in (each["server"], EVERYBODY)}
        result.on_it = len(there), len(dead | there)
        result.elsewhere = len(broken) - len(there), len(servers.keys() - dead)
        gaps = load.troubles(began, mending, "gap")
        result.paused = len({each["id"] for each in gaps if each["server"] != scenario.dead})
        end = ended if scenario.dead == EVERYBODY else mending
        result.refused = (
            len(load.troubles(began, end, "refused")),
            load.sent(began, end, "short"),
        )
        result.lost = len(load.troubles(began, end, "lost")), load.sent(began, end, "datagrams")
        result.returned = len(load.troubles(mending, ended, "broken"))
        if scenario.dead != EVERYBODY:
            last = [each["at"] for each in load.troubles(began, mending)]
            result.whole = max(last) - began if last else 0.0

    def judge(self, result: Result, seen: list[view.View]) -> None:
        """What is not as it has to be."""
        scenario, wrong = result.scenario, result.wrong
        if result.noticed > scenario.within:
            wrong.append(f"not within {scenario.within:.0f} s: {scenario.sign}")
        if result.elsewhere[0]:
            wrong.append("connections broke that had nothing to do with it")
        if result.returned and scenario.dead != EVERYBODY:
            wrong.append("its return broke connections")
        if scenario.lossless and (result.refused[0] or result.lost[0]):
            wrong.append("packets were lost")
        if not scenario.withdraws and any(not each.announces(NODE) for each in seen):
            wrong.append(f"{NODE} was withdrawn")


def markdown(results: list[Result]) -> str:
    rows = [[*result.cells(), "; ".join(result.wrong) or "as it should"] for result in results]
    lines = [(*HEAD, "verdict"), ("---",) * (len(HEAD) + 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def show(results: list[Result]) -> None:
    rows = [[result.name, *result.cells()[1:]] for result in results]
    load = (
        f"Under {LONG} long connections with {MESSAGES} requests a second each, {SHORT} new"
        f" connections and {DATAGRAMS} datagrams a second"
    )
    print(report.table(load, ("scenario", *HEAD[1:]), rows), flush=True)


def run_all(names: list[str]) -> list[Result]:
    hosts.up()
    step("site: ansible-playbook -i inventories/lab playbooks/site.yml")
    fleet.play(INVENTORY, "site")
    chaos = Chaos()
    wait_for_routes(chaos.inventory)
    known = scenarios()
    results = []
    for name in names or known:
        step(f"{name}: {known[name].title}")
        result = chaos.run(name, known[name])
        results.append(result)
        show([result])
        for line in result.wrong:
            step(f"wrong: {line}")
    return results


def parse() -> list[str]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = list(scenarios())
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help=", ".join(known))
    names = parser.parse_args().names
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def interrupt(*_signal: object) -> None:
    """Whatever is broken is mended before the end."""
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, interrupt)
    names = parse()
    began = time.monotonic()
    results = run_all(names)
    show(results)
    if not names:
        page.write("chaos", markdown(results), PAGE)
        step(f"written: {PAGE}")
    wrong = sum(bool(result.wrong) for result in results)
    step(
        f"{len(results)} scenarios, {wrong} not as they should be, {time.monotonic() - began:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"[lab] failed: {error}\n[lab] what is up stays up: make lab-shell HOST=node1")
    except KeyboardInterrupt:
        sys.exit("[lab] interrupted, and mended; the lab stays up")
