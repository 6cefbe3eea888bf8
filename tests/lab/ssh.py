# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way into a host: SSH over the management network, as Ansible takes it too."""

from __future__ import annotations

import subprocess

from common import SSH_KEY, run
from network import RUN_NETNS
from topology import MANAGEMENT, Host


def make_key() -> None:
    if not SSH_KEY.exists():
        SSH_KEY.parent.mkdir(exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "l4lb-lab", "-f", str(SSH_KEY)])


def flags() -> list[str]:
    options = (
        f"IdentityFile={SSH_KEY}",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",  # hosts come and go; the wire never leaves this machine
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "ConnectTimeout=5",
        f"ProxyCommand=nsenter --net={RUN_NETNS / MANAGEMENT} nc %h %p",
    )
    return [word for option in options for word in ("-o", option)]


def command(host: Host, *arguments: str, terminal: bool = False) -> list[str]:
    return ["ssh", *flags(), *(["-t"] if terminal else []), f"root@{host.management}", *arguments]


def inside_command(host: Host, *arguments: str) -> list[str]:
    """A command in a host that is a namespace only."""
    return ["nsenter", f"--net={RUN_NETNS / host.namespace}", *arguments]


def ask(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a booted host and hand back whatever came of it."""
    return subprocess.run(
        command(host, *arguments),
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
