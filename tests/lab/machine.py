# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop behind every booted host: run the container, and again when it asks for a reboot.

Runs as a process of its own (`lab.py loop HOST`). Ending it powers the host off.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import cgroups
import network
from root import directory, root_of
from topology import Host

REBOOT = 133  # systemd-nspawn's exit status for a container that wants to boot again
POWER_OFF_SECONDS = 15


def nspawn_command(host: Host) -> list[str]:
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={root_of(host)}",
        f"--machine={host.name}",
        f"--network-namespace-path={network.RUN_NETNS / host.namespace}",
        "--keep-unit",  # stay in the control group prepared for it
        "--register=no",
        "--link-journal=no",
        "--capability=all",
        "--system-call-filter=bpf @module perf_event_open",  # else bpf() is EPERM in units
        "--console=pipe",
        "--resolv-conf=off",
        "--timezone=off",
        "--tmpfs=/sys/fs/bpf",  # hides the outer machine's
    ]


def emulator_command(host: Host) -> list[str]:
    """user-mode Linux: it boots again by itself when the guest asks for it."""
    wires = [f"{name}=tuntap,tap-{name},{host.mac(name)}" for name in ("eth0", "eth1")]
    return [
        "nsenter",
        f"--net={network.RUN_NETNS / host.namespace}",
        "linux.uml",
        "mem=512M",
        "root=/dev/root",
        "rootfstype=hostfs",
        f"rootflags={root_of(host)}",
        "rw",
        "init=/lib/systemd/systemd",
        *wires,
        f"uml_dir={directory(host)}",
        "con=null",
        "con0=null,fd:1",
        "systemd.journald.forward_to_console=1",
    ]


def environment() -> dict[str, str]:
    """`network` makes net.* sysctls writable and shows the host its own /sys/class/net."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    }


class Loop:
    """Boots a host until it is powered off; SIGTERM to this process powers it off."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.groups = cgroups.prepare(host.name)
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_signal: object) -> None:
        self.stopping = True
        if self.process:
            self.process.terminate()

    def run(self) -> None:
        while not self.stopping and self.boot() == REBOOT:
            print(f"--- {self.host.name}: power cycle ---", flush=True)
            network.power_cycle(self.host)

    def boot(self) -> int:
        self.process = subprocess.Popen(
            (emulator_command if self.host.emulated else nspawn_command)(self.host),
            env=environment(),
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: cgroups.enter(self.groups),
        )
        return self.process.wait()


def loop(host: Host) -> None:
    (directory(host) / "pid").write_text(str(os.getpid()))
    Loop(host).run()


def loop_pid(host: Host) -> int | None:
    """The running loop, recognised by its command line: a pid file may be older than a pid."""
    with suppress(OSError, ValueError):
        pid = int((directory(host) / "pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[-3:-1] == [b"loop", host.name.encode()]:
            return pid
    return None


def children(pid: int) -> list[int]:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(word) for word in words]
    return []


def leader(host: Host) -> int | None:
    """The host's PID 1, by its number out here: its files are below /proc/PID/root."""
    pids = [loop_pid(host) or 0]
    while pids:
        pid = pids.pop()
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid")).split()
            if len(numbers) > 2 and numbers[-1] == "1":
                return pid
        pids += children(pid)
    return None


def start(host: Host, program: Path) -> None:
    """Start the loop in the background; on a systemd machine as a unit, for its control group."""
    command = ["/usr/bin/python3", str(program), "loop", host.name]
    console = directory(host) / "console.log"
    if cgroups.managed():
        output = f"append:{console}"
        options = [
            f"--unit={host.namespace}",
            "--collect",
            "--quiet",
            "--property=Delegate=yes",
            "--property=KillMode=mixed",
            f"--property=StandardOutput={output}",
            f"--property=StandardError={output}",
        ]
        subprocess.run(["systemd-run", *options, *command], check=True)
        return
    with console.open("a") as log:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


def power_off(hosts: list[Host]) -> None:
    """Ask every host to shut down, and pull the plug of those that do not in time."""
    pids = {host: pid for host in hosts if (pid := loop_pid(host))}
    for pid in pids.values():
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + POWER_OFF_SECONDS
    while any(loop_pid(host) for host in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    for host in hosts:
        pid = loop_pid(host)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        cgroups.kill(host.name)


def forget(hosts: list[Host]) -> None:
    """Remove the directories that systemd-nspawn leaves in /run, and those above if empty."""
    nspawn = Path("/run/systemd/nspawn")
    propagate = nspawn / "propagate"
    for path in (
        *(propagate / host.name for host in hosts),
        propagate,
        nspawn / "locks",
        nspawn,
    ):
        with suppress(OSError):
            path.rmdir()
