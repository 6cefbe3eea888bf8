# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: the difference between what inventory asks for and what the kernel holds.

Private to the collection. `make` is pure: it decides everything, indices and slots included.
`apply` writes it in an order in which every packet meanwhile meets the old state or the new one
of its pool. Nothing here knows bcc: `Kernel` is what `_tables.Tables` offers and a test can fake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._address import order
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, Pool
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Moved, Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes

LIVING = ("active", "draining")


class PlanError(L4lbError):
    """The plan does not fit the node, or did not come out as planned."""


class ServiceKey(NamedTuple):
    """What tells services apart on the wire; protocol is a word."""

    address: str
    port: int
    protocol: str


@dataclass(frozen=True)
class ServiceEntry:
    """struct service; pool is a pool's index."""

    id: int
    pool: int
    name: str


@dataclass(frozen=True)
class PoolEntry:
    """struct pool; times in ticks."""

    name: str
    algorithm: str
    forwarding: str
    tracking: str
    udp_transition: int
    settle: int
    ring_digest: int = 0


@dataclass(frozen=True)
class BackendEntry:
    """struct backend; pool is a pool's index, state also `removed`."""

    pool: int
    address: str
    weight: int
    state: str
    health: str = "up"

    @property
    def lives(self) -> bool:
        return self.state in LIVING and self.health == "up"


@dataclass(frozen=True)
class Actual:
    """What the kernel holds, rings apart."""

    services: dict[ServiceKey, ServiceEntry]
    pools: dict[int, PoolEntry]
    backends: dict[int, BackendEntry]
    sizes: Sizes


class Kernel(Protocol):
    """What a plan is made against and written to."""

    def actual(self) -> Actual: ...
    def ring(self, pool: int) -> Slots | None: ...
    def named_by_flows(self) -> set[int]: ...
    def put_pool(self, index: int, pool: PoolEntry) -> None: ...
    def remove_pool(self, index: int) -> None: ...
    def put_ring(self, pool: int, slots: Slots) -> None: ...
    def put_backend(self, index: int, backend: BackendEntry, fresh: bool) -> None: ...
    def put_service(self, key: ServiceKey, service: ServiceEntry, fresh: bool) -> None: ...
    def remove_service(self, key: ServiceKey, service: ServiceEntry) -> None: ...


@dataclass(frozen=True)
class RingChange:
    """A pool's new ring. moved: of new flows; broken: the share of slots whose old flows lose a
    backend.
    """

    slots: Slots
    moved: Moved
    broken: float


