# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short way into a booted host, for what must happen at once: no SSH, no Ansible."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import machine
from common import LabError, run
from topology import HOSTS


def pid(name: str) -> int:
    found = machine.leader(HOSTS[name])
    if found is None:
        raise LabError(f"{name} does not run: make lab-up")
    return found


def command(name: str, *words: str) -> list[str]:
    return ["nsenter", f"--target={pid(name)}", "--all", *words]


def do(name: str, *words: str) -> str:
    """Run a command on a host and return what it says; a failure is an error."""
    return run(command(name, *words)).stdout


def ask(name: str, *words: str) -> str:
    """The same of one whose exit status is part of its answer."""
    done = subprocess.run(command(name, *words), text=True, stdout=subprocess.PIPE, check=False)
    return done.stdout


def shell(name: str, *lines: str) -> None:
    """Run commands on a host, all of them; the first that fails is an error."""
    do(name, "sh", "-ec", "\n".join(lines))


def read(name: str, path: str) -> str:
    """A file of a host, also of its /run."""
    return Path(f"/proc/{pid(name)}/root{path}").read_text()


def exists(name: str, path: str) -> bool:
    return Path(f"/proc/{pid(name)}/root{path}").exists()


def read_json(name: str, path: str) -> dict:
    """The same of a file that may not be there, or not whole, or its host off: an empty answer."""
    try:
        return json.loads(read(name, path))
    except (LabError, OSError, ValueError):
        return {}
