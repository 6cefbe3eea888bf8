# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What figures depend on, whatever is measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def circumstances() -> dict[str, Any]:
    """The machine, its kernel, and its load before."""
    model = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "machine": f"{model[0] if model else os.uname().machine}, {os.cpu_count()} CPUs",
        "kernel": os.uname().release,
        "load": os.getloadavg()[0],
    }
