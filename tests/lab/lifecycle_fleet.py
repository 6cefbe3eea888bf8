# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as a whole: its first day, its audit, its last."""

from __future__ import annotations

import os
from pathlib import Path

import inside
import network
import root
import xdp
from breakage import plug_mtu
from rehearsal import Run, Scenario
from scenarios import NODE, OTHER
from topology import HOSTS, SEGMENTS, of_kind
from verify import wait_for_routes

# What a configuration consists of; logs, caches and what a boot writes are left out.
PLACES = ("etc", "usr", "var/lib/l4lb", "run/l4lb")
PREFLIGHT_MTU = 1500
AUDITED, SETTING, RULES = "real1", "net.ipv4.conf.all.arp_ignore", "l4lb-nftables.service"
FOREIGN_FILE = "/etc/sysctl.d/10-somebody.conf"
FOREIGN_LINK = "eth1"


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


# --- an audit ---


def audit(run: Run) -> None:
    run.play("audit")
    inside.do(AUDITED, "sysctl", "--quiet", "--write", f"{SETTING}=0")
    inside.do(AUDITED, "systemctl", "--quiet", "disable", RULES)
    played = run.play("audit", refused="2 findings are wrong")
    said = " ".join(played.output.split())
    for what in (f"{AUDITED} setting: {SETTING.replace('.', '/')}", f"unit: {RULES} is disabled"):
        run.check(what in said, f"it does not say `{what}`")
    run.shows(f"nothing wrong; {SETTING} changed by hand and a unit disabled on {AUDITED}: found")


def restore_audited(_run: Run) -> None:
    inside.do(AUDITED, "sysctl", "--quiet", "--write", f"{SETTING}=1")
    inside.do(AUDITED, "systemctl", "--quiet", "enable", RULES)


# --- the last day ---


def settle_in(_run: Run) -> None:
    """What the node has besides, and not from this collection."""
    inside.shell(OTHER, f"echo '# of somebody else' > {FOREIGN_FILE}")
    with network.inside(HOSTS[OTHER].namespace) as ipr:
        xdp.attach_pass(network.index_of(ipr, FOREIGN_LINK))


def has_program(host: str, interface: str) -> bool:
    return "xdp" in inside.do(host, "ip", "link", "show", "dev", interface)


def uninstall(run: Run) -> None:
    """A node goes while the other works; the last one may not; and it comes back as a new one."""
    sure = ("-e", "l4lb_confirm=uninstall", "-e", "l4lb_drain_threshold=50")
    run.play("uninstall", "-e", f"l4lb_hosts={OTHER}", *sure)
    left = [path for path in files(OTHER) if "l4lb" in path]
    run.check(not left, f"left on {OTHER}: {left[:5]}")
    run.check(not has_program(OTHER, "eth0"), f"a program is left on {OTHER}")
    stays = inside.exists(OTHER, FOREIGN_FILE) and has_program(OTHER, FOREIGN_LINK)
    run.check(stays, "what is not of this collection was taken as well")
    run.play("uninstall", "-e", f"l4lb_hosts={NODE}", *sure, refused="Bring other nodes back")
    played = run.play("site")
    run.well()
    run.shows(
        f"nothing left on {OTHER}, a foreign file and XDP program untouched; {NODE}, then the last,"
        f" refused; {OTHER} installed again in {played.seconds:.0f} s"
    )


def move_out(_run: Run) -> None:
    inside.shell(OTHER, f"rm -f {FOREIGN_FILE}", f"ip link set dev {FOREIGN_LINK} xdp off")


def last_scenarios() -> dict[str, Scenario]:
    return {
        "audit": Scenario("an audit", audit, mends=restore_audited),
        "uninstall": Scenario(
            "a node is uninstalled, and installed again",
            uninstall,
            prepares=settle_in,
            mends=move_out,
        ),
    }
