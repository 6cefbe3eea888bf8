# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps its things, and how it says what it does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = CHECKOUT / ".lab"
LOGS = STATE / "log"
SSH_KEY = STATE / "id_ed25519"
# Names of namespaces are the machine's, so is the note whose lab holds them.
OWNER = Path("/run/l4lb-lab")
CONNECTIONS = Path("/run/l4lb-lab-ssh")  # Ansible's and testinfra's, see inventories/lab


class LabError(Exception):
    """Something the person at the keyboard can act on; the text says what and where to look."""


def step(text: str) -> None:
    print(f"[lab] {text}", flush=True)


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run to the end; a failure becomes a LabError with the command and what it said."""
    result = subprocess.run(command, text=True, capture_output=True, check=False, **options)
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip()
        raise LabError(f"`{' '.join(command)}` failed ({result.returncode}): {said}")
    return result


def wait_for(ready: Callable[[], bool], seconds: float, failure: str) -> None:
    """Poll a condition; never sleep for luck."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{failure} (waited {seconds:.0f} s)")
        time.sleep(0.1)


def mounts_below(path: Path) -> list[str]:
    """Mount points at or under a path, deepest first, so that they can be unmounted in order."""
    text = Path("/proc/self/mounts").read_text()
    points = [line.split()[1].replace("\\040", " ") for line in text.splitlines()]
    below = [point for point in points if point == str(path) or point.startswith(f"{path}/")]
    return sorted(below, key=len, reverse=True)


def unmount_below(path: Path) -> None:
    for point in mounts_below(path):
        run(["umount", point])
