# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings interfaces' settings to what is wanted, says what is not possible, puts them back.

Private to the collection. Run at boot by l4lb-tuning.service as `python3 -m ..._tuning [DIR]`. What
a setting was before it was first changed stands in `tuning.json` of the state directory, written
before the kernel is touched.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _applied, _cpus, _links
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome, lacking
from ansible_collections.l4lb.xdp.plugins.module_utils._tuning_settings import (
    SETTINGS,
    Impossible,
    Setting,
    Tuning,
    TuningError,
    default_affinity,
    shown,
)

STATE_FILE = "tuning.json"


@dataclass(frozen=True)
class State:
    """What was wanted last, of which interfaces, and by interface and setting what there was."""

    interfaces: tuple[str, ...]
    tuning: Tuning
    before: Mapping[str, Mapping[str, Any]]

    def save(self, path: Path) -> None:
        content = {
            "interfaces": list(self.interfaces),
            "tuning": vars(self.tuning),
            "before": {name: dict(kept) for name, kept in self.before.items() if kept},
        }
        if _applied.load(path) != content:
            _applied.save(path, content)


def recall(path: Path) -> State | None:
    """What was saved; None when there is nothing."""
    return _applied.read(
        path,
        lambda content: State(
            tuple(content["interfaces"]),
            Tuning(**content["tuning"]),
            {name: dict(kept) for name, kept in content["before"].items()},
        ),
        "what l4lb.xdp.tuning wrote",
        "remove it and apply again",
    )


@dataclass
class Step:
    """One setting of one interface: what it is, what it should be, or why that cannot be."""

    interface: str
    setting: Setting
    now: Any = None
    wanted: Any = None
    why_not: str = ""

    @property
    def due(self) -> bool:
        return not self.why_not and bool(self.now != self.wanted)

    def line(self, value: Any) -> str:
        return f"{self.interface} {self.setting.name}: {shown(self.setting.name, value)}"

    @property
    def refusal(self) -> str:
        return f"{self.interface}: {self.setting.name} is not possible: {self.why_not}"

    def as_dict(self, done: bool) -> dict[str, Any]:
        name = self.setting.name
        status = "not possible" if self.why_not else "as wanted"
        return {
            "interface": self.interface,
            "setting": name,
            "status": "changed" if done else status,
            "value": "" if self.now is None else shown(name, self.wanted if done else self.now),
            "why": self.why_not,
        }


def apply(
    interfaces: Sequence[str],
    tuning: Tuning,
    state_dir: Path,
    *,
    required: bool = False,
    dry: bool = False,
) -> Outcome:
    """Raises TuningError before anything is changed when something is required and not possible."""
    if dry and (why_not := lacking(_links.require_libraries)):
        after = [f"{name}: tuned" for name in interfaces]
        return Outcome(True, after=after, data={"tuning": []}, warnings=[why_not])
    with writer(state_dir, "l4lb.xdp.tuning", dry) as waited:
        path = state_dir / STATE_FILE
        last = recall(path)
        before = {name: dict(kept) for name, kept in last.before.items()} if last else {}
        first = list(_steps(interfaces, tuning, before))
        refusals = [step.refusal for step in first if step.why_not]
        if required and refusals:
            raise TuningError("; ".join(refusals))
        asked = bool(interfaces) and any(setting.is_wanted(tuning) for setting in SETTINGS)
        news = asked and (last is None or _differs(last, interfaces, tuning))
        news = news or (last is not None and not asked)
        if dry:
            return _outcome([(step, step.due) for step in first], waited, news)
        kept = _kept(first, before)
        State(tuple(interfaces), tuning, kept).save(path)
        done = [(step, _write(step)) for step in _steps(interfaces, tuning, before)]
        refusals = [step.refusal for step, _changed in done if step.why_not]
        if required and refusals:
            raise TuningError("; ".join(refusals))
        State(tuple(interfaces), tuning, _still_ours(kept, tuning, interfaces)).save(path)
        if not asked:
            _applied.forget(path)
        return _outcome(done, waited, news)


def _differs(last: State, interfaces: Sequence[str], tuning: Tuning) -> bool:
    return (last.interfaces, last.tuning) != (tuple(interfaces), tuning)