@dataclass
class Plan:
    """All that has to be written, by index or key, and what a person reads of it."""

    pools: dict[int, PoolEntry] = field(default_factory=dict)
    backends: dict[int, BackendEntry] = field(default_factory=dict)
    fresh_backends: set[int] = field(default_factory=set)
    rings: dict[int, RingChange] = field(default_factory=dict)
    services: dict[ServiceKey, ServiceEntry] = field(default_factory=dict)
    fresh_services: set[ServiceKey] = field(default_factory=set)
    gone_services: dict[ServiceKey, ServiceEntry] = field(default_factory=dict)
    gone_pools: set[int] = field(default_factory=set)
    gone_backends: dict[int, BackendEntry] = field(default_factory=dict)
    pool_names: dict[int, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def writes(self) -> dict[str, Any]:
        """What `apply` would write, by kind; empty when there is nothing to do."""
        kinds = {
            "pools": self.pools,
            "backends": self.backends,
            "rings": self.rings,
            "services": self.services,
            "services to remove": self.gone_services,
            "pools to remove": self.gone_pools,
            "backends to remove": self.gone_backends,
        }
        return {kind: entries for kind, entries in kinds.items() if entries}

    @property
    def changed(self) -> bool:
        return bool(self.writes)

    def predictions(self) -> dict[str, dict[str, float]]:
        """Per pool with a changed ring, in per cent: new flows that go elsewhere, and old ones
        that break.
        """
        return {
            self.pool_names[index]: {
                "moved": _percent(change.moved.total),
                "unavoidable": _percent(change.moved.unavoidable),
                "collateral": _percent(change.moved.collateral),
                "broken": _percent(change.broken),
            }
            for index, change in sorted(self.rings.items())
        }


def _percent(share: float) -> float:
    return round(100 * share, 2)


def make(
    fleet: Fleet,
    actual: Actual,
    ring: Callable[[int], Slots | None],
    named_by_flows: Callable[[], Collection[int]],
    now: int,
) -> Plan:
    """What has to be written so that the kernel holds the fleet. Raises PlanError when it does
    not fit.

    ring: reads a live ring. named_by_flows: the backend indices the flow tables name; asked only
    when indices run out. now: a tick.
    """
    plan = Plan(before=_lines_of(actual))
    pool_ids = _pool_ids(fleet, actual)
    plan.gone_pools = set(actual.pools) - set(pool_ids.values())
    backends = _place_backends(plan, fleet, actual, pool_ids, named_by_flows)
    for pool in fleet.pools:
        _plan_pool(plan, pool, pool_ids[pool.name], actual, backends, ring, now)
    _plan_services(plan, fleet, actual, pool_ids)
    plan.after = _lines(
        ((pool.name, _pool_entry(pool), _entries(pool, 0)) for pool in fleet.pools),
        ((s.name, ServiceKey(s.address, s.port, s.protocol), s.pool) for s in fleet.services),
    )
    return plan


def apply(plan: Plan, kernel: Kernel) -> None:
    """Writes the plan: what is pointed to before what points, and removals the other way round."""
    for index, backend in plan.backends.items():
        kernel.put_backend(index, backend, index in plan.fresh_backends)
    for index, change in plan.rings.items():
        kernel.put_ring(index, change.slots)
    for index, pool in plan.pools.items():
        kernel.put_pool(index, pool)
    for key, service in plan.services.items():
        kernel.put_service(key, service, key in plan.fresh_services)
    for key, service in plan.gone_services.items():
        kernel.remove_service(key, service)
    for index in plan.gone_pools:
        kernel.remove_pool(index)
    for index, backend in plan.gone_backends.items():
        kernel.put_backend(index, backend, fresh=False)


def verify(fleet: Fleet, kernel: Kernel, now: int) -> None:
    """Reads the kernel back. Raises PlanError when anything is left to do."""
    left = make(fleet, kernel.actual(), kernel.ring, kernel.named_by_flows, now)
    if left.changed:
        raise PlanError(
            "the kernel does not hold what was written: another writer is at work on this node; "
            f"left to do: {', '.join(left.writes)}"
        )


# --- pools and backends ---


def _pool_ids(fleet: Fleet, actual: Actual) -> dict[str, int]:
    """Pools keep their index; new ones take the lowest free."""
    held = {pool.name: index for index, pool in actual.pools.items()}
    free = (i for i in range(actual.sizes.pools) if i not in actual.pools)
    ids = {}
    for pool in fleet.pools:
        index = held.get(pool.name)
        ids[pool.name] = next(free, -1) if index is None else index
        if ids[pool.name] < 0:
            raise PlanError(
                f"map full: pool {pool.name} finds no place among {actual.sizes.pools} "
                f"(indices of pools that go "
                "are free in the next run); raise l4lb_max_pools"
            )
    return ids


def _pool_entry(pool: Pool) -> PoolEntry:
    return PoolEntry(
        pool.name,
        pool.algorithm,
        pool.forwarding,
        pool.tracking,
        _rings.ticks(pool.udp_transition),
        _rings.ticks(pool.settle),
    )


def _entries(pool: Pool, index: int) -> list[BackendEntry]:
    return [BackendEntry(index, b.address, b.weight, b.state) for b in pool.backends]


def _place_backends(
    plan: Plan,
    fleet: Fleet,
    actual: Actual,
    pool_ids: dict[str, int],
    named_by_flows: Callable[[], Collection[int]],
) -> dict[int, BackendEntry]:
    """All backends by index, as they will be. Who is there keeps its index and its health."""
    held = {(b.pool, b.address): index for index, b in actual.backends.items()}
    free = _free_indices(actual, named_by_flows)
    placed: dict[int, BackendEntry] = {}
    for pool in fleet.pools:
        for wanted in _entries(pool, pool_ids[pool.name]):
            index = held.get((wanted.pool, wanted.address))
            if index is None:
                index = _next_index(free, pool, wanted, actual.sizes)
                plan.fresh_backends.add(index)
            elif actual.backends[index].state != "removed":
                wanted = replace(wanted, health=actual.backends[index].health)
            placed[index] = wanted
            if actual.backends.get(index) != wanted:
                plan.backends[index] = wanted
    for index, backend in actual.backends.items():
        if index not in placed and backend.state != "removed":
            plan.gone_backends[index] = replace(backend, state="removed")
    return placed


def _free_indices(actual: Actual, named_by_flows: Callable[[], Collection[int]]) -> Iterator[int]:
    """Indices never used, then those of removed backends that no flow names any more; 0 means
    none.
    """
    for index in range(1, actual.sizes.backends):
        if index not in actual.backends:
            yield index
    named = set(named_by_flows())
    for index, backend in sorted(actual.backends.items()):
        if backend.state == "removed" and index not in named:
            yield index


def _next_index(free: Iterator[int], pool: Pool, backend: BackendEntry, sizes: Sizes) -> int:
    index = next(free, 0)
    if not index:
        raise PlanError(
            f"map full: backend {backend.address} of pool {pool.name} finds no place among "
            f"{sizes.backends}; "
            "raise l4lb_max_backends"
        )
    return index


# --- rings ---


def _plan_pool(
    plan: Plan,
    pool: Pool,
    index: int,
    actual: Actual,
    backends: dict[int, BackendEntry],
    ring: Callable[[int], Slots | None],
    now: int,
) -> None:
    mine = {i: b for i, b in backends.items() if b.pool == index}
    digest = _digest(pool.algorithm, actual.sizes.ring, mine)
    entry = replace(_pool_entry(pool), ring_digest=digest)
    held = actual.pools.get(index)
    if held != entry:
        plan.pools[index] = entry
    if held is not None and held.ring_digest == digest:
        return
    slots = ring(index) if held is not None else None
    slots = Slots.empty(actual.sizes.ring) if slots is None else slots
    desired = _desired(pool.algorithm, actual.sizes.ring, mine)
    living = {i for i, backend in mine.items() if backend.lives}
    # Without tracking no flow is recorded, so a slot has nothing to go by: all stay settled.
    base = Slots.empty(len(slots)) if pool.tracking == "never" else slots
    new = _rings.advance(base, desired, living, now)
    if held is None or new != slots:
        plan.rings[index] = RingChange(new, _rings.moved(slots, desired), _broken(slots, living))
        plan.pool_names[index] = pool.name


def _desired(algorithm: str, size: int, backends: dict[int, BackendEntry]) -> list[int]:
    """The ring of those that get new flows, as backend indices."""
    receiving = {
        b.address: (i, b.weight)
        for i, b in backends.items()
        if b.state == "active" and b.health == "up"
    }
    ring = _rings.build(
        algorithm, {address: weight for address, (_i, weight) in receiving.items()}, size
    )
    index = [receiving[address][0] for address in _rings.ordered(receiving)]
    return [index[place] if place >= 0 else 0 for place in ring]


def _broken(slots: Slots, living: set[int]) -> float:
    """The share of slots whose backend's flows have to go elsewhere at once."""
    return sum(1 for backend in slots.current if backend and backend not in living) / len(slots)


def _digest(algorithm: str, size: int, backends: dict[int, BackendEntry]) -> int:
    """Names the content of a ring: what it was made from. 64 bits, never 0."""
    parts = [_rings.VERSION, algorithm, size]
    parts += sorted((i, b.address, b.weight, b.state, b.health) for i, b in backends.items())
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


# --- services ---


def _plan_services(plan: Plan, fleet: Fleet, actual: Actual, pool_ids: dict[str, int]) -> None:
    used = {service.id for service in actual.services.values()}
    free = (i for i in range(actual.sizes.services) if i not in used)
    wanted = set()
    for service in fleet.services:
        key = ServiceKey(service.address, service.port, service.protocol)
        wanted.add(key)
        held = actual.services.get(key)
        number = next(free, -1) if held is None else held.id
        if number < 0:
            raise PlanError(
                f"map full: service {service.name} finds no place among "
                f"{actual.sizes.services} (ids of services "
                "that go are free in the next run); raise l4lb_max_services"
            )
        entry = ServiceEntry(number, pool_ids[service.pool], service.name)
        if held is None:
            plan.fresh_services.add(key)
        if held != entry:
            plan.services[key] = entry
    plan.gone_services = {k: s for k, s in actual.services.items() if k not in wanted}


# --- what a person reads ---


def _lines_of(actual: Actual) -> list[str]:
    """The kernel's state in inventory's words, a line an entry."""
    members: dict[int, list[BackendEntry]] = {index: [] for index in actual.pools}
    for backend in actual.backends.values():
        if backend.state != "removed" and backend.pool in members:
            members[backend.pool].append(backend)
    return _lines(
        ((pool.name, pool, members[index]) for index, pool in actual.pools.items()),
        (
            (
                service.name,
                key,
                actual.pools[service.pool].name if service.pool in actual.pools else "?",
            )
            for key, service in actual.services.items()
        ),
    )


def _lines(
    pools: Iterable[tuple[str, PoolEntry, list[BackendEntry]]],
    services: Iterable[tuple[str, ServiceKey, str]],
) -> list[str]:
    lines = []
    for name, pool, backends in sorted(pools, key=lambda item: item[0]):
        lines.append(
            f"pool {name}: {pool.algorithm} {pool.forwarding} tracking {pool.tracking} "
            f"udp_transition {_rings.seconds(pool.udp_transition)} "
            f"settle {_rings.seconds(pool.settle)}"
        )
        for backend in sorted(backends, key=lambda b: order(b.address)):
            lines.append(
                f"pool {name} backend {backend.address}: weight {backend.weight} {backend.state}"
            )
    for name, key, pool_name in sorted(services, key=_service_order):
        where = f"[{key.address}]" if ":" in key.address else key.address
        lines.append(
            f"service {name}: {where}:{key.port or 'any'}/{key.protocol} -> pool {pool_name}"
        )
    return lines


def _service_order(item: tuple[str, ServiceKey, str]) -> tuple[Any, ...]:
    return order(item[1].address), item[1].port, item[1].protocol
