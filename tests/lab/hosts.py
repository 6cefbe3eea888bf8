# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: bring it up, say how it is, take it away."""

from __future__ import annotations

import shutil
import socket
from contextlib import suppress
from pathlib import Path

import cgroups
import image
import machine
import network
import root
import ssh
from common import (
    CHECKOUT,
    CONNECTIONS,
    LOGS,
    OWNER,
    SSH_KEY,
    STATE,
    LabError,
    mounts_below,
    step,
    wait_for,
)
from topology import HOSTS, MANAGEMENT, Host, bootable, booted, namespaces

BOOT_SECONDS = 120
PROGRAM = Path(__file__).resolve().parent / "lab.py"


def owner() -> Path | None:
    """The checkout whose lab runs on this machine; names of namespaces are the machine's."""
    return Path(OWNER.read_text().strip()) if OWNER.exists() else None


def claim() -> None:
    other = owner()
    if other and other != CHECKOUT and any(map(network.exists, namespaces())):
        raise LabError(f"the lab of {other} is up on this machine: run `make lab-down` there")
    OWNER.write_text(f"{CHECKOUT}\n")


def answers(host: Host) -> bool:
    """Whether the host's SSH server greets."""
    address = (host.management, 22)
    with (
        suppress(OSError),
        network.inside(MANAGEMENT),
        socket.create_connection(address, timeout=2) as connection,
    ):
        return connection.recv(4) == b"SSH-"
    return False


def state_of(host: Host) -> str:
    """systemd's word for the host: running, starting, degraded, ..., or off."""
    if not machine.loop_pid(host):
        return "off"
    if not answers(host):
        return "no ssh"
    return ssh.ask(host, "systemctl", "is-system-running").stdout.strip() or "starting"


def where_to_look(host: Host) -> str:
    return f"see {root.directory(host) / 'console.log'}"


def running(host: Host) -> bool:
    state = state_of(host)
    if state == "off":
        raise LabError(f"{host.name} has ended while it booted: {where_to_look(host)}")
    if state == "degraded":
        failed = ssh.ask(host, "systemctl", "--failed", "--plain", "--no-legend").stdout.strip()
        raise LabError(f"{host.name} is degraded, failed units:\n{failed}\n{where_to_look(host)}")
    return state == "running"


def wait_until_running(host: Host) -> None:
    failure = f"{host.name} did not come up: {where_to_look(host)}"
    wait_for(lambda: running(host), BOOT_SECONDS, failure)


def boot(host: Host, directory: Path) -> None:
    """Boot a host unless it runs; wires of a host that is off are laid anew."""
    if machine.loop_pid(host):
        return
    cgroups.kill(host.name)  # a container whose loop was killed
    if host.segment:
        network.unplug(host)
    network.plug(host)
    root.prepare(host, directory)
    machine.start(host, PROGRAM)
    failure = f"{host.name} does not start: {where_to_look(host)}"
    wait_for(lambda: machine.loop_pid(host) is not None, BOOT_SECONDS, failure)


def prepare() -> Path:
    """All that hosts stand on: the image, whose directory it returns, a key, wires."""
    claim()
    STATE.mkdir(exist_ok=True)
    directory = image.ensure()
    ssh.make_key()
    step("network: segments, router's bridges, management")
    network.make_core()
    return directory


def boot_all(hosts: list[Host], directory: Path) -> None:
    for host in hosts:
        step(f"{host.name}: {'runs already' if machine.loop_pid(host) else 'booting'}")
        boot(host, directory)
    for host in HOSTS.values():
        if not host.boots:
            step(f"{host.name}: network namespace")
            network.plug(host)
    for host in hosts:
        wait_until_running(host)
        step(f"{host.name}: running, ssh {host.management}")


def up() -> None:
    boot_all(booted(), prepare())
    step("up; a shell on a host: make lab-shell HOST=node1")


def fresh(hosts: list[Host]) -> None:
    """Boot these hosts as for the first time, and take the others away: nothing is left of what
    was done to any of them.
    """
    directory = prepare()
    step("hosts: starting over")
    machine.power_off(bootable())
    for host in bootable():
        network.forget(host)
        root.discard(host)
    boot_all(hosts, directory)


def anything_there() -> bool:
    return (
        any(map(network.exists, namespaces()))
        or any(root.directory(host).exists() for host in HOSTS.values())
        or OWNER.exists()
    )


def down() -> None:
    other = owner()
    if other and other != CHECKOUT and other.exists():
        raise LabError(f"the lab on this machine belongs to {other}: run `make lab-down` there")
    if not anything_there():
        step("nothing to take down")
        return
    step("hosts: powering off")
    machine.power_off(bootable())
    step("network: removing")
    network.remove_all()
    step("files: removing")
    for host in HOSTS.values():
        cgroups.remove(host.name)
        root.discard(host)
    cgroups.remove_parent()
    machine.forget(bootable())
    for path in (SSH_KEY, SSH_KEY.with_suffix(".pub"), OWNER):
        path.unlink(missing_ok=True)
    shutil.rmtree(STATE / "inventory", ignore_errors=True)
    shutil.rmtree(CONNECTIONS, ignore_errors=True)
    if STATE.is_dir() and not any(STATE.iterdir()):
        STATE.rmdir()
    refuse_leftovers()
    step(f"down; logs stay in {LOGS}" if LOGS.exists() else "down")


def refuse_leftovers() -> None:
    left = [f"namespace {name}" for name in namespaces() if network.exists(name)]
    left += [f"mount {point}" for point in mounts_below(STATE)]
    left += [f"process {pid}" for host in bootable() for pid in cgroups.processes(host.name)]
    if left:
        raise LabError("left behind: " + ", ".join(left))


def status() -> bool:
    """Print a line a host; true when all of them are as `up` leaves them."""
    good = True
    for host in HOSTS.values():
        state = state_of(host) if host.boots else "off"
        if host.emulated and state == "off":
            continue
        if not host.boots and network.usable(host.namespace):
            state = "running"
        good = good and state == "running"
        addresses = f"{host.address4:15} {host.address6:18} {host.management}".rstrip()
        print(f"{host.name:8} {state:10} {addresses}")
    return good
