# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One writer at a time on a node.

Private to the collection. The lock is flock(2) on a file of the state directory: the kernel gives
it up with the process that holds it, however that ends. The file says for whom others wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

LOCK_FILE = "lock"
PATIENCE = 60.0
"""Seconds that a second writer waits before it gives up."""

_PAUSE = 0.05


class LockError(L4lbError):
    """Another writer holds the node."""


@contextlib.contextmanager
def writer(
    state_dir: Path, who: str, dry: bool = False, patience: float = PATIENCE
) -> Iterator[list[str]]:
    """This process is the node's only writer within the block; dry: it writes nothing, not even the
    lock.

    Yields a line telling whom it waited for and how long, if it did. Raises LockError naming the
    holder after `patience` seconds.
    """
    if dry:
        yield []
        return
    path = state_dir / LOCK_FILE
    try:
        state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LockError(f"cannot open {path}: {error.strerror}; run as root") from error
    try:
        waited = _acquire(fd, path, patience)
        content = {"writer": who, "pid": os.getpid(), "since": int(time.time())}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(content).encode(), 0)
        yield waited
    finally:
        os.close(fd)


def _acquire(fd: int, path: Path, patience: float) -> list[str]:
    began = time.monotonic()
    holder = ""
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(fd)
        else:
            waited = time.monotonic() - began
            return [f"waited {waited:.1f} s for {holder}"] if holder else []
        if time.monotonic() - began > patience:
            raise LockError(
                f"{holder} is at work on this node (lock {path}) and did not end within "
                f"{patience:.0f} s: wait for it, or end it; what it leaves, the next run converges"
            )
        time.sleep(_PAUSE)


def _holder(fd: int) -> str:
    """Who holds the lock, as far as the file says: it may be about to be written."""
    try:
        content = json.loads(os.pread(fd, 4096, 0))
        since = datetime.fromtimestamp(content["since"]).astimezone()
        return f"{content['writer']} (pid {content['pid']}, since {since:%H:%M:%S %Z})"
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return "another writer"
