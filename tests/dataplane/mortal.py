# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A writer that is killed before a write of its own, of a map or a file."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf


def dies(act: Callable[[], object], at: int) -> bool:
    """Acts in a process that is killed before write number `at`; false when it had fewer."""
    pid = os.fork()
    if pid == 0:
        left = itertools.count(at, -1)

        def mortal(write: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any) -> Any:
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return write(*arguments)

            return run

        try:
            for name in ("update", "delete", "update_batch", "delete_batch", "write_word"):
                setattr(_bpf, name, mortal(getattr(_bpf, name)))
            os.fsync = mortal(os.fsync)  # the file is written by half then
            act()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
