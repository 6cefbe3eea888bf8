# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another program for a running node, with proof: beside the old one on the same maps, compared on
golden packets, put in its place in one step, watched, and taken back when packets fare worse.

Private to the collection; docs/upgrade.md says it at length. Killed at any point, this leaves every
interface with the old program or the new one, and `_upgrade_state` says how far it came.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _bpf,
    _golden,
    _links,
    _program,
    _releases,
    _upgrade_state,
    _upgrade_watch,
    _wanted,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._guard_tables import GuardTables
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome, lacking
from ansible_collections.l4lb.xdp.plugins.module_utils._program import Attachment, Loaded
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import (
    SchemaError,
    differing,
    pin_names,
    pinned_sizes,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_compare import (
    Comparer,
    Comparison,
    Difference,
    Expected,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_state import (
    OLD,
    PREVIOUS,
    REPLACING,
    UPGRADED,
    WATCHING,
    State,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_watch import Limits, Look, Traffic
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted

POLL = 1.0
"""Seconds between looks at the counters."""

LARGEST = 3400
"""Bytes of the largest packet that a test run takes (a page, less headroom and tailroom)."""

_NAMED = 5  # differences in an error's text, each of another kind; all are in its data

LAYOUT_WAY = (
    "another layout of the maps cannot be put in place of a running one. Nothing was changed. Let "
    "the playbook drain the node and begin anew (l4lb.xdp.upgrade with l4lb_relayout: true), or do "
    "it by hand: l4lb.xdp.drain, l4lb.xdp.program with state: detached, l4lb.xdp.site, and "
    "l4lb.xdp.node with state: announcing"
)


class UpgradeError(L4lbError):
    """The program was not replaced, or was taken back; the text says why."""


class LayoutError(UpgradeError):
    """The new release has other maps; the module's result says so: `layout`."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text}: {LAYOUT_WAY}", {"layout": True})


@dataclass(frozen=True)
class Places:
    """Directories; source: what is applied now, library: of the modules' own code beside it."""

    pins: Path
    state_dir: Path
    source: Path
    library: Path


@dataclass(frozen=True)
class Request:
    """What to upgrade to, and what has to be proven. Times in seconds."""

    candidate: Path  # the new release's C sources
    expect: tuple[str, ...] = ()
    accept_differences: bool = False
    services: int = 64
    flows: int = 4
    baseline: float = 10
    watch: float = 30
    limits: Limits = field(default_factory=Limits)


@dataclass
class _Run:
    """What one run works with."""

    request: Request
    places: Places
    wanted: Wanted
    tables: Tables
    old: Loaded
    new: Loaded

    def look(self) -> Look:
        return _upgrade_watch.look(self.tables, self.wanted.interfaces, time.monotonic())

    def pin(self, name: str) -> Path:
        return self.places.pins / name


# --- the way up ---


def upgrade(request: Request, places: Places, dry: bool = False) -> Outcome:
    """Proves the candidate and puts it in place; dry: proves it only.

    Raises UpgradeError, with differences or counters in its data, and L4lbError.
    """
    expected = Expected(request.expect)
    if dry:
        request = replace(request, baseline=0)  # nobody will watch
    wanted = applied(places.state_dir)
    if dry and (why_not := lacking(lambda: _program.require_ready(wanted))):
        return Outcome(True, warnings=[why_not])
    _program.require_ready(wanted)
    require_layout(wanted, request.candidate)
    with alone(places.state_dir, dry) as waited:
        new = candidate_of(wanted, request.candidate)
        state = _upgrade_state.load(places.state_dir)
        done = None
        if state and state.unfinished:
            done = _go_on(request, places, wanted, new, state, dry)
        done = done or _from_the_start(request, places, wanted, new, expected, dry)
    done.warnings += waited
    return done


def _from_the_start(
    request: Request, places: Places, wanted: Wanted, new: Loaded, expected: Expected, dry: bool
) -> Outcome:
    run = _Run(request, places, wanted, Tables(places.pins, request.candidate), _old(wanted), new)
    if run.old.info.tag == new.info.tag:
        same = lines(wanted, new.info.tag)
        return Outcome(False, same, same, _data(run.old, new))
    began = run.look()
    comparison, baseline = _prove(run, began)
    refused, unused = comparison.judged(expected)
    notes = [f"expect: {word!r} did not come about" for word in unused]
    data = _data(run.old, new, comparison)
    if refused and not request.accept_differences:
        raise UpgradeError(_refusal(run.old, new, refused), data, notes)
    if not dry:
        state = _replace(run, baseline)
        data["upgrade"]["watch"] = _watch(run, state).as_dict()
    return _outcome(run, comparison, data, notes)


def _prove(run: _Run, began: Look) -> tuple[Comparison, Traffic]:
    """Runs the golden packets. The baseline is of the time around them: they do not count."""
    ingress = _links.interface(run.wanted.interfaces[0])
    actual, guards = run.tables.actual(), GuardTables(run.tables).guards()
    fleet = _golden.Fleet(
        actual.services,
        run.tables.ring,
        run.tables.settings()["hash_seed"],
        bytes.fromhex((ingress.address or "02:00:00:00:00:02").replace(":", "")),
        min(ingress.mtu, LARGEST),
        {index: pool.identity for index, pool in actual.pools.items()},
        guards.deny,
        {service for service, guard in guards.services.items() if guard.allow},
    )
    cases = _golden.cases(fleet, run.request.services, run.request.flows)
    before = _upgrade_watch.between(began, run.look())
    comparer = Comparer(run.tables, run.old.fd, run.new.fd, ingress.index)
    comparison = comparer.compare(cases)
    again = run.look()
    time.sleep(max(0.0, run.request.baseline - before.seconds))
    return comparison, before + _upgrade_watch.between(again, run.look())


def _refusal(old: Loaded, new: Loaded, refused: Sequence[Difference]) -> str:
    one_of_each: dict[str, Difference] = {}
    for difference in refused:
        one_of_each.setdefault(difference.case.kind, difference)
    named = list(one_of_each.values())[:_NAMED]
    texts = []
    for difference in named:
        before, after = difference.answers()
        texts.append(f"{difference.packet}: {before}; new: {after}")
    more = f"; and {len(refused) - len(named)} more" if len(refused) > len(named) else ""
    return (
        f"program {new.info.tag} treats {len(refused)} golden packets otherwise than "
        f"{old.info.tag}, which runs: {' | '.join(texts)}{more}. Nothing was replaced. If that is "
        "meant, name it in expect, or set accept_differences: true"
    )


def _replace(run: _Run, baseline: Traffic) -> State:
    """From the old program to the new one on all interfaces."""
    state_dir = run.places.state_dir
    release = _releases.name_of(run.places.source, run.places.library)
    state = State(
        REPLACING,
        run.old.info.tag,
        run.new.info.tag,
        release,
        _upgrade_state.boot_id(),
        baseline.as_dict(),
    )
    with writer(state_dir, "l4lb.xdp.upgrade"):
        _require_unchanged(run)
        _upgrade_state.save(state_dir, state)
        _bpf.replace_pin(run.old.fd, run.pin(OLD))
        try:
            _program.attach(run.new)
        except BaseException:
            _back(run.old, run.places)
            raise
        state = state.then(WATCHING)
        _upgrade_state.save(state_dir, state)
    return state


def _require_unchanged(run: _Run) -> None:
    """Between proof and replacement somebody else may have written."""
    with _bpf.opened(run.pin("balancer")) as fd:
        same = fd is not None and _bpf.program_info(fd).id == run.old.info.id
    if not same or _program.differs(run.old):
        raise UpgradeError(
            "another program was attached while the new one was being proven: run again"
        )


def _watch(run: _Run, state: State) -> Traffic:
    """Lets packets through the new program and looks how they fare; takes it back when worse."""
    baseline = _upgrade_watch.traffic_of(state.baseline)
    first = run.look()
    end = first.at + run.request.watch
    while True:
        time.sleep(max(0.0, min(POLL, end - time.monotonic())))
        if _program.differs(run.new):
            raise UpgradeError(
                "somebody else changed the interfaces' program during the watch "
                f"({', '.join(_program.differs(run.new))}): look what runs there, and run again"
            )
        last = run.look()
        after = _upgrade_watch.between(first, last)
        found = _upgrade_watch.worse(baseline, after, run.request.limits)
        if found:
            with writer(run.places.state_dir, "l4lb.xdp.upgrade"):
                _back(run.old, run.places)
            raise UpgradeError(
                f"packets fared worse under program {run.new.info.tag}, so {run.old.info.tag} runs "
                f"again: {'; '.join(found)}",
                {
                    "upgrade": {
                        "old": run.old.info.tag,
                        "new": run.new.info.tag,
                        "worse": found,
                        "baseline": baseline.as_dict(),
                        "watch": after.as_dict(),
                    }
                },
            )
        if last.at >= end:
            break
    with writer(run.places.state_dir, "l4lb.xdp.upgrade"):
        run.pin(OLD).replace(run.pin(PREVIOUS))
        _upgrade_state.save(run.places.state_dir, state.then(UPGRADED))
    return after


def _back(old: Loaded, places: Places) -> None:
    """The old program on all interfaces, and no trace of the upgrade. The caller is the writer."""
    stand(old)
    (places.pins / OLD).unlink(missing_ok=True)
    _upgrade_state.forget(places.state_dir)


def stand(program: Loaded) -> list[str]:
    """Attaches a program where another one runs, and pins it; returns the interfaces changed."""
    changed = _program.attach(program)
    pin = program.wanted.pins / "balancer"
    with _bpf.opened(pin) as fd:  # of a run that was killed between the two
        right = fd is not None and _bpf.program_info(fd).tag == program.info.tag
    if not right:
        _bpf.replace_pin(program.fd, pin)
    return changed


# --- an upgrade that was killed ---


def _go_on(
    request: Request, places: Places, wanted: Wanted, new: Loaded, state: State, dry: bool
) -> Outcome | None:
    """Finishes the watch of the same program, or brings the old one back; None: begin anew."""
    tags = {each.tag for each in _program.attachments(wanted).values()}
    if dry:
        return Outcome(True, warnings=[f"an upgrade to {state.new} was killed: {state.phase}"])
    if tags <= {state.old, state.new}:
        with _bpf.opened(places.pins / OLD) as fd:
            if fd is not None and state.phase == WATCHING and tags == {new.info.tag}:
                old = _loaded(wanted, fd)
                tables = Tables(places.pins, request.candidate)
                run = _Run(request, places, wanted, tables, old, new)
                data = _data(old, new)
                data["upgrade"]["watch"] = _watch(run, state).as_dict()
                note = "an upgrade that was killed during its watch was finished"
                return _outcome(run, Comparison(), data, [note])
            if fd is not None:
                with writer(places.state_dir, "l4lb.xdp.upgrade"):
                    _back(_loaded(wanted, fd), places)
                return None
    with writer(places.state_dir, "l4lb.xdp.upgrade"):
        if tags == {state.new}:  # only the last word is missing
            _upgrade_state.save(places.state_dir, state.then(UPGRADED))
        else:  # nothing was attached yet, or somebody else has decided
            (places.pins / OLD).unlink(missing_ok=True)
            _upgrade_state.forget(places.state_dir)
    return None


# --- parts that rollback shares ---


def applied(state_dir: Path) -> Wanted:
    """What l4lb.xdp.program applied here. Raises UpgradeError when that was never."""
    wanted = _wanted.recall(_wanted.file_of("balancer", state_dir))
    if wanted is None:
        raise UpgradeError(
            f"no balancer was applied on this node (nothing in {state_dir}): run l4lb.xdp.site "
            "first"
        )
    return wanted


@contextmanager
def alone(state_dir: Path, dry: bool) -> Iterator[list[str]]:
    """One upgrade or rollback at a time."""
    with writer(state_dir / _upgrade_state.LOCK_DIR, "l4lb.xdp.upgrade", dry, patience=0) as waited:
        yield waited


def require_layout(wanted: Wanted, candidate: Path) -> None:
    """Raises LayoutError when these sources have other maps than the node; compiles nothing."""
    try:
        pinned = pinned_sizes(wanted.pins, candidate)
    except SchemaError as error:
        if not (candidate / "maps.h").exists():
            raise
        raise LayoutError(_head(error)) from error
    if pinned is None:
        raise UpgradeError(f"no maps are pinned at {wanted.pins}: run l4lb.xdp.site first")
    difference = differing(pinned, wanted.sizes)
    if difference:
        raise LayoutError(f"the pinned maps have other sizes ({difference})")
    names = pin_names(candidate / "balancer.c")
    missing = [name for name in names if not (wanted.pins / name).exists()]
    if missing:
        raise LayoutError(f"the node has no maps {', '.join(missing)}")


def _head(error: SchemaError) -> str:
    """Without its remedy, which is for those who have not drained."""
    return str(error).partition(": ")[0]


def candidate_of(wanted: Wanted, source: Path) -> Loaded:
    """The program of these sources, compiled and loaded on the node's maps; nothing is written."""
    there = replace(wanted, source=source)
    try:
        loaded = _program.prepare(there, dry=True)
    except SchemaError as error:
        if "pinned at" in str(error):
            raise LayoutError(_head(error)) from error
        raise
    if loaded.changed:
        raise UpgradeError(
            "the node's settings are not those that were applied last: run l4lb.xdp.site first"
        )
    return loaded


def _old(wanted: Wanted) -> Loaded:
    """The pinned program, which all interfaces run."""
    fd = _bpf.open_pin(wanted.pins / "balancer")
    if fd is None:
        raise UpgradeError("no balancer runs on this node: run l4lb.xdp.site first")
    old = _loaded(wanted, fd)
    elsewhere = _program.differs(old)
    if elsewhere:
        raise UpgradeError(
            f"{', '.join(elsewhere)} does not run the pinned program: run l4lb.xdp.site first"
        )
    return old


def _loaded(wanted: Wanted, fd: int) -> Loaded:
    return Loaded(wanted, None, fd, _bpf.program_info(fd), False)


def lines(wanted: Wanted, tag: str) -> list[str]:
    return [str(Attachment(name, wanted.mode, tag, wanted.name)) for name in wanted.interfaces]


def _data(old: Loaded, new: Loaded, comparison: Comparison | None = None) -> dict[str, Any]:
    found = comparison or Comparison()
    return {
        "upgrade": {
            "old": old.info.tag,
            "new": new.info.tag,
            "packets": found.packets,
            "differences": [each.as_dict() for each in found.differences],
        }
    }


def _outcome(run: _Run, found: Comparison, data: dict[str, Any], notes: list[str]) -> Outcome:
    before, after = (lines(run.wanted, each.info.tag) for each in (run.old, run.new))
    for difference in found.differences:
        old, new = difference.answers()
        before.append(f"{difference.packet}: {old}")
        after.append(f"{difference.packet}: {new}")
    return Outcome(True, before, after, data, notes)
