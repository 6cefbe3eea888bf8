# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was applied, on disk: one JSON file a subject, old or new but never half.

Private to the collection. The restore unit brings a node back from these files without Ansible.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

STATE_DIR = "/var/lib/l4lb"
SERVICES_FILE = "services.json"

T = TypeVar("T")


class AppliedError(L4lbError):
    """A file of what was applied cannot be read or written."""


def load(path: Path) -> Any:
    """The file's content; None when there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise AppliedError(f"cannot read {path} ({error}): remove it and apply again") from error


def read(path: Path, parse: Callable[[Any], T], what: str, remedy: str) -> T | None:
    """What `parse` makes of the file's content; None when there is no such file.

    parse: raises KeyError, TypeError or ValueError for what is not `what`. Raises AppliedError with
    the remedy then.
    """
    content = load(path)
    if content is None:
        return None
    try:
        return parse(content)
    except (KeyError, TypeError, ValueError) as error:
        raise AppliedError(f"cannot use {path}: it is not {what} ({error}): {remedy}") from error


def is_integer(value: Any, low: int, high: float = math.inf) -> bool:
    """Whether it is an integer from low to high; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def save(path: Path, content: Any) -> None:
    """Replaces the file in one step; it is on the disk when this returns. The caller is the only
    writer: what a killed one left of its new file is written over.
    """
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise AppliedError(f"cannot write {path}: {error.strerror}") from error


def forget(path: Path) -> None:
    """Removes the file; one that is not there is fine."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise AppliedError(f"cannot remove {path}: {error.strerror}") from error


def applied_services(state_dir: Path) -> dict[str, Any] | None:
    """What was applied last, as Fleet.as_dict gave it; None when nothing was.

    Raises AppliedError for a file that is something else.
    """
    path = state_dir / SERVICES_FILE
    last = load(path)
    try:
        return None if last is None else _in_shape(last)
    except (KeyError, TypeError, AttributeError) as error:
        raise AppliedError(
            f"{path} is not what l4lb.xdp.services wrote ({type(error).__name__}: {error}): remove "
            "it and apply again; what the kernel holds is taken in its place"
        ) from error


def _in_shape(last: Any) -> dict[str, Any]:
    """Raises KeyError, TypeError or AttributeError unless it has what is read of it."""
    for pool in last["pools"].values():
        frozenset(backend["address"] for backend in pool["backends"])
    for service in last["services"]:
        frozenset(service[key] for key in ("name", "address", "protocol", "port", "pool"))
    return dict(last)
