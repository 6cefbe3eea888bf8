# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step each that modules and restore share: bring the program, bring the services, to what is
wanted.

Private to the collection. Each leaves the kernel and the file that restore reads in agreement, as
the node's only writer; with `dry` each tells what it would do and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _advice,
    _agent_status,
    _applied,
    _guards,
    _health,
    _info,
    _lines,
    _node_state,
    _overrides,
    _plan,
    _predict,
    _program,
    _wanted,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._address import require_netaddr
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import (
    SERVICES_FILE,
    applied_services,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import (
    Change,
    ConfigError,
    Fleet,
    parse,
    parse_change,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._guard_tables import GuardTables
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import Actual, ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome, lacking
from ansible_collections.l4lb.xdp.plugins.module_utils._program import Attachment, Loaded
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import (
    LAYOUT,
    SchemaError,
    Sizes,
    other_layout,
    pinned_sizes,
    schema,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables, now_tick
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted

# --- the program ---


def attach_program(wanted: Wanted, state_dir: Path, dry: bool = False) -> Outcome:
    """Compiles, proves and attaches the program where it differs, and remembers it for restore."""
    if dry:
        why_not = _cannot_compile_dry(wanted)
        if why_not:
            before = [f"{name}: not looked at" for name in wanted.interfaces]
            return Outcome(True, before, _wanted_lines(wanted, "new"), warnings=[why_not])
        return _would_attach(wanted, state_dir)
    warnings = _seed_warnings(wanted, state_dir)
    with writer(state_dir, "l4lb.xdp.program") as waited:
        before = [str(each) for each in _program.attachments(wanted).values()]
        loaded = _program.prepare(wanted)
        released = release_interfaces(wanted, state_dir)
        attached = _program.attach(loaded)
        news = _wanted.remember(wanted, state_dir)
    after = [str(each) for each in _program.attachments(wanted).values()]
    changed = bool(released or attached) or loaded.changed or news
    return Outcome(changed, before, after, _program_data(loaded), warnings=waited + warnings)


def _would_attach(wanted: Wanted, state_dir: Path) -> Outcome:
    before = [str(each) for each in _program.attachments(wanted).values()]
    loaded = _program.prepare(wanted, dry=True)
    differing = _program.differs(loaded)
    _program.require_attachable(wanted, differing)
    changed = bool(differing) or loaded.changed
    changed = changed or not _wanted.is_remembered(wanted, state_dir)
    after = _wanted_lines(wanted, loaded.info.tag)
    warnings = _seed_warnings(wanted, state_dir)
    return Outcome(changed, before, after, _program_data(loaded), warnings=warnings)


def _seed_warnings(wanted: Wanted, state_dir: Path) -> list[str]:
    last = _wanted.recall(wanted.file(state_dir))
    if last is None or last.hash_seed == wanted.hash_seed:
        return []
    return [
        "hash_seed is another than before: every flow of every pool is steered anew, and most old "
        "ones break; drain the node first"
    ]


def release_interfaces(wanted: Wanted, state_dir: Path) -> list[str]:
    """Detaches from the interfaces that were wanted last time and are not any more."""
    last = _wanted.recall(wanted.file(state_dir))
    if last is None:
        return []
    return _program.release(wanted, [i for i in last.interfaces if i not in wanted.interfaces])


def detach_program(
    wanted: Wanted,
    state_dir: Path,
    dry: bool = False,
    run_dir: Path = Path(_agent_status.RUN_DIR),
) -> Outcome:
    """Takes the program off, with its maps and what restore would bring back.

    Where an agent runs, all that the balancer serves is withdrawn first. Raises WithdrawError then,
    before anything is changed.
    """
    remembered = wanted.file(state_dir).exists()
    before = [str(each) for each in _program.attachments(wanted).values()]
    changed = remembered or not _program.is_detached(wanted)
    waited: list[str] = []
    if changed and not dry:
        with writer(state_dir, "l4lb.xdp.program") as waited:
            withheld = wanted.name == "balancer" and _withdraw_all(state_dir, run_dir)
            try:
                _applied.forget(wanted.file(state_dir))
                _program.detach(wanted)
            finally:
                if withheld:  # from here on the agent finds by itself what works
                    _node_state.release(state_dir)
    after = before if not changed else [f"{name}: none" for name in wanted.interfaces]
    data = {"program": {"name": wanted.name, "interfaces": []}}
    return Outcome(changed, before, after, data, warnings=waited)


def _withdraw_all(state_dir: Path, run_dir: Path) -> bool:
    applied = applied_services(state_dir)
    addresses = {service["address"] for service in applied["services"]} if applied else set()
    return _node_state.withdraw(sorted(addresses), state_dir, run_dir)


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


def has_services(pins: Path, state_dir: Path) -> bool:
    """Whether services were applied on this node, by whatever release: in the kernel, or for
    restore.
    """
    return (pins / "schema").exists() or (state_dir / SERVICES_FILE).exists()


def apply_services(
    pools: Mapping[str, Any],
    services: Sequence[Any],
    purge: bool,
    pins: Path,
    source: Path,
    state_dir: Path,
    dry: bool = False,
    max_moved: float = 100,
    run_dir: Path = Path(_agent_status.RUN_DIR),
    compared: bool = False,
    deny: Sequence[Any] | None = None,
) -> Outcome:
    """Makes the kernel hold these pools and services; with purge no others.

    Where an agent runs, addresses that go are withdrawn first. max_moved: per cent. compared: tell
    the steering before and after, by which nodes are compared. deny: prefixes that are denied from
    now on, and no others; None leaves them as they are. Raises
    ConfigError with all mistakes, RefusedError, and WithdrawError, before anything is written.
    """
    if dry and (why_not := lacking(require_netaddr)):
        return Outcome(True, warnings=[why_not])
    require_netaddr()
    require_share(max_moved)

    def withdraw(addresses: Collection[str]) -> None:
        _node_state.withdraw(addresses, state_dir, run_dir)

    with writer(state_dir, "l4lb.xdp.services", dry) as waited:
        left = bool(_node_state.load(state_dir).withheld)  # by a run that was killed
        last = applied_services(state_dir)
        tables = open_tables(pins, source, dry)
        if last is None and tables is not None and not purge:
            last = _held(tables)
        if deny is None:
            deny = last.get("deny", ()) if last else ()
        change = parse_change(pools, services, last["pools"] if last and not purge else (), deny)
        fleet = change.fleet if purge else merged(last, change)
        if tables is None:
            return _on_an_empty_node(fleet, last)
        settings = tables.settings()
        _advice.require_sources(fleet, settings["source_ipv4"], settings["source_ipv6"])
        outcome = apply_fleet(fleet, tables, state_dir, dry, max_moved, withdraw, compared)
        outcome.changed |= left
        if not dry:
            _node_state.release(state_dir)
    advice = _advice.warnings(fleet, tables.sizes.ring)
    outcome.warnings = [*waited, *advice, *outcome.data["plan"]["overrides"]]
    kept, given = ((len(each.pools), len(each.services)) for each in (fleet, change.fleet))
    outcome.data["leftovers"] = kept != given
    return outcome


def _held(tables: Tables) -> dict[str, Any]:
    """What the kernel holds in inventory's shape, of a node that lost the file that says so."""
    actual = tables.actual()
    ids = {service.name: service.id for service in actual.services.values()}
    guards = GuardTables(tables).guards()
    return _guards.as_inventory(_lines.as_inventory(actual), guards, ids)


def apply_fleet(
    fleet: Fleet,
    tables: Tables,
    state_dir: Path,
    dry: bool = False,
    max_moved: float = 100,
    withdraw: Callable[[Collection[str]], None] | None = None,
    compared: bool = False,
) -> Outcome:
    """Makes the kernel hold this fleet, with overrides and health, and nothing else; and the files
    that restore reads. The caller is the only writer.

    withdraw: called before anything is written, with the service addresses that go.
    """
    path, content = state_dir / SERVICES_FILE, fleet.as_dict()
    news = _applied.load(path) != content
    overrides = _overrides.load(state_dir)
    effective, standing = _overrides.overridden(fleet, overrides)
    known = _health.known(state_dir)
    healths = None if known is None else _health.kept(known, fleet)
    effective = _health.weighed(effective, healths or {})
    down, now = _health.down(healths), now_tick()
    actual = tables.actual()
    plan = _plan.make(effective, actual, tables.ring, tables.named_by_flows, now, down)
    guards, guarded = GuardTables(tables), _guards_of(effective, plan, actual, tables)
    _predict.require_at_most(max_moved, plan.pool_shares, plan.service_shares)
    steering = _info.steering_after(plan, actual, tables) if compared else None
    if not dry:
        if plan.gone_addresses and withdraw:
            withdraw(plan.gone_addresses)
        if plan.changed or guarded.writes:
            _guards.tighten(guarded, guards)
            _plan.apply(plan, tables, now_tick)
            _guards.loosen(guarded, guards)
            _plan.verify(plan, effective, tables, now)
            _guards.verify(guarded, guards)
        if news:
            _applied.save(path, content)
        _overrides.save(state_dir, standing)
        if healths is not None:
            _health.save(state_dir, healths)
    changed = (
        plan.changed or bool(guarded.writes) or news or standing != overrides or healths != known
    )
    outcome = _services_outcome(plan, guarded, effective, changed, _overrides.lines(standing))
    if steering is not None:
        outcome.data["plan"]["steering"] = dict(zip(("before", "after"), steering))
    return outcome


def _guards_of(
    fleet: Fleet, plan: _plan.Plan, actual: Actual, tables: Tables | None
) -> _guards.GuardPlan:
    """The guards of the services as they will be. tables: None where nothing is held yet."""
    entries = {**actual.services, **plan.services}
    ids = {
        service.key: entries[ServiceKey(service.address, service.port, service.protocol)].id
        for service in fleet.services
    }
    fresh = {plan.services[key].id for key in plan.fresh_services}
    gone = {service.id: service.name for service in plan.gone_services.values()}
    held = GuardTables(tables).guards() if tables else _guards.Guards()
    return _guards.make(fleet, held, ids, fresh, gone, actual.sizes)


def require_share(max_moved: float) -> None:
    """Raises ConfigError unless it is a share in per cent."""
    if not 0 <= max_moved <= 100:
        raise ConfigError([f"max_moved: {max_moved} is not from 0 to 100 (per cent)"])


def merged(last: Mapping[str, Any] | None, change: Change) -> Fleet:
    """What was applied last, with the change's entries added, in place of theirs, or gone."""
    given, before = change.fleet.as_dict(), last or {"pools": {}, "services": []}
    names = {service.name for service in change.fleet.services}
    keys = {service.key for service in change.fleet.services}
    gone = names | keys | change.absent_services
    kept = [
        service
        for service in before["services"]
        if not gone & {service["name"], (service["address"], service["protocol"], service["port"])}
    ]
    mistakes = [
        f"l4lb_pools.{service['pool']}: is absent, but service {service['name']}, applied before, "
        "uses it; give that service another pool, or state: absent"
        for service in kept
        if service["pool"] in change.absent_pools
    ]
    if mistakes:
        raise ConfigError(mistakes)
    pools = {
        name: pool for name, pool in before["pools"].items() if name not in change.absent_pools
    }
    try:
        services = [*given["services"], *kept]
        return parse({**pools, **given["pools"]}, services, given.get("deny", ()))
    except ConfigError as error:
        head = "together with what was applied on this node before (purge: false):"
        raise ConfigError([f"{head} {mistake}" for mistake in error.mistakes]) from error


def open_tables(pins: Path, source: Path, dry: bool) -> Tables | None:
    """The node's tables; None when dry and there are none yet, or those of another release."""
    try:
        if dry and pinned_sizes(pins, source) is None:
            return None
        if schema(source).version != LAYOUT:
            if dry:
                return None
            raise SchemaError(other_layout(source))
    except SchemaError:
        if (pins / "schema").exists() and not dry:
            raise
        return None
    return Tables(pins, source)


def _on_an_empty_node(fleet: Fleet, last: Any) -> Outcome:
    actual = Actual({}, {}, {}, _room_for(fleet))
    plan = _plan.make(fleet, actual, lambda _pool: None, set, 1)
    guarded = _guards_of(fleet, plan, actual, None)
    changed = plan.changed or bool(guarded.writes) or last != fleet.as_dict()
    outcome = _services_outcome(plan, guarded, fleet, changed, [])
    outcome.warnings = ["not prepared yet by this release: compared with an empty node"]
    return outcome


def _room_for(fleet: Fleet) -> Sizes:
    """Inventory may ask for larger maps than the usual; the program module knows, this does not."""
    usual = Sizes()
    backends = 1 + sum(len(pool.backends) for pool in fleet.pools)
    return replace(
        usual,
        services=max(usual.services, len(fleet.services)),
        pools=max(usual.pools, len(fleet.pools)),
        backends=max(usual.backends, backends),
        deny=max(usual.deny, len(fleet.deny)),
        allow=max(usual.allow, sum(len(service.allow) for service in fleet.services)),
    )


def _services_outcome(
    plan: _plan.Plan,
    guarded: _guards.GuardPlan,
    fleet: Fleet,
    changed: bool,
    overrides: list[str],
) -> Outcome:
    shares = {
        "pools": {name: each.percent() for name, each in plan.pool_shares.items()},
        "services": {name: each.percent() for name, each in plan.service_shares.items()},
    }
    counts = {kind: len(entries) for kind, entries in plan.writes.items()} | guarded.writes
    writes = {kind.replace(" ", "_"): count for kind, count in counts.items()}
    backends = sum(len(pool.backends) for pool in fleet.pools)
    held = {"services": len(fleet.services), "pools": len(fleet.pools), "backends": backends}
    summary = _predict.sentences(plan.pool_shares, plan.service_shares)
    more = {"summary": summary, "writes": writes, "holds": held, "overrides": overrides}
    before, after = guarded.lines()
    lines = [*plan.before, *before], [*plan.after, *after]
    return Outcome(changed, *lines, {"plan": {**shares, **more}}, summary)
