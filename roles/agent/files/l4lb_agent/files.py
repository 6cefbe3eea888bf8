# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that others write, and whether they have changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

Signature = Optional[tuple[int, int, int, int]]


def signature(path: Path) -> Signature:
    """Differs for a file that was replaced or written; None where there is none."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size


class Watched:
    """Tells once of every change. All files are replaced whole, so one look is enough."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._seen: list[Signature] | None = None

    def news(self) -> bool:
        """Whether any is another than at the last call; the first call says yes."""
        now = [signature(path) for path in self._paths]
        changed = now != self._seen
        self._seen = now
        return changed

    def forget(self) -> None:
        """The next call says yes."""
        self._seen = None
