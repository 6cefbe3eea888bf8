# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab on one machine: a router, two nodes, three real servers, a client."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys

import hosts
import machine
import network
import ssh
from common import LabError
from topology import HOSTS, Host

# The libraries for BPF and netlink are Debian's, and so is the image's builder.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nc": "netcat-openbsd",
    "ethtool": "ethtool",
    "ssh": "openssh-client",
}


def require_machine() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes namespaces and boots containers")
    missing = sorted(package for tool, package in TOOLS.items() if not shutil.which(tool))
    if missing:
        raise LabError(f"missing packages, `make bootstrap` installs them: {' '.join(missing)}")


def run_on(host: Host, words: list[str]) -> int:
    """Replace this process by the command, or by a shell when there is none."""
    if not network.exists(host.namespace):
        raise LabError("the lab is not up: make lab-up")
    if host.boots:
        remote = [shlex.join(words)] if words else []
        argv = ssh.command(host, *remote, terminal=not words)
    else:
        argv = ssh.inside_command(host, *(words or ["bash"]))
    sys.stdout.flush()
    os.execvp(argv[0], argv)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="build the image, boot the hosts; resumes what is half done")
    fresh = commands.add_parser("fresh", help="boot these as for the first time, take others away")
    fresh.add_argument("hosts", nargs="+", choices=list(HOSTS), metavar="HOST")
    commands.add_parser("down", help="remove everything that `up` made")
    commands.add_parser("status", help="a line a host; fails unless all run")
    for name, text in (
        ("shell", "a shell on a host"),
        ("exec", "a command on a host: exec HOST -- COMMAND"),
        ("loop", "used by `up`: supervises one host in the foreground"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("host", choices=list(HOSTS), metavar="HOST")
        if name == "exec":
            command.add_argument("words", nargs="+", metavar="COMMAND")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    require_machine()
    if arguments.command == "up":
        hosts.up()
    elif arguments.command == "fresh":
        hosts.fresh([HOSTS[name] for name in arguments.hosts])
    elif arguments.command == "down":
        hosts.down()
    elif arguments.command == "status":
        return 0 if hosts.status() else 1
    elif arguments.command == "loop":
        machine.loop(HOSTS[arguments.host])
    else:
        return run_on(HOSTS[arguments.host], getattr(arguments, "words", []))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"[lab] failed: {error}")
    except KeyboardInterrupt:
        sys.exit("[lab] interrupted; `make lab-up` resumes, `make lab-down` removes")
