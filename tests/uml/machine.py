# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boots user-mode Linux on this machine's files, read-only, and returns what a guest told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

INIT = Path(__file__).resolve().parent / "init.sh"

needs_uml = pytest.mark.skipif(
    not shutil.which("linux.uml"), reason="Debian has no user-mode-linux for this architecture"
)


def told_by(guest: str) -> list[dict[str, Any]]:
    """The lines of JSON that the guest, a module beside this one, told from its boot to its end."""
    modules = Path("/lib/modules", os.uname().release)
    headers = {f"HEADERS_{n.upper()}": (modules / n).resolve() for n in ("build", "source")}
    machine = subprocess.run(
        [
            "linux.uml",
            "mem=1G",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            f"init={INIT}",
            f"GUEST={guest}",
            *(f"{name}={path}" for name, path in headers.items()),
            "con=null",
            "con0=null,fd:1",
            "quiet",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    lines = machine.stdout.decode(errors="replace").splitlines()
    answers = [json.loads(line) for line in lines if line.startswith("{")]
    assert answers, "\n".join(lines[-30:])
    return answers
