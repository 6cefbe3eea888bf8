# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node, or one real server: work on it, and what befalls it."""

from __future__ import annotations

import fleet
import inside
import scenarios as breaking
import view
from breakage import INVENTORY
from rehearsal import MENDED, Run, Scenario
from scenarios import NODE, OTHER

EXTRA = "/etc/bird/l4lb.d/mistake.conf"
# The load's own last packets, and answers to what the router had on its way.
QUIET = ("-e", "l4lb_drain_threshold=50")


def sessions(node: str) -> dict[str, str]:
    """The router's BGP sessions with a node, and since when they stand."""
    lines = inside.do("router", "birdc", "show", "protocols").splitlines()
    found = [line.split() for line in lines if line.startswith(f"{node}_")]
    return {words[0]: " ".join(words[3:6]) for words in found if "Established" in words}


def flows(node: str) -> int:
    tables = fleet.nodes_info(INVENTORY, "flow_tables")[node]["flow_tables"]
    return sum(each["entries"] for each in tables.values())


def drain_node(run: Run) -> None:
    before, recorded = sessions(NODE), flows(OTHER)
    run.play("drain", "-e", f"l4lb_hosts={NODE}", *QUIET)
    run.watch(lambda now: now.withdrawn(NODE), f"the router leaves {NODE}", 10)
    run.check(bool(before) and sessions(NODE) == before, "a BGP session did not stay")
    run.play("drain", "-e", f"l4lb_hosts={OTHER}", refused="Bring other nodes back")
    run.play("undrain", "-e", f"l4lb_hosts={NODE}")
    run.check(sessions(NODE) == before, "a BGP session did not stay when it came back")
    run.shows(
        f"its flows went on at {OTHER}, which had recorded {recorded};"
        f" {len(before)} sessions stayed; {OTHER}, then the last, refused"
    )


def undrain(run: Run) -> None:
    """Wherever the scenario ended."""
    if not view.look(run.stage.addresses).is_well():
        run.play("undrain", "-e", f"l4lb_hosts={fleet.NODES}")


def reboot(run: Run) -> None:
    booted = {node: boot(node) for node in (NODE, OTHER)}
    run.play("reboot", "-e", f"l4lb_hosts={fleet.NODES}", *QUIET)
    for node, before in booted.items():
        run.check(boot(node) != before, f"{node} has not rebooted")
    run.watch(view.View.is_well, "everything is announced when the playbook ends", 5)
    run.shows(f"{NODE}, then {OTHER}: drained, rebooted, proven and announced")


def boot(node: str) -> str:
    """Another value after every boot."""
    return inside.read(node, "/proc/sys/kernel/random/boot_id")


def mistaken_bird(run: Run) -> None:
    """An operator's own file is wrong, and BIRD's configuration is to change."""
    inside.shell(NODE, f"echo 'protocol kernel {{ no such thing; }}' > {EXTRA}")
    before = sessions(NODE)
    change = ("--limit", NODE, "--tags", "bird", "-e", "bird_hold_time=12")
    run.play("site", *change, refused="failed to validate")
    run.check(bool(before) and sessions(NODE) == before, "a BGP session did not stay")
    inside.do(NODE, "birdc", "show", "status")
    run.shows("refused by `bird -p`, BIRD goes on with what it had")


def mend_bird(_run: Run) -> None:
    inside.do(NODE, "rm", "-f", EXTRA)


def broken(name: str) -> Scenario:
    """One of `make chaos`, with this table's measures."""
    scenario = breaking.scenarios()[name]

    def act(run: Run) -> None:
        before = view.look(run.stage.addresses)
        scenario.breaks()
        took = run.watch(lambda now: scenario.noticed(before, now), scenario.sign, MENDED)
        soon = took <= scenario.within or not run.stage.strict
        run.check(soon, f"not within {scenario.within:.0f} s: {scenario.sign}")
        run.shows(f"{scenario.sign} after {took:.1f} s")
        scenario.mends()
        run.well()

    return Scenario(
        scenario.title,
        act,
        prepares=lambda _run: scenario.prepares(),
        mends=lambda _run: scenario.mends(),
        dead=scenario.dead,
    )


def scenarios() -> dict[str, Scenario]:
    return {
        "backend_dead": broken("process_dead"),
        "backend_silent": broken("host_dead"),
        "node_drained": Scenario("a node is drained, and returned", drain_node, mends=undrain),
        "node_rebooted": Scenario(
            "both nodes are rebooted by the playbook, in one run", reboot, mends=undrain
        ),
        "bird_killed": broken("bird_killed"),
        "bird_mistaken": Scenario(
            "a mistake in BIRD's configuration", mistaken_bird, mends=mend_bird
        ),
        "agent_killed": broken("agent_killed"),
        "agent_hangs": broken("agent_hangs"),
    }
