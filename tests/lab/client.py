# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the lab's traffic: runs traffic.py and echo.py in the client's namespace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ssh
from common import LabError
from topology import HOSTS

TRAFFIC = Path(__file__).resolve().parent / "traffic.py"
ECHO = TRAFFIC.with_name("echo.py")


def command(*arguments: str, script: Path = TRAFFIC) -> list[str]:
    return ssh.inside_command(HOSTS["client"], "/usr/bin/python3", str(script), *arguments)


def result_of(output: str) -> dict:
    lines = output.splitlines()
    if not lines:
        raise LabError(f"the client said nothing: run {TRAFFIC} by hand in `make lab-shell`")
    return json.loads(lines[-1])


def send_requests(urls: list[str], count: int) -> dict:
    """Send requests, each on a connection of its own, and return who answered."""
    arguments = command("requests", "--count", str(count), *urls)
    done = subprocess.run(arguments, text=True, stdout=subprocess.PIPE, check=False)
    return result_of(done.stdout)


def ask_for_echo(addresses: list[str]) -> dict:
    """Send an echo request to each address and return which ones stayed silent."""
    arguments = command(*addresses, script=ECHO)
    done = subprocess.run(arguments, text=True, stdout=subprocess.PIPE, check=False)
    return result_of(done.stdout)


class Held(dict):
    """What became of the held connections; filled when they are let go."""


@contextmanager
def held_connections(urls: list[str], count: int) -> Iterator[Held]:
    """Keep connections busy during the body."""
    held = Held()
    arguments = command("hold", "--connections", str(count), *urls)
    with subprocess.Popen(arguments, text=True, stdout=subprocess.PIPE) as process:
        try:
            opened = json.loads(process.stdout.readline() or "{}").get("open", 0)
            if opened != count:
                raise LabError(f"only {opened} of {count} connections could be opened")
            yield held
        finally:
            process.terminate()
            rest = process.communicate()[0]
        held.update(result_of(rest))
