# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make lifecycle` is made of: a scenario, one run of it, and what came of that."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import fleet
import trouble
import view
from breakage import INVENTORY
from common import CHECKOUT, LOGS, LabError, step
from load import GAP
from stage import BREAK_LOCK, MENDED, NONE, WHOLE, Stage, of

LOSS = 0.001  # of the datagrams


@dataclass
class Result:
    """Under load: how many connections broke, failed and so on, of how many; and what was seen."""

    name: str
    title: str
    seconds: float = 0.0
    broken: tuple[int, int] = (0, 0)
    gap: float = 0.0
    refused: tuple[int, int] = (0, 0)
    lost: tuple[int, int] = (0, 0)
    shown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def cells(self) -> list[str]:
        return [
            self.title,
            f"{self.seconds:.0f} s",
            of(self.broken),
            f"{self.gap * 1000:.0f} ms" if self.gap else NONE,
            of(self.refused),
            of(self.lost),
            "; ".join(self.shown),
        ]


@dataclass
class Run:
    """One scenario at work."""

    stage: Stage
    result: Result
    load: trouble.Load = field(default_factory=trouble.Load)
    plays: int = 0
    balanced: Path = INVENTORY
    """The inventory that the fleet has, or may have."""
    ended: bool = False
    """Whether the playbook before has; else the fleet's lock may be left of it."""

    def shows(self, text: str) -> None:
        """For the table: a number that was measured, or what was seen."""
        step(f"seen: {text}")
        self.result.shown.append(text)

    def check(self, holds: bool, otherwise: str) -> None:
        """An expectation; when it does not hold the scenario goes on, and has failed."""
        if not holds:
            step(f"wrong: {otherwise}")
            self.result.wrong.append(" ".join(otherwise.split()).replace("|", "/"))

    def play(
        self,
        playbook: str,
        *options: str,
        inventory: Path = INVENTORY,
        root: Path = CHECKOUT,
        refused: str = "",
    ) -> fleet.Played:
        """Run a playbook that has to succeed, or to fail with a text."""
        self.plays += 1
        log = LOGS / f"{self.result.name}-{self.plays}-{playbook}.log"
        words = " ".join((playbook, *options))
        step(f"play: {words}")
        applies = playbook in ("services", "site") and not refused
        if applies and inventory != INVENTORY:
            self.balanced = inventory
        locked = () if self.ended else BREAK_LOCK
        self.ended = False
        played = fleet.attempt(inventory, playbook, *options, *locked, log=log, root=root)
        self.ended = bool(refused) or not played.failed
        said = " ".join(played.output.split())
        step(f"play: {played.seconds:.0f} s, {'failed' if played.failed else 'done'}, {log}")
        if played.failed and not refused:
            raise LabError(f"`{words}` failed: see {log}")
        if applies and "--check" not in options:
            self.balanced = inventory
        if refused and not played.failed:
            raise LabError(f"`{words}` was to be refused: see {log}")
        if refused:
            self.check(refused in said, f"`{words}` does not say `{refused}`: see {log}")
        return played

    def watch(self, until: view.Condition, what: str, seconds: float = MENDED) -> float:
        """Wait until the fleet looks like that; returns for how long."""
        began = time.monotonic()
        try:
            when, _seen = self.stage.watch(until, seconds)
        except LabError:
            raise LabError(f"not within {seconds:.0f} s: {what}") from None
        return when - began

    def well(self) -> float:
        return self.watch(view.View.is_well, "all nodes announce everything, all backends are up")


def nothing(_run: Run) -> None:
    """Nothing to do."""


@dataclass(frozen=True)
class Scenario:
    """prepares, without load; acts, under it; mends, so that the fleet is as inventory says.

    loss: what may be lost, in words; else nothing may. dead: the host whose connections may break,
    while new ones may meet it. bare: begins with hosts that nobody has configured. loaded: whether
    there is anything to send a load to.
    """

    title: str
    acts: Callable[[Run], None]
    prepares: Callable[[Run], None] = nothing
    mends: Callable[[Run], None] = nothing
    loss: str = ""
    dead: str = ""
    bare: bool = False
    loaded: bool = True


def count(run: Run, scenario: Scenario, began: float, ended: float) -> None:
    """What the load has had to bear, and what it should not have had to."""
    result, load = run.result, run.load
    broken = [
        each for each in load.troubles(began, ended, "broken") if each["server"] != scenario.dead
    ]
    served = [who for who in load.servers(began).values() if who != scenario.dead]
    gaps = [each for each in load.troubles(began, ended, "gap") if each["server"] != scenario.dead]
    result.broken = len(broken), len(served)
    result.gap = max((each["seconds"] for each in gaps), default=0.0)
    result.refused = load.refused(began, ended)
    result.lost = load.lost(began, ended)
    run.check(not broken, f"connections broke: {broken[:3]}")
    if scenario.loss or scenario.dead:
        return
    run.check(not result.refused[0], f"{result.refused[0]} new connections failed")
    if not run.stage.strict:
        return
    run.check(not gaps, f"{len(gaps)} answers took longer than {GAP * 1000:.0f} ms")
    lost, sent = result.lost
    run.check(lost <= LOSS * sent, f"{lost} of {sent} datagrams were lost")


def act(run: Run, scenario: Scenario) -> None:
    """What is done, and timed; a failure is of this scenario only."""
    began = time.monotonic()
    try:
        scenario.acts(run)
    except LabError as error:
        run.check(False, str(error))
    run.result.seconds = time.monotonic() - began


def under_load(run: Run, scenario: Scenario, load: trouble.Load) -> None:
    run.load = load
    began = time.monotonic()
    act(run, scenario)
    load.wait_until_calm(1.5, WHOLE)
    count(run, scenario, began, time.monotonic())
