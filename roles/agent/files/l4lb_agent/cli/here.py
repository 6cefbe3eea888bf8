# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this node has to tell: the agent's last status, and the kernel's own account."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _agent_status
from l4lb_agent.cli.main import ABSENT, CliError


@dataclass(frozen=True)
class Agent:
    """What it said last, and how long ago; None and 0 where it never did."""

    status: dict[str, Any] | None
    age: float

    @property
    def works(self) -> bool:
        return self.status is not None and self.age < _agent_status.FRESH

    @property
    def absence(self) -> str:
        """Why it cannot be believed."""
        if self.status is None:
            return "no agent has said anything since boot: systemctl status l4lb-agent"
        return (
            f"the agent has said nothing for {self.age:.0f} s: what it said may be true no more "
            "(systemctl status l4lb-agent)"
        )


def agent(given: argparse.Namespace) -> Agent:
    """Raises CliError when this user may not read it, AppliedError for what is no status."""
    path = given.run_dir / _agent_status.STATUS_FILE
    try:
        path.stat()
    except PermissionError:
        raise CliError(f"may not read {path}: run l4lb as root", ABSENT) from None
    except OSError:
        return Agent(None, 0)
    status = _agent_status.read(given.run_dir)
    return Agent(status, _agent_status.age(status) if status else 0)


def hostname() -> str:
    return socket.gethostname()


def require_root(given: argparse.Namespace) -> None:
    """The kernel's maps are root's. Raises CliError."""
    if os.geteuid():
        raise CliError(f"may not read the maps at {given.pins}: run l4lb as root", ABSENT)


def kernel(given: argparse.Namespace, parts: Collection[str]) -> dict[str, Any]:
    """Parts of _info, by the live maps: takes about a second. Raises CliError or SchemaError."""
    require_root(given)
    from ansible_collections.l4lb.xdp.plugins.module_utils import _info  # loads bcc

    return _info.info(given.pins, given.source, parts)
