# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backend's admin state and weight, set over inventory's, and waiting until nothing uses it.

Private to the collection. Reads and writes the pools concerned and no others, so that it is quick
in a fleet of any size. The override is on the disk before the kernel is written: a killed run
leaves the old state or the new one, and the next run of anything converges to the override.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _applied,
    _apply,
    _health,
    _overrides,
    _plan,
    _predict,
    _quiet,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._address import canonical, require_netaddr
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import AppliedError
from ansible_collections.l4lb.xdp.plugins.module_utils._config import (
    MAX_WEIGHT,
    Backend,
    ConfigError,
    Fleet,
    Pool,
    parse,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import Actual, Kernel
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome, lacking
from ansible_collections.l4lb.xdp.plugins.module_utils._overrides import Override, Overrides
from ansible_collections.l4lb.xdp.plugins.module_utils._plan import Plan
from ansible_collections.l4lb.xdp.plugins.module_utils._quiet import Clock, Target
from ansible_collections.l4lb.xdp.plugins.module_utils._reader import Reader, few
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables, now_tick

INVENTORY = "inventory"
"""The state that gives a backend back to what inventory says."""

_REMEDY = "name one of them, or add it to l4lb_pools and run l4lb.xdp.services"


class BackendError(L4lbError):
    """The backend is not there, or cannot be waited for."""


@dataclass(frozen=True)
class Request:
    """What is asked for. pool None: every pool that has the address. Times in seconds."""

    address: str
    pool: str | None = None
    state: str | None = None
    weight: int | None = None
    wait: str = "none"
    timeout: int = 300
    idle: int = 60
    fail_on_timeout: bool = False


def apply_backend(
    request: Request,
    pins: Path,
    source: Path,
    state_dir: Path,
    dry: bool = False,
    clock: Clock | None = None,
) -> Outcome:
    """Sets what is asked for, then waits as asked; with dry, predicts and does not wait.

    Raises ConfigError, BackendError or AppliedError before anything is written; BackendError with
    the outcome as its data when the deadline of the wait passes and that is to be a failure.
    """
    if dry and (why_not := lacking(require_netaddr)):
        return Outcome(True, warnings=[why_not])
    require_netaddr()
    request = checked(request)
    with writer(state_dir, "l4lb.xdp.backend", dry) as waited:
        last = _applied.applied_services(state_dir)
        tables = _apply.open_tables(pins, source, dry)
        if tables is None or (dry and last is None):
            return Outcome(True, warnings=["no services are applied here yet, so not compared"])
        fleet, udp = concerned(last, request, state_dir)
        outcome, targets = set_backend(request, fleet, udp, tables, state_dir, dry)
    outcome.warnings = [*waited, *outcome.warnings]
    if request.wait != "none" and not dry:
        _wait(request, targets, tables, clock or Clock(), outcome)
    return outcome


def checked(request: Request) -> Request:
    """The request with its address canonical. Raises ConfigError with all mistakes."""
    reader = Reader()
    try:
        request = replace(request, address=canonical(request.address))
    except ValueError as error:
        reader.refuse("address", request.address, str(error))
    for key, low, high, note in (
        ("weight", 1, MAX_WEIGHT, " (to stop new flows use state: draining)"),
        ("timeout", 1, 86_400, " (seconds)"),
        ("idle", 1, 86_400, " (seconds)"),
    ):
        value = getattr(request, key)
        if value is not None and not low <= value <= high:
            reader.refuse(key, value, f"is not an integer from {low} to {high}{note}")
    if request.wait == "flows" and request.timeout < request.idle:
        reader.add(
            f"timeout: {request.timeout} is below idle ({request.idle}): a backend counts as quiet "
            "after idle seconds of silence, so it could not be in time"
        )
    if request.wait != "none" and request.state == "active":
        reader.add(_cannot_wait("state", "active"))
    if reader.mistakes:
        raise ConfigError(reader.mistakes)
    return request


def concerned(last: Any, request: Request, state_dir: Path) -> tuple[Fleet, frozenset[str]]:
    """The pools that are meant, as inventory had them, and the names of those that serve UDP.

    last: what was applied. Raises BackendError naming what exists.
    """
    path = state_dir / _applied.SERVICES_FILE
    if last is None:
        raise BackendError(
            f"no services were applied on this node yet (there is no {path}): "
            "run l4lb.xdp.services first"
        )
    try:
        members = {
            name: [backend["address"] for backend in pool["backends"]]
            for name, pool in last["pools"].items()
        }
        udp = frozenset(s["pool"] for s in last["services"] if s["protocol"] == "udp")
        names = _named(members, request)
        return parse({name: last["pools"][name] for name in names}, []), udp
    except (KeyError, TypeError, AttributeError) as error:
        raise AppliedError(f"cannot use {path}: remove it and apply again") from error


def _named(members: Mapping[str, Sequence[str]], request: Request) -> list[str]:
    """The names of the pools that are meant."""
    if request.pool is None:
        names = [name for name, addresses in members.items() if request.address in addresses]
        where = f"any pool that was applied here ({few(members)})"
    else:
        if request.pool not in members:
            raise BackendError(
                f"pool: {request.pool} is not one of those applied here: {few(members)}; {_REMEDY}"
            )
        names = [request.pool] if request.address in members[request.pool] else []
        where = f"pool {request.pool}, which has {few(members[request.pool])}"
    if not names:
        raise BackendError(f"address: {request.address} is not a backend of {where}; {_REMEDY}")
    return names


def set_backend(
    request: Request,
    fleet: Fleet,
    udp: frozenset[str],
    kernel: Kernel,
    state_dir: Path,
    dry: bool = False,
) -> tuple[Outcome, list[Target]]:
    """Makes files and kernel hold what is asked for; the caller is the only writer.

    fleet: the pools that are meant, as inventory has them; udp: names of pools that serve UDP.
    Returns also what there is to wait for.
    """
    held = _overrides.load(state_dir)
    effective, standing = decide(request, fleet, held, int(time.time()))
    chosen = _chosen(effective, request.address)
    _require_waitable(request, chosen)
    names = {pool.name for pool in fleet.pools}
    healths = _health.known(state_dir)
    down = _health.down(healths)
    weighed = _health.weighed(effective, healths or {})
    actual, now = kernel.actual().of_pools(names), now_tick()
    plan = _plan.make(weighed, actual, kernel.ring, kernel.named_by_flows, now, down)
    _require_held(plan)
    if not dry:
        _overrides.save(state_dir, standing)
        if plan.changed:
            _plan.apply(plan, kernel, now_tick)
            _plan.verify(plan, weighed, kernel, now, names)
    outcome = _outcome(plan, held, standing)
    outcome.data["backend"] = _described(_chosen(fleet, request.address), chosen, standing)
    outcome.warnings = list(_warnings(chosen, _down(actual) if down is None else down))
    return outcome, _targets(chosen, actual, udp)


def decide(request: Request, fleet: Fleet, held: Overrides, now: int) -> tuple[Fleet, Overrides]:
    """The pools as they are to be, and all overrides of the node that stand then. now: Unix time.

    state: inventory gives back both; a weight given with it stays set.
    """
    names = {pool.name for pool in fleet.pools}
    wanted = {key: override for key, override in held.items() if key[0] in names}
    for pool in names:
        before = wanted.get((pool, request.address), Override())
        if request.state == INVENTORY:
            before = replace(before, state=None, weight=None)
        wanted[pool, request.address] = replace(
            before,
            state=before.state if request.state in (None, INVENTORY) else request.state,
            weight=before.weight if request.weight is None else request.weight,
        )
    effective, standing = _overrides.overridden(fleet, wanted)
    news = {key: replace(o, since=now) for key, o in standing.items() if held.get(key) != o}
    others = {key: override for key, override in held.items() if key[0] not in names}
    return effective, {**others, **standing, **news}


def _chosen(fleet: Fleet, address: str) -> list[tuple[Pool, Backend]]:
    """The backend in each of the pools."""
    return [
        (p, backend) for p in fleet.pools for backend in p.backends if backend.address == address
    ]


def _require_waitable(request: Request, chosen: Sequence[tuple[Pool, Backend]]) -> None:
    mistakes = [
        _cannot_wait(f"backend {backend.address} of pool {pool.name}", "active")
        for pool, backend in chosen
        if backend.state == "active" and request.wait != "none"
    ]
    if mistakes:
        raise ConfigError(mistakes)


def _cannot_wait(what: str, state: str) -> str:
    return f"wait: needs state draining or disabled, and {what} is {state}: it gets new flows"


def _require_held(plan: Plan) -> None:
    if plan.fresh_backends or plan.gone_backends:
        raise BackendError(
            "the kernel does not hold the pool's backends as they were applied (an interrupted "
            "run, or maps made anew): run l4lb.xdp.services, then this again"
        )


def _targets(
    chosen: Sequence[tuple[Pool, Backend]], actual: Actual, udp: frozenset[str]
) -> list[Target]:
    """Those that may have flows left: a disabled backend has lost them."""
    indices = {(b.pool, b.address): index for index, b in actual.backends.items()}
    pools = {pool.name: index for index, pool in actual.pools.items()}
    return [
        Target(
            pool.name,
            backend.address,
            pools[pool.name],
            indices[pools[pool.name], backend.address],
            pool.udp_transition if pool.name in udp else 0,
        )
        for pool, backend in chosen
        if backend.state == "draining"
    ]


def _wait(
    request: Request, targets: list[Target], tables: Tables, clock: Clock, outcome: Outcome
) -> None:
    """Waits, and adds to the outcome what came of it."""
    wait = _quiet.until_quiet if request.wait == "flows" else _quiet.for_seconds
    node = _quiet.MapsOfNode(tables, clock)
    waited = _quiet.Waited(True, 0.0)
    if targets:
        waited = wait(targets, node, request.idle, request.timeout, clock)
    outcome.data["wait"] = {
        "reached": waited.reached,
        "waited_seconds": waited.seconds,
        "flows": waited.flows,
        "packets": waited.packets,
    }
    if waited.reached:
        return
    text = (
        f"still in use after {waited.seconds:.0f} s: {'; '.join(waited.why)}. Wait longer "
        "(timeout), or break what is left with state: disabled"
    )
    if request.fail_on_timeout:
        data = {"changed": outcome.changed, **outcome.data}
        raise BackendError(text, data, outcome.warnings)
    outcome.warnings.append(text)


# --- what is reported ---


def _outcome(plan: Plan, held: Overrides, standing: Overrides) -> Outcome:
    """held, standing: the node's overrides before and after."""
    shares = {name: each.percent() for name, each in plan.pool_shares.items()}
    return Outcome(
        plan.changed or held != standing,
        plan.before + _overrides.lines(held),
        plan.after + _overrides.lines(standing),
        {"plan": {"pools": shares}},
        _predict.sentences(plan.pool_shares, {}),
    )


def _described(
    inventory: Sequence[tuple[Pool, Backend]],
    effective: Sequence[tuple[Pool, Backend]],
    standing: Overrides,
) -> list[dict[str, Any]]:
    """The backend in each pool: as it is now, and as inventory has it."""
    return [
        {
            "pool": pool.name,
            "address": backend.address,
            "weight": backend.weight,
            "state": backend.state,
            "overridden": (pool.name, backend.address) in standing,
            "inventory": {"state": before.state, "weight": before.weight},
        }
        for (pool, backend), (_same, before) in zip(effective, inventory)
    ]


def _down(actual: Actual) -> frozenset[tuple[str, str]]:
    """The backends that the kernel holds as down."""
    names = {index: pool.name for index, pool in actual.pools.items()}
    return frozenset(
        (names[b.pool], b.address) for b in actual.backends.values() if b.health != "up"
    )


def _warnings(
    chosen: Sequence[tuple[Pool, Backend]], down: Collection[tuple[str, str]]
) -> Iterator[str]:
    for pool, backend in chosen:
        receiving = [
            b for b in pool.backends if b.state == "active" and (pool.name, b.address) not in down
        ]
        if backend.state != "active" and not receiving:
            yield (
                f"pool {pool.name}: no backend is left that gets new flows: they are dropped, "
                "counted as drop_no_backend, until one is active; flows of draining backends stay"
            )
        if backend.state == "draining" and pool.tracking == "never":
            yield (
                f"pool {pool.name} has tracking: never, so no flow is remembered: those of "
                f"{backend.address} go elsewhere at once"
            )
