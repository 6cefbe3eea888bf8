# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook on this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

ON_THIS_HOST = ("-i", "localhost,", "-c", "local")


def played(*arguments: str) -> str:
    """What a run says, which must not fail."""
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/.venv/collections",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
