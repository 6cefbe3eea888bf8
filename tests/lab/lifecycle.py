# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators do to a fleet, by the collection's playbooks, under constant load in the lab.

lifecycle.py [--quick] [SCENARIO...]     without any: all, and a table into docs/lifecycle.md
"""

from __future__ import annotations

import hosts
import inside
import lifecycle_fleet
import lifecycle_nodes
import lifecycle_releases
import lifecycle_services
import lifecycle_traffic
import view
from common import CHECKOUT, LabError, step
from rehearsal import Result, Run, Scenario, act, under_load
from stage import Stage, perform
from topology import of_kind
from verify import wait_for_routes

INSTALLED = "/usr/lib/l4lb"


def is_bare() -> bool:
    """Whether no playbook has been at any host yet."""
    managed = [*of_kind("node"), *of_kind("real_server")]
    return not any(inside.exists(host.name, INSTALLED) for host in managed)


class Lifecycle(Stage[Scenario, Result]):
    """Things are done on purpose."""

    block = "lifecycle"
    page = CHECKOUT / "docs/lifecycle.md"
    head = (
        "what is done",
        "took",
        "broken",
        "longest pause",
        "new ones failed",
        "datagrams lost",
        "seen",
    )
    quick = ("mistakes", "node_drained", "bird_killed")

    def __init__(self) -> None:
        super().__init__()
        self.scenarios = {
            **lifecycle_fleet.scenarios(),
            **lifecycle_traffic.scenarios(),
            **lifecycle_services.scenarios(),
            **lifecycle_nodes.scenarios(),
            **lifecycle_releases.scenarios(),
            **lifecycle_fleet.last_scenarios(),
        }

    def begin(self, names: list[str]) -> None:
        hosts.up()
        if not self.scenarios[names[0]].bare and not self.is_well():
            super().begin(names)

    def is_well(self) -> bool:
        return not is_bare() and view.look(self.addresses).is_well()

    def set_up(self, run: Run, scenario: Scenario) -> None:
        """The fleet as the scenario wants to find it."""
        if scenario.bare:
            if not is_bare():
                hosts.down()
                hosts.up()
            return
        if not is_bare():
            try:
                run.well()
            except LabError:
                step("the fleet is not well: site")
            else:
                return
        run.play("site")
        wait_for_routes(self.inventory)
        run.well()

    def run(self, name: str, scenario: Scenario) -> Result:
        run = Run(self, Result(name, scenario.title))
        try:
            self.set_up(run, scenario)
            self.go_through(run, scenario)
        except LabError as error:
            run.check(False, str(error))
        return run.result

    def go_through(self, run: Run, scenario: Scenario) -> None:
        try:
            scenario.prepares(run)
            if scenario.loaded:
                run.well()
                self.under_load(lambda load: under_load(run, scenario, load))
            else:
                act(run, scenario)
        finally:
            scenario.mends(run)
            if run.result.wrong and not scenario.bare:
                step("whatever it left: site")
                run.play("site")


if __name__ == "__main__":
    perform(Lifecycle)
