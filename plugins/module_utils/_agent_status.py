# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent of a node last said of itself: a file that it writes at every turn.

Private to the collection. Modules and the command l4lb read it; only the agent writes it.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._applied import AppliedError

RUN_DIR = "/run/l4lb/agent"
STATUS_FILE = "status.json"
VERSION = 1
FRESH = 5.0
"""Seconds after which an agent that has said nothing is not one to wait for."""


def read(run_dir: Path) -> dict[str, Any] | None:
    """The last status; None when there is none. Raises AppliedError for what is no status."""
    path = run_dir / STATUS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, not {VERSION}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AppliedError(
            f"cannot use {path} ({error}): is the agent of this version? Restart l4lb-agent"
        ) from error
    return dict(content)


def age(status: dict[str, Any]) -> float:
    """Seconds since it was written."""
    return max(0.0, time.time() - float(status["written"]))


def running(run_dir: Path) -> dict[str, Any] | None:
    """The status of an agent that is at work; None when there is none."""
    status = read(run_dir)
    return status if status is not None and age(status) < FRESH else None


def digest(path: Path) -> str:
    """Names the content of a file of what was applied; empty where there is none."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except FileNotFoundError:
        return ""
