# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's hosts, by name, for the scenarios' tests: testinfra's over SSH."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

sys.path.extend(str(Path(__file__).parents[1] / where) for where in ("molecule", "tests/lab"))

import common
import ssh
import topology

PATIENCE = 60.0
"""Seconds; far more than anything takes, for machines that do much else."""


@cache
def on(name: str) -> Host:
    """The host of this name."""
    # One connection for all commands.
    common.CONNECTIONS.mkdir(mode=0o700, exist_ok=True)
    control = ["-o", f"ControlPath={common.CONNECTIONS}/%C"]
    return testinfra.get_host(
        f"ssh://root@{topology.HOSTS[name].management}",
        ssh_extra_args=shlex.join([*ssh.flags(), *control]),
    )


@pytest.fixture(scope="session")
def node() -> Host:
    return on("node1")


@pytest.fixture(scope="session")
def real() -> Host:
    return on("real1")


@pytest.fixture(scope="session")
def router() -> Host:
    return on("router")


def until(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until it is so, and return it."""
    deadline = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {patience} s"
        time.sleep(0.2)
    return found
