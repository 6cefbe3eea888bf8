# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Break the lab's fleet under constant load, thing by thing, and say what came of it.

chaos.py [SCENARIO...]      without any: all of them, and the table goes into docs/operations.md
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import trouble
import view
from common import CHECKOUT, LabError
from scenarios import EVERYBODY, NODE, Scenario, scenarios
from stage import CALM, MENDED, NONE, WHOLE, Stage, of, perform


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


class Chaos(Stage[Scenario, Result]):
    """Things break."""

    block = "chaos"
    page = CHECKOUT / "docs/operations.md"
    head = (
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

    def __init__(self) -> None:
        super().__init__()
        self.scenarios = scenarios()

    def run(self, name: str, scenario: Scenario) -> Result:
        self.watch(view.View.is_well, MENDED)
        result = Result(name, scenario)
        try:
            scenario.prepares()
            self.under_load(lambda load: self.go_through(scenario, load, result))
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
        result.refused = load.refused(began, end)
        result.lost = load.lost(began, end)
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


if __name__ == "__main__":
    perform(Chaos)
