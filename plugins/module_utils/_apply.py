# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step each that modules and restore share: bring the program, bring the services, to what is
wanted.

Private to the collection. Each leaves the kernel and the file that restore reads in agreement;
with `dry` each tells what it would do and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _applied, _plan, _program, _wanted
from ansible_collections.l4lb.xdp.plugins.module_utils._address import require_netaddr
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._program import Attachment, Loaded
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import (
    SchemaError,
    Sizes,
    pinned_sizes,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables, now_tick
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted

SERVICES_FILE = "services.json"


@dataclass
class Outcome:
    """What was done, or with dry would be, in a person's lines; `data` goes into the module's
    result.
    """

    changed: bool
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def lacking(require: Callable[[], None]) -> str:
    """Why a dry run cannot look closer on a host that no role has prepared; empty when it can."""
    try:
        require()
    except L4lbError as error:
        return f"not prepared yet, so not compared: {error}"
    return ""


# --- the program ---


def attach_program(wanted: Wanted, state_dir: Path, dry: bool = False) -> Outcome:
    """Compiles, proves and attaches the program where it differs, and remembers it for restore."""
    if dry:
        why_not = _cannot_compile_dry(wanted)
        if why_not:
            before = [f"{name}: not looked at" for name in wanted.interfaces]
            return Outcome(True, before, _wanted_lines(wanted, "new"), warnings=[why_not])
    before = [str(each) for each in _program.attachments(wanted).values()]
    loaded = _program.prepare(wanted, dry)
    if dry:
        changed = bool(_program.differs(loaded)) or loaded.changed
        changed = changed or not _wanted.is_remembered(wanted, state_dir)
        return Outcome(
            changed, before, _wanted_lines(wanted, loaded.info.tag), _program_data(loaded)
        )
    released = release_interfaces(wanted, state_dir)
    attached = _program.attach(loaded)
    news = _wanted.remember(wanted, state_dir)
    after = [str(each) for each in _program.attachments(wanted).values()]
    changed = bool(released or attached) or loaded.changed or news
    return Outcome(changed, before, after, _program_data(loaded))


def release_interfaces(wanted: Wanted, state_dir: Path) -> list[str]:
    """Detaches from the interfaces that were wanted last time and are not any more."""
    last = _wanted.recall(wanted.file(state_dir))
    if last is None:
        return []
    return _program.release(wanted, [i for i in last.interfaces if i not in wanted.interfaces])


def detach_program(wanted: Wanted, state_dir: Path, dry: bool = False) -> Outcome:
    """Takes the program off, with its maps and what restore would bring back."""
    remembered = wanted.file(state_dir).exists()
    before = [str(each) for each in _program.attachments(wanted).values()]
    changed = remembered or not _program.is_detached(wanted)
    if changed and not dry:
        _applied.forget(wanted.file(state_dir))
        _program.detach(wanted)
    after = before if not changed else [f"{name}: none" for name in wanted.interfaces]
    return Outcome(changed, before, after, {"program": {"name": wanted.name, "interfaces": []}})


def _cannot_compile_dry(wanted: Wanted) -> str:
    """As `lacking`; compiling also needs the maps, since it would make them."""
    why_not = lacking(lambda: _program.require_ready(wanted))
    if not why_not and not _program.can_compile_dry(wanted):
        return f"not prepared yet, so not compared: the maps of {wanted.name} are not pinned"
    return why_not


def _wanted_lines(wanted: Wanted, tag: str) -> list[str]:
    return [str(Attachment(i, wanted.mode, tag, wanted.name)) for i in wanted.interfaces]


def _program_data(loaded: Loaded) -> dict[str, Any]:
    attached = _program.attachments(loaded.wanted).values()
    return {
        "program": {
            "name": loaded.wanted.name,
            "tag": loaded.info.tag,
            "mode": loaded.wanted.mode,
            "interfaces": [vars(each) for each in attached],
        }
    }


# --- the services ---


def apply_services(
    pools: Mapping[str, Any],
    services: Sequence[Any],
    purge: bool,
    pins: Path,
    source: Path,
    state_dir: Path,
    dry: bool = False,
) -> Outcome:
    """Makes the kernel hold these pools and services; with purge no others.

    Raises ConfigError with all mistakes before anything is read or written.
    """
    if dry and (why_not := lacking(require_netaddr)):
        return Outcome(True, warnings=[why_not])
    require_netaddr()
    last = _applied.load(state_dir / SERVICES_FILE)
    fleet = parse(pools, services) if purge else merged(last, pools, services)
    tables = _open(pins, source, dry)
    if tables is None:
        plan = _plan.make(fleet, _plan.Actual({}, {}, {}, Sizes()), lambda _pool: None, set, 1)
        outcome = _services_outcome(plan, fleet, plan.changed or last != fleet.as_dict())
        outcome.warnings = ["the balancer is not prepared yet: compared with an empty node"]
        return outcome
    return apply_fleet(fleet, tables, state_dir, dry)


def apply_fleet(fleet: Fleet, tables: Tables, state_dir: Path, dry: bool = False) -> Outcome:
    """Makes the kernel and the file hold this fleet and nothing else."""
    path, content = state_dir / SERVICES_FILE, fleet.as_dict()
    news = _applied.load(path) != content
    now = now_tick()
    plan = _plan.make(fleet, tables.actual(), tables.ring, tables.named_by_flows, now)
    if not dry:
        if plan.changed:
            _plan.apply(plan, tables)
            _plan.verify(fleet, tables, now)
        if news:
            _applied.save(path, content)
    return _services_outcome(plan, fleet, plan.changed or news)


def merged(last: Any, pools: Mapping[str, Any], services: Sequence[Any]) -> Fleet:
    """What was applied last, with these entries added or in place of theirs."""
    given = parse({**(last or {}).get("pools", {}), **pools}, services)
    keys = {service.key for service in given.services} | {
        service.name for service in given.services
    }
    kept = [
        service
        for service in (last or {}).get("services", [])
        if service["name"] not in keys
        and (service["address"], service["protocol"], service["port"]) not in keys
    ]
    whole = given.as_dict()
    return parse(whole["pools"], [*kept, *whole["services"]])


def _open(pins: Path, source: Path, dry: bool) -> Tables | None:
    """The node's tables; None when dry and there are none yet."""
    try:
        if dry and pinned_sizes(pins, source) is None:
            return None
    except SchemaError:
        if (pins / "schema").exists():
            raise
        return None
    return Tables(pins, source)


def _services_outcome(plan: _plan.Plan, fleet: Fleet, changed: bool) -> Outcome:
    predictions = plan.predictions()
    data = {"pools": predictions, "services": len(fleet.services)}
    notes = [
        f"pool {name}: {share['moved']} % of new flows go elsewhere "
        f"({share['unavoidable']} % unavoidable, {share['collateral']} % collateral), "
        f"{share['broken']} % of old flows break"
        for name, share in predictions.items()
        if share["moved"] or share["broken"]
    ]
    return Outcome(changed, plan.before, plan.after, {"plan": data}, notes)
