# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One writer at a time: a second waits, names the first, and is let in when that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _lock
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import LockError, writer

HOLD = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
with writer(Path(sys.argv[1]), "the first"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(state_dir: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(path=sys.path), str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_free_lock_is_taken_at_once_and_again(tmp_path: Path) -> None:
    for _turn in range(2):
        with writer(tmp_path / "state", "alone") as waited:
            assert waited == []


def test_second_writer_gives_up_naming_the_first(tmp_path: Path) -> None:
    process = hold(tmp_path)
    with (
        pytest.raises(LockError, match=rf"the first \(pid {process.pid}, since .*did not end"),
        writer(tmp_path, "the second", patience=0.1),
    ):
        pass
    process.communicate()


def test_second_writer_waits_and_says_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = hold(tmp_path)
    # The first ends while the second pauses, and not before.
    monkeypatch.setattr(_lock.time, "sleep", lambda _seconds: process.communicate())
    with writer(tmp_path, "the second") as waited:
        (line,) = waited
    assert f"for the first (pid {process.pid}" in line


def test_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    process = hold(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with writer(tmp_path, "the second", patience=0) as waited:
        assert waited == []
