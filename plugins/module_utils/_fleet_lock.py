# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run over the fleet at a time.

Private to the collection. A run takes the lock of every node it may touch, the first by name
before the others, so that of two runs that begin at once one gets all. The lock is a file that
names the run and ends by itself: no process lives as long as a run of playbooks does, and a run
that is killed cannot give anything back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _applied
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome

FLEET_FILE = "fleet.json"


class FleetLockError(L4lbError):
    """Another run has the fleet, or took it from this one."""


@dataclass(frozen=True)
class Held:
    """The file. run: empty where none holds it. since, until: Unix times. aim: what the run that
    holds it, or the last one if that did not come to its end, is after.
    """

    run: str = ""
    holder: str = ""
    since: int = 0
    until: int = 0
    aim: str = ""

    def told(self) -> dict[str, Any]:
        """As a module returns it."""
        times = {"since": _local(self.since), "until": _local(self.until)}
        return {"run": self.run, "holder": self.holder, **times}


@dataclass(frozen=True)
class Request:
    """A run that wants it. seconds: for how long, unless it asks again meanwhile. renew: it has the
    lock already, and fails if that was taken from it. take_over: from whoever has it.
    """

    run: str
    holder: str = "somebody"
    seconds: int = 3600
    aim: str | None = None
    renew: bool = False
    take_over: bool = False


def hold(
    request: Request, state_dir: Path, dry: bool = False, clock: Callable[[], float] = time.time
) -> Outcome:
    """Takes the lock, or makes it last longer. `left` in the data is what an earlier run was after
    that did not come to its end, empty if there is none.

    With dry nothing is taken, and a warning names whoever has it. A host where nothing was ever
    installed has nothing to be kept from; one that this run has installed meanwhile, where there is
    no file yet, gets its lock when it is renewed. Raises FleetLockError.
    """
    if not state_dir.is_dir():
        return Outcome(False, data={"lock": Held().told(), "left": ""})
    with writer(state_dir, "l4lb.xdp.fleet_lock", dry):
        held, now = load(state_dir), int(clock())
        mine = held.run == request.run
        warnings = []
        if held.run and not mine and now < held.until:
            if not request.take_over:
                if not dry:
                    raise FleetLockError(_busy(held, request.renew), {"lock": held.told()})
                if not request.renew:  # it was said when it would have been taken
                    warnings.append(_busy(held, request.renew))
            else:
                warnings.append(f"the lock was taken from {_who(held)}")
        elif request.renew and not mine and not dry and (state_dir / FLEET_FILE).exists():
            raise FleetLockError(
                "the lock of this run ended meanwhile, and others may have changed the fleet: "
                "nothing more was done. Run again; a longer l4lb_lock_seconds keeps it"
            )
        aim = held.aim if request.aim is None else request.aim
        since = held.since if mine else now
        got = Held(request.run, request.holder, since, now + request.seconds, aim)
        if not dry:
            _save(state_dir, got)
    data = {"lock": got.told(), "left": "" if mine else held.aim}
    return Outcome(not mine, _lines(held), _lines(got), data, warnings=warnings)


def free(run: str, done: bool, state_dir: Path, dry: bool = False) -> Outcome:
    """Gives the lock up if this run has it. done: the run came to its end, and what it was after
    needs not to be remembered.
    """
    if load(state_dir).run != run:
        return Outcome(False, data={"lock": load(state_dir).told()})
    with writer(state_dir, "l4lb.xdp.fleet_lock", dry):
        held = load(state_dir)
        if held.run != run:
            return Outcome(False, _lines(held), _lines(held), {"lock": held.told()})
        left = Held(aim="" if done else held.aim)
        if not dry:
            _save(state_dir, left)
    return Outcome(True, _lines(held), [], {"lock": left.told()})


def load(state_dir: Path) -> Held:
    """Raises AppliedError for a file that this module did not write."""
    found = _applied.read(
        state_dir / FLEET_FILE, _read, "a fleet's lock", "remove it, and the lock is free"
    )
    return found or Held()


def _read(content: Any) -> Held:
    held = Held(**content)
    for text in (held.run, held.holder, held.aim):
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no text")
    if not (_applied.is_integer(held.since, 0) and _applied.is_integer(held.until, 0)):
        raise ValueError(f"since {held.since!r}, until {held.until!r}")
    return held


def _save(state_dir: Path, held: Held) -> None:
    _applied.save(state_dir / FLEET_FILE, asdict(held))


def _busy(held: Held, lost: bool) -> str:
    head = "the fleet was taken from this run: " if lost else "another run has the fleet: "
    return (
        f"{head}{_who(held)}, until {_local(held.until)} if it asks for no more. Wait for it. If "
        "it was killed, what it left the next run brings to its end: -e l4lb_break_lock=true takes "
        "the lock from it"
    )


def _who(held: Held) -> str:
    return f"{held.holder} since {_local(held.since)}"


def _lines(held: Held) -> list[str]:
    return [f"held by {held.holder}"] if held.run else []


def _local(when: int) -> str:
    return f"{datetime.fromtimestamp(when).astimezone():%Y-%m-%d %H:%M:%S %Z}" if when else ""
