# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control group of its own for every host: its systemd needs one to manage services.

Where systemd is PID 1 the host's loop is started as a unit with a delegated group, and everything
happens below that. Elsewhere the groups are made by hand below /l4lb-lab in every hierarchy that
systemd looks at.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from common import wait_for

GROUP = "l4lb-lab"


def managed() -> bool:
    """Whether systemd runs this machine."""
    return Path("/run/systemd/system").is_dir()


def hierarchies() -> list[Path]:
    """Mount points of the unified hierarchy and, on hybrid systems, of systemd's named one."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, point, kind, options = line.split()[:4]
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(point))
    return found


def own_group() -> Path:
    """Path of this process's group in the unified hierarchy, without the leading slash."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, _controllers, path = line.split(":", 2)
        if number == "0":
            return Path(path.lstrip("/"))
    return Path()


def prepare(host: str) -> list[Path]:
    """Make the group the container starts in, one per hierarchy.

    Under systemd the loop itself moves to a sibling: a group with children that distribute
    controllers may hold no process of its own.
    """
    base = own_group() if managed() else Path(GROUP) / host
    groups = []
    for root in hierarchies():
        group = root / base / "container"
        group.mkdir(parents=True, exist_ok=True)
        groups.append(group)
        if managed():
            loop = root / base / "loop"
            loop.mkdir(exist_ok=True)
            enter([loop])
    return groups


def enter(groups: list[Path]) -> None:
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def roots(host: str) -> list[Path]:
    return [root / GROUP / host for root in hierarchies()]


def processes(host: str) -> set[int]:
    """What still runs in a host's hand-made groups: only we put processes there."""
    found: set[int] = set()
    for root in roots(host):
        for procs in root.rglob("cgroup.procs"):
            with suppress(OSError):
                found.update(int(pid) for pid in procs.read_text().split())
    return found


def kill(host: str) -> None:
    """End what is left of a host, and wait: the kernel needs a moment to let go of it."""
    for pid in processes(host):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes(host), 5, f"processes of {host} do not end")


def remove_tree(root: Path) -> None:
    for directory in sorted(root.rglob("*/"), key=lambda path: -len(path.parts)):
        directory.rmdir()
    root.rmdir()


def remove(host: str) -> None:
    for root in roots(host):
        if root.is_dir():
            remove_tree(root)


def remove_parent() -> None:
    for root in hierarchies():
        with suppress(OSError):
            (root / GROUP).rmdir()
