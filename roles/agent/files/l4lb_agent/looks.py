# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate looks at besides proofs: what interfaces run, and whether maps are as applied."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _applied,
    _bpf,
    _health,
    _links,
    _overrides,
    _plan,
    _wanted,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import parse
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import LockError, writer
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from l4lb_agent.files import signature

ATTACH = "l4lb.xdp.program attaches it (or restart l4lb-restore.service)"
APPLY = "l4lb.xdp.services brings back what was applied (or restart l4lb-restore.service)"


@dataclass(frozen=True)
class Running:
    """What is there: the pinned program's id, and an interface that runs it, by name and index.

    reasons: why packets that come in are not balanced as they should be; a line each.
    """

    reasons: tuple[str, ...]
    program: int = 0
    interface: str = ""
    index: int = 0


class Watch:
    """The program and its interfaces; what it looks at changes rarely, so it is quick."""

    def __init__(self, tables: Tables, pins: Path, state_dir: Path) -> None:
        self._map = _bpf.map_info(tables.table("services4").map_fd).id
        self._pin = pins / "balancer"
        self._file = _wanted.file_of("balancer", state_dir)
        self._seen: Any = None
        self._wanted: _wanted.Wanted | None = None

    def look(self) -> Running:
        """Raises L4lbError when something cannot be looked at."""
        wanted = self._read()
        if wanted is None:
            return Running(("no balancer was applied on this node: run l4lb.xdp.program",))
        fd = _bpf.open_pin(self._pin)
        if fd is None:
            return Running((f"no program is pinned at {self._pin}: {ATTACH}",))
        with _bpf.closing(fd):
            pinned = _bpf.program_info(fd)
        if self._map not in pinned.map_ids:
            text = "the program balances by other maps than the agent has open: it starts again"
            return Running((f"{text} with those, else restart l4lb-agent",))
        with _links.netlink() as ip:
            links = {name: _link(ip, name) for name in wanted.interfaces}
        reasons = [_not_running(name, link, pinned.id, wanted) for name, link in links.items()]
        first = next((n for n, why in zip(wanted.interfaces, reasons) if not why), "")
        index = links[first]["index"] if first else 0
        return Running(tuple(filter(None, reasons)), pinned.id, first, index)

    def open(self) -> int:
        """A descriptor of the pinned program, for whoever closes it."""
        fd = _bpf.open_pin(self._pin)
        if fd is None:
            raise L4lbError(f"no program is pinned at {self._pin}: {ATTACH}")
        return fd

    def _read(self) -> _wanted.Wanted | None:
        seen = signature(self._file)
        if seen is None or seen != self._seen:
            self._wanted = _wanted.recall(self._file)
            self._seen = seen
        return self._wanted


def _link(ip: Any, name: str) -> Any:
    """One interface, None if there is none. A list of all would break off when links come and go,
    as they do on hosts of containers.
    """
    try:
        return next(iter(ip.link("get", ifname=name)), None)
    except NetlinkError as refused:
        if refused.code != errno.ENODEV:
            raise
        return None


def _not_running(name: str, link: Any, program: int, wanted: _wanted.Wanted) -> str:
    """Why an interface does not balance; empty when it does."""
    if link is None:
        return f"there is no interface {name}, which should run the balancer"
    seen = _links.attached(link)
    if seen.program_id is None:
        return f"{name} runs no XDP program: {ATTACH}"
    if seen.program_id != program:
        return (
            f"{name} runs another XDP program ({_name(seen.program_id)}) than the one that is "
            f"pinned: {ATTACH}, with replace_foreign: true if it is somebody else's"
        )
    if seen.mode != wanted.mode:
        return f"{name} runs the balancer in mode {seen.mode}, not {wanted.mode}: {ATTACH}"
    return ""


def _name(program: int) -> str:
    with contextlib.suppress(_bpf.BpfError), _bpf.closing(_bpf.open_program(program)) as fd:
        return f"{_bpf.program_info(fd).name}, id {program}"
    return f"id {program}"


# --- maps ---


@dataclass(frozen=True)
class Differences:
    """What the kernel does not hold as it was applied: services and pools by name, with a reason.

    What it holds besides harms nobody and is not told.
    """

    services: Mapping[str, str] = field(default_factory=dict)
    pools: Mapping[str, str] = field(default_factory=dict)

    def and_before(self, before: Differences) -> Differences:
        """What was so before, too."""
        return Differences(
            {name: why for name, why in self.services.items() if name in before.services},
            {name: why for name, why in self.pools.items() if name in before.pools},
        )

    def __bool__(self) -> bool:
        return bool(self.services or self.pools)


def is_written(state_dir: Path) -> bool:
    """Whether somebody writes to this node just now."""
    try:
        with writer(state_dir, "l4lb-agent", patience=0):
            return False
    except LockError:
        return True


def differences(tables: Tables, state_dir: Path) -> Differences | None:
    """Compares all that was applied with the maps; rings by what they were made from, so that
    it is quick.

    None while somebody writes, so that there is nothing to compare. Raises L4lbError.
    """
    if not os.path.exists(state_dir / _applied.SERVICES_FILE):
        return Differences()
    try:
        with writer(state_dir, "l4lb-agent", patience=0):
            return _named(*_planned(tables, state_dir))
    except LockError:
        return None


def _planned(tables: Tables, state_dir: Path) -> tuple[_plan.Plan, dict[int, str]]:
    """What, besides rings, would have to be written, and the names of pools by index."""
    last = _applied.applied_services(state_dir) or {"pools": {}, "services": []}
    fleet = parse(last["pools"], last["services"])
    healths = _health.known(state_dir)
    effective, _standing = _overrides.overridden(fleet, _overrides.load(state_dir))
    effective = _health.weighed(effective, healths or {})
    actual = tables.actual()
    plan = _plan.outline(effective, actual, tables.named_by_flows, _health.down(healths))
    names = {index: pool.name for index, pool in (*actual.pools.items(), *plan.pools.items())}
    return plan, names


def _named(plan: _plan.Plan, names: Mapping[int, str]) -> Differences:
    services = {
        entry.name: f"the kernel does not hold service {entry.name} as it was applied: {APPLY}"
        for entry in plan.services.values()
    }
    return Differences(
        services | dict(_of_addresses(plan)),
        {
            names[index]: f"the kernel does not hold pool {names[index]} as it was applied: {APPLY}"
            for index in _pools(plan)
            if index in names
        },
    )


def _of_addresses(plan: _plan.Plan) -> Iterator[tuple[str, str]]:
    """Addresses that are missing, as services that are named by them."""
    for address in plan.addresses:
        if not any(key.address == address for key in plan.services):
            yield address, f"the kernel does not hold address {address} as it was applied: {APPLY}"


def _pools(plan: _plan.Plan) -> set[int]:
    of_backends = {entry.pool for entry in plan.backends.values()}
    return {*plan.pools, *of_backends}