def _outcome(steps: list[tuple[Step, bool]], waited: list[str], news: bool) -> Outcome:
    changes = [step for step, changed in steps if changed]
    return Outcome(
        bool(changes) or news,
        [step.line(step.now) for step in changes],
        [step.line(step.wanted) for step in changes],
        {"tuning": [step.as_dict(changed) for step, changed in steps]},
        warnings=waited + [step.refusal for step, _changed in steps if step.why_not],
    )


def _steps(
    interfaces: Sequence[str], tuning: Tuning, before: Mapping[str, Mapping[str, Any]]
) -> Iterator[Step]:
    """One after the other: what one writes, the next one reads."""
    wanted = [part for name in interfaces for part in parts(name)]
    gone = [name for name in before if name not in wanted and _links.exists(name)]
    for name in (*wanted, *gone):
        asked = tuning if name in wanted else Tuning()
        for setting in SETTINGS:
            if setting.is_wanted(asked):
                yield _look(name, setting, asked)
            elif setting.name in before.get(name, {}):
                yield _look(name, setting, asked, before[name][setting.name])


def parts(interface: str) -> list[str]:
    """What of it is tuned: a bond's members, else itself. Raises NoSuchInterface."""
    _links.interface(interface)
    path = _cpus.NET / interface / "bonding/slaves"
    return path.read_text(encoding="ascii").split() if path.exists() else [interface]


def _look(name: str, setting: Setting, tuning: Tuning, back: Any = None) -> Step:
    """back: what it was before, where it is put back."""
    step = Step(name, setting)
    try:
        step.now = setting.read(name)
        if setting.is_wanted(tuning):
            step.wanted = setting.wanted(name, tuning)
        else:
            step.wanted = back if setting.kept else default_affinity(name)
    except Impossible as error:
        step.why_not = str(error)
    except OSError as error:
        step.why_not = _reason(error)
    return step


def _write(step: Step) -> bool:
    """Returns whether it was changed; what the driver makes something else of was not possible."""
    if not step.due:
        return False
    try:
        step.setting.write(step.interface, step.wanted)
        now = step.setting.read(step.interface)
    except Impossible as error:
        step.why_not = str(error)
    except OSError as error:
        step.why_not = _reason(error)
    else:
        if now != step.wanted:
            step.why_not = f"the driver made {shown(step.setting.name, now)} of it"
        return bool(now != step.now)
    return False


def _reason(error: OSError) -> str:
    if error.errno in (errno.EOPNOTSUPP, errno.ENOENT, errno.ENOTTY):
        return "its driver does not have it"
    if error.errno == errno.EROFS:
        return "/sys cannot be written to, as in a container"
    if error.errno == errno.EPERM:
        return "the kernel refuses; this must run as root (become: true)"
    return f"the driver refuses ({os.strerror(error.errno) if error.errno else error})"


def _kept(
    steps: Sequence[Step], before: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    kept = {name: dict(values) for name, values in before.items()}
    for step in steps:
        if step.due:
            value = step.now if step.setting.kept else None
            kept.setdefault(step.interface, {}).setdefault(step.setting.name, value)
    return kept


def _still_ours(
    kept: Mapping[str, Mapping[str, Any]], tuning: Tuning, interfaces: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Less what was put back."""
    wanted = {setting.name for setting in SETTINGS if setting.is_wanted(tuning)}
    own = {part for name in interfaces for part in parts(name)}
    return {
        name: {setting: value for setting, value in values.items() if setting in wanted}
        for name, values in kept.items()
        if name in own
    }


def restore(state_dir: Path) -> list[str]:
    """What Ansible last applied, at boot; returns a line for each setting."""
    last = recall(state_dir / STATE_FILE)
    if last is None:
        return []
    outcome = apply(last.interfaces, last.tuning, state_dir)
    return [*outcome.after, *outcome.warnings]


def main() -> int:
    """The unit's entry."""
    state_dir = Path(sys.argv[1] if len(sys.argv) > 1 else _applied.STATE_DIR)
    try:
        for line in restore(state_dir):
            sys.stdout.write(f"{line}\n")
    except (L4lbError, OSError) as error:
        sys.stderr.write(f"not tuned: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
