# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as a whole: its first day, its audit, its last."""

from __future__ import annotations

import os
from pathlib import Path

import inside
import root
from breakage import plug_mtu
from rehearsal import Run, Scenario
from scenarios import NODE
from topology import HOSTS, SEGMENTS, of_kind
from verify import wait_for_routes

# What a configuration consists of; logs, caches and what a boot writes are left out.
PLACES = ("etc", "usr", "var/lib/l4lb", "run/l4lb")
PREFLIGHT_MTU = 1500


def files(host: str) -> dict[str, tuple[int, int]]:
    """What a host has besides its image, with sizes and times: its overlay's upper directory."""
    upper = root.directory(HOSTS[host]) / "upper"
    found = {}
    for place in PLACES:
        for directory, _names, names in os.walk(upper / place):
            for name in names:
                path = Path(directory) / name
                status = path.lstat()
                found[str(path.relative_to(upper))] = status.st_size, status.st_mtime_ns
    return found


def everybody() -> dict[str, dict]:
    return {
        host.name: files(host.name) for kind in ("node", "real_server") for host in of_kind(kind)
    }


def difference(before: dict, after: dict) -> str:
    """Hosts and files that are not as before, a few of them."""
    changed = [
        f"{host}:/{path}"
        for host in after
        for path in sorted(before[host].keys() ^ after[host].keys())
        + [
            path
            for path in before[host].keys() & after[host]
            if before[host][path] != after[host][path]
        ]
    ]
    return ", ".join(changed[:5])


# --- an unsuitable host ---


def refuse_unsuitable(run: Run) -> None:
    """The bare node's link has no room for the outer header."""
    plug_mtu(NODE, PREFLIGHT_MTU)
    before = everybody()
    run.play("site", refused=f"MTU {PREFLIGHT_MTU}")
    changed = difference(before, everybody())
    run.check(not changed, f"the refused run changed {changed}")
    run.shows("refused with the remedy, no file of any host changed")


def make_suitable(_run: Run) -> None:
    plug_mtu(NODE, SEGMENTS["nodes"].mtu)


# --- the first day ---


def install(run: Run) -> None:
    before = everybody()
    run.play("site", "--check", "--diff")
    changed = difference(before, everybody())
    run.check(not changed, f"the dry run changed {changed}")
    played = run.play("site")
    run.shows(f"installed in {played.seconds:.0f} s")
    wait_for_routes(run.stage.inventory)


def come_back(run: Run) -> None:
    """Again, with nothing to do; and a node reboots with nobody to help it."""
    played = run.play("site")
    run.check(played.changed == 0, f"the second run changed {played.changed} things")
    reboot(run, NODE)
    run.shows("second run: changed=0")


def reboot(run: Run, node: str) -> None:
    """Nobody drains it before, nobody runs Ansible after."""
    inside.do(node, "systemctl", "--no-block", "reboot")
    run.watch(lambda now: now.withdrawn(node), f"{node} withdraws for its reboot", 30)
    took = run.watch(lambda now: now.is_well(), f"{node} is back without Ansible")
    run.shows(f"{node} rebooted and announced again after {took:.0f} s")


def scenarios() -> dict[str, Scenario]:
    return {
        "unsuitable_host": Scenario(
            "a host that cannot be a node is refused",
            refuse_unsuitable,
            mends=make_suitable,
            bare=True,
            loaded=False,
        ),
        "first_install": Scenario(
            "first install: dry run, run, second run, reboot without Ansible",
            come_back,
            prepares=install,
            bare=True,
        ),
    }


def last_scenarios() -> dict[str, Scenario]:
    return {}
