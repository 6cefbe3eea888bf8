# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the last upgrade of a node's program has come, on disk and in pins.

Private to the collection. Pins of programs, beside those of the maps:

    balancer            what the interfaces run
    balancer_old        during an upgrade: what ran before it
    balancer_previous   after it: the same, for a rollback that needs no compiler

A failed upgrade leaves `balancer_previous` as it was. The file names programs by their tags: ids
and pins do not outlive a reboot, and what was unfinished before one is no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _applied
from ansible_collections.l4lb.xdp.plugins.module_utils._program import OLD, PREVIOUS

STATE_FILE = "upgrade.json"
LOCK_DIR = "upgrade"
"""Below the state directory: one upgrade at a time. The node's own lock is held for moments only,
so that health goes on being written meanwhile."""

REPLACING = "replacing"
WATCHING = "watching"
UPGRADED = "upgraded"
ROLLED_BACK = "rolled back"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

__all__ = ["OLD", "PREVIOUS", "State", "load", "save"]


@dataclass(frozen=True)
class State:
    """phase: see above. old, new: tags. release: the files that belong to the old program, as
    `_releases` names them; empty: not known. baseline: Traffic.as_dict().
    """

    phase: str
    old: str
    new: str
    release: str = ""
    boot: str = ""
    baseline: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unfinished(self) -> bool:
        return self.phase in (REPLACING, WATCHING) and self.boot == boot_id()

    def then(self, phase: str) -> State:
        return replace(self, phase=phase, boot=boot_id())


def boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()


def load(state_dir: Path) -> State | None:
    """None when there was no upgrade. Raises AppliedError for a file that is something else."""
    path = state_dir / STATE_FILE
    content = _applied.load(path)
    try:
        return None if content is None else State(**content)
    except TypeError as error:
        raise _applied.AppliedError(
            f"{path} is not what l4lb.xdp.upgrade wrote ({error}): look which program runs "
            "(l4lb.xdp.info) and remove it"
        ) from error


def save(state_dir: Path, state: State) -> None:
    _applied.save(state_dir / STATE_FILE, {**vars(state), "baseline": dict(state.baseline)})


def forget(state_dir: Path) -> None:
    _applied.forget(state_dir / STATE_FILE)
