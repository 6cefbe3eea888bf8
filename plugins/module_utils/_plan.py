# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: the difference between what inventory asks for and what the kernel holds.

Private to the collection. `make` is pure: it decides everything, indices and slots included.
`apply` writes it in an order in which every packet meanwhile meets the old state or the new one
of its pool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _filter,
    _lines,
    _predict,
    _rings,
    _shortcuts,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, Pool
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    Actual,
    BackendEntry,
    Kernel,
    PoolEntry,
    ServiceEntry,
    ServiceKey,
    pool_entry,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._predict import Shares
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes

ReadRing = Callable[[int], "Slots | None"]
"""Reads the live ring of a pool."""

Members = dict[int, BackendEntry]
"""A pool's backends by index, as they will be."""


class PlanError(L4lbError):
    """The plan does not fit the node, or did not come out as planned."""


@dataclass
class Plan:
    """All that has to be written, by index or key, and what a person reads of it.

    filter: words of the addresses' filter with the bits of all addresses, those that go and those
    that come; final_filter: without those that have gone. shortcuts: that come; gone_shortcuts: the
    places of those that are not, or no longer, right. pool_shares, service_shares: by name, for
    pools with a changed ring and services that go to another pool. now: the tick at which the slots
    that change are tracked, as planned. down: the backends that are down, by pool and address;
    None: health is what the kernel holds.
    """

    pools: dict[int, PoolEntry] = field(default_factory=dict)
    backends: dict[int, BackendEntry] = field(default_factory=dict)
    fresh_backends: set[int] = field(default_factory=set)
    rings: dict[int, Slots] = field(default_factory=dict)
    services: dict[ServiceKey, ServiceEntry] = field(default_factory=dict)
    fresh_services: set[ServiceKey] = field(default_factory=set)
    gone_services: dict[ServiceKey, ServiceEntry] = field(default_factory=dict)
    addresses: dict[str, tuple[int, int]] = field(default_factory=dict)
    gone_addresses: set[str] = field(default_factory=set)
    filter: dict[int, int] = field(default_factory=dict)
    final_filter: dict[int, int] = field(default_factory=dict)
    shortcuts: dict[int, bytes] = field(default_factory=dict)
    gone_shortcuts: set[int] = field(default_factory=set)
    gone_pools: set[int] = field(default_factory=set)
    gone_backends: dict[int, BackendEntry] = field(default_factory=dict)
    server_ids: dict[tuple[int, int], int] = field(default_factory=dict)
    gone_server_ids: set[tuple[int, int]] = field(default_factory=set)
    pool_shares: dict[str, Shares] = field(default_factory=dict)
    service_shares: dict[str, Shares] = field(default_factory=dict)
    now: int = 0
    down: Collection[tuple[str, str]] | None = None
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def writes(self) -> dict[str, Any]:
        """What `apply` would write, by kind; empty when there is nothing to do."""
        kinds = {
            "pools": self.pools,
            "backends": self.backends,
            "rings": self.rings,
            "filter": {**self.filter, **self.final_filter},
            "shortcuts": self.gone_shortcuts | set(self.shortcuts),
            "server ids": self.server_ids,
            "addresses": self.addresses,
            "services": self.services,
            "services to remove": self.gone_services,
            "addresses to remove": self.gone_addresses,
            "server ids to remove": self.gone_server_ids,
            "pools to remove": self.gone_pools,
            "backends to remove": self.gone_backends,
        }
        return {kind: entries for kind, entries in kinds.items() if entries}

    @property
    def changed(self) -> bool:
        return bool(self.writes)


def make(
    fleet: Fleet,
    actual: Actual,
    ring: ReadRing,
    named_by_flows: Callable[[], Collection[int]],
    now: int,
    down: Collection[tuple[str, str]] | None = None,
) -> Plan:
    """What has to be written so that the kernel holds the fleet. Raises PlanError when it does
    not fit.

    named_by_flows: the backend indices the flow tables name; asked only when indices run out.
    now: a tick. down: the backends that are, by pool and address; None: health is what the kernel
    holds, and up for a backend that it does not hold.
    """
    plan = Plan(now=now, down=down, before=_lines.of_kernel(actual))
    pool_ids = _pool_ids(fleet, actual)
    members = _plan_entries(plan, fleet, actual, pool_ids, named_by_flows)
    for pool in fleet.pools:
        index = pool_ids[pool.name]
        _plan_ring(plan, pool, index, actual, members[index], ring, now)
    _predict_services(plan, actual, members, ring)
    plan.after = _lines.of_fleet(fleet, _down(fleet, pool_ids, members))
    return plan


def outline(
    fleet: Fleet,
    actual: Actual,
    named_by_flows: Callable[[], Collection[int]],
    down: Collection[tuple[str, str]] | None = None,
) -> Plan:
    """As `make`, without rings: the digest in a pool's entry names what its ring is made from. So
    it is quick in a fleet of any size; to be looked at, not to be applied.
    """
    plan = Plan(down=down)
    _plan_entries(plan, fleet, actual, _pool_ids(fleet, actual), named_by_flows)
    return plan


def apply(plan: Plan, kernel: Kernel, clock: Callable[[], int]) -> None:
    """Writes the plan: what is pointed to before what points, and removals the other way round.

    Flows are recorded from when a ring is written, which in a large fleet is seconds after it was
    planned: slots that this plan changes are tracked from the clock's tick then, and so noted in
    the plan.
    """
    for place in plan.gone_shortcuts:
        kernel.remove_shortcut(place)
    _apply_pools(plan, kernel, clock)
    _apply_services(plan, kernel)
    for place, shortcut in plan.shortcuts.items():
        kernel.put_shortcut(place, shortcut)
    for index in plan.gone_pools:
        kernel.remove_pool(index)
    for index, backend in plan.gone_backends.items():
        kernel.put_backend(index, backend, fresh=False)


def _apply_services(plan: Plan, kernel: Kernel) -> None:
    for index, word in plan.filter.items():
        kernel.put_filter(index, word)
    for address, (service_id, pool_index) in plan.addresses.items():
        kernel.put_address(address, service_id, pool_index)
    for key, service in plan.services.items():
        kernel.put_service(key, service, key in plan.fresh_services)
    for key, service in plan.gone_services.items():
        kernel.remove_service(key, service)
    for address in plan.gone_addresses:
        kernel.remove_address(address)
    for index, word in plan.final_filter.items():
        kernel.put_filter(index, word)


def _apply_pools(plan: Plan, kernel: Kernel, clock: Callable[[], int]) -> None:
    """Pool by pool. While a pool's backends and ring change its digest is 0: a run that dies here
    leaves nothing that anybody takes for what it was, or is to be.
    """
    for pool_index, server_id in plan.gone_server_ids:
        kernel.remove_server_id(pool_index, server_id)
    members: dict[int, Members] = {}
    for index, backend in plan.backends.items():
        members.setdefault(backend.pool, {})[index] = backend
        if backend.pool not in plan.pools:  # somebody changed the entry by hand, and no more
            kernel.put_backend(index, backend, index in plan.fresh_backends)
    for at, pool in plan.pools.items():
        if at in plan.rings or at in members:
            kernel.put_pool(at, replace(pool, ring_digest=0))
        for index, backend in members.get(at, {}).items():
            kernel.put_backend(index, backend, index in plan.fresh_backends)
        if at in plan.rings:
            plan.rings[at] = _rings.restamped(plan.rings[at], plan.now, clock())
            kernel.put_ring(at, plan.rings[at])
        kernel.put_pool(at, pool)
    for (pool_index, server_id), index in plan.server_ids.items():
        kernel.put_server_id(pool_index, server_id, index)


def verify(
    plan: Plan, fleet: Fleet, kernel: Kernel, now: int, pools: Collection[str] | None = None
) -> None:
    """Reads the kernel back. Raises PlanError when it does not hold what was written.

    pools: names of those that were planned, None for all that there are.
    """
    actual = kernel.actual() if pools is None else kernel.actual().of_pools(pools)
    left = make(fleet, actual, kernel.ring, kernel.named_by_flows, now, plan.down)
    wrong = list(left.writes)
    if any(kernel.ring(index) != slots for index, slots in plan.rings.items()):
        wrong.append("slots of rings")
    if wrong:
        raise PlanError(
            "the kernel does not hold what was written: somebody else writes to the maps of this "
            f"node; left to do: {', '.join(wrong)}. Apply again, and look with l4lb.xdp.info"
        )


# --- pools and backends ---


def _plan_entries(
    plan: Plan,
    fleet: Fleet,
    actual: Actual,
    pool_ids: dict[str, int],
    named_by_flows: Callable[[], Collection[int]],
) -> dict[int, Members]:
    """All but rings. Returns the members of every pool."""
    plan.gone_pools = set(actual.pools) - set(pool_ids.values())
    members = _place_backends(plan, fleet, actual, pool_ids, named_by_flows)
    for pool in fleet.pools:
        index = pool_ids[pool.name]
        digest = _digest(pool, actual.sizes.ring, members[index])
        entry = replace(pool_entry(pool), ring_digest=digest)
        if actual.pools.get(index) != entry:
            plan.pools[index] = entry
    _plan_server_ids(plan, fleet, actual, pool_ids, members)
    _plan_services(plan, fleet, actual, pool_ids)
    return members


def _plan_server_ids(
    plan: Plan,
    fleet: Fleet,
    actual: Actual,
    pool_ids: dict[str, int],
    members: dict[int, Members],
) -> None:
    """Ids of disabled backends stay: who has one is told from who has a strange one."""
    wanted = {}
    for pool in fleet.pools:
        at = pool_ids[pool.name]
        index = {entry.address: i for i, entry in members[at].items()}
        for backend in pool.backends if pool.quic else ():
            if backend.server_id is not None:  # always: `parse` sees to it
                wanted[at, backend.server_id] = index[backend.address]
    plan.server_ids = {k: i for k, i in wanted.items() if actual.server_ids.get(k) != i}
    plan.gone_server_ids = set(actual.server_ids) - set(wanted)


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
                "(indices of pools that go are free in the next run); raise l4lb_max_pools"
            )
    return ids


def _place_backends(
    plan: Plan,
    fleet: Fleet,
    actual: Actual,
    pool_ids: dict[str, int],
    named_by_flows: Callable[[], Collection[int]],
) -> dict[int, Members]:
    """The members of every pool. Who is there keeps its index, and its health unless that is
    known.
    """
    held = {(b.pool, b.address): index for index, b in actual.backends.items()}
    claimed = {held.get((pool_ids[p.name], b.address), 0) for p in fleet.pools for b in p.backends}
    free = _free_indices(actual, claimed, named_by_flows)
    members: dict[int, Members] = {}
    placed = set()
    for pool in fleet.pools:
        at = pool_ids[pool.name]
        members[at] = {}
        for each in pool.backends:
            wanted = BackendEntry(
                at, each.address, each.weight, each.state, forwarding=pool.forwarding
            )
            index = held.get((at, each.address))
            if index is None:
                index = _next_index(free, pool, wanted, actual.sizes)
                plan.fresh_backends.add(index)
            elif plan.down is None and actual.backends[index].state != "removed":
                wanted = replace(wanted, health=actual.backends[index].health)
            if plan.down is not None and (pool.name, each.address) in plan.down:
                wanted = replace(wanted, health="down")
            members[at][index] = wanted
            placed.add(index)
            if actual.backends.get(index) != wanted:
                plan.backends[index] = wanted
    for index, backend in actual.backends.items():
        if index not in placed and backend.state != "removed":
            plan.gone_backends[index] = replace(backend, state="removed")
    return members


def _down(
    fleet: Fleet, pool_ids: dict[str, int], members: dict[int, Members]
) -> set[tuple[str, str]]:
    """Those that will be down, by pool and address."""
    return {
        (pool.name, backend.address)
        for pool in fleet.pools
        for backend in members[pool_ids[pool.name]].values()
        if backend.health != "up"
    }


def _free_indices(
    actual: Actual, claimed: Collection[int], named_by_flows: Callable[[], Collection[int]]
) -> Iterator[int]:
    """Indices never used, then those of removed backends that no flow names any more and that do
    not come back themselves; 0 means none.
    """
    for index in range(1, actual.sizes.backends):
        if index not in actual.backends:
            yield index
    kept = {*claimed, *named_by_flows()}
    for index, backend in sorted(actual.backends.items()):
        if backend.state == "removed" and index not in kept:
            yield index


def _next_index(free: Iterator[int], pool: Pool, backend: BackendEntry, sizes: Sizes) -> int:
    index = next(free, 0)
    if not index:
        raise PlanError(
            f"map full: backend {backend.address} of pool {pool.name} finds no place among "
            f"{sizes.backends}; raise l4lb_max_backends"
        )
    return index


# --- rings ---


def _plan_ring(
    plan: Plan, pool: Pool, index: int, actual: Actual, members: Members, ring: ReadRing, now: int
) -> None:
    held, entry = actual.pools.get(index), plan.pools.get(index)
    if entry is None:  # as it is to be
        return
    rehashed = held is not None and held.identity != entry.identity
    if held is not None and held.ring_digest == entry.ring_digest and not rehashed:
        return
    found = ring(index) if held is not None else None
    slots = Slots.empty(actual.sizes.ring) if found is None else found
    desired = _desired(pool.algorithm, actual.sizes.ring, members)
    living = {i for i, backend in members.items() if backend.lives}
    # Without tracking no flow is recorded, so a slot has nothing to go by: all stay settled.
    base = Slots.empty(len(slots)) if pool.tracking == "never" else slots
    new = _rings.advance(base, desired, living, now)
    if found is None or new != slots:
        plan.rings[index] = new
        plan.pool_shares[pool.name] = _predict.of_ring(slots, new, living)
    if rehashed:
        plan.pool_shares[pool.name] = _predict.of_identity(slots, new, pool.tracking == "always")


def _desired(algorithm: str, size: int, members: Members) -> list[int]:
    """The ring of those that get new flows, as backend indices."""
    receiving = {
        b.address: (i, b.weight)
        for i, b in members.items()
        if b.state == "active" and b.health == "up"
    }
    ring = _rings.build(
        algorithm, {address: weight for address, (_i, weight) in receiving.items()}, size
    )
    index = [receiving[address][0] for address in _rings.ordered(receiving)]
    index.append(0)  # where _rings.NONE, which is -1, points to
    return [index[place] for place in ring]


def _digest(pool: Pool, size: int, members: Members) -> int:
    """Names the content of a ring: what it was made from. 64 bits, never 0."""
    parts = [_rings.VERSION, pool.algorithm, pool.tracking == "never", size]
    parts += sorted((i, b.address, b.weight, b.state, b.health) for i, b in members.items())
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


# --- services ---


def _plan_services(plan: Plan, fleet: Fleet, actual: Actual, pool_ids: dict[str, int]) -> None:
    used = {service.id for service in actual.services.values()}
    free = (i for i in range(actual.sizes.services) if i not in used)
    wanted: dict[ServiceKey, ServiceEntry] = {}
    addresses: dict[str, tuple[int, int]] = {}
    for service in fleet.services:  # in order of address, protocol and port
        key = ServiceKey(service.address, service.port, service.protocol)
        held = actual.services.get(key)
        number = next(free, -1) if held is None else held.id
        if number < 0:
            raise PlanError(
                f"map full: service {service.name} finds no place among {actual.sizes.services} "
                "(ids of services that go are free in the next run); raise l4lb_max_services"
            )
        entry = wanted[key] = ServiceEntry(number, pool_ids[service.pool], service.name)
        addresses.setdefault(key.address, (entry.id, entry.pool))
        if held is None:
            plan.fresh_services.add(key)
        if held != entry:
            plan.services[key] = entry
    plan.gone_services = {k: s for k, s in actual.services.items() if k not in wanted}
    plan.addresses = {a: at for a, at in addresses.items() if actual.addresses.get(a) != at}
    plan.gone_addresses = set(actual.addresses) - set(addresses)
    _plan_filter(plan, set(addresses), actual)
    _plan_shortcuts(plan, wanted, actual)


def _plan_filter(plan: Plan, wanted: set[str], actual: Actual) -> None:
    held = {*actual.addresses, *(key.address for key in actual.services)}
    meanwhile = _filter.words(held | wanted, actual.sizes.services)
    plan.filter = _filter.differing(actual.filter, meanwhile)
    plan.final_filter = _filter.differing(meanwhile, _filter.words(wanted, actual.sizes.services))


def _plan_shortcuts(plan: Plan, wanted: dict[ServiceKey, ServiceEntry], actual: Actual) -> None:
    held, right = actual.shortcuts, _shortcuts.shortcuts(wanted, actual.sizes.services)
    plan.shortcuts = {i: new for i, new in right.items() if held.get(i) != new}
    plan.gone_shortcuts = {i for i, old in held.items() if right.get(i) != old}


def _predict_services(
    plan: Plan, actual: Actual, members: dict[int, Members], ring: ReadRing
) -> None:
    """Services that go from one pool to another: their flows meet another ring."""
    known: dict[tuple[int, int], Shares] = {}
    for key, service in plan.services.items():
        held = actual.services.get(key)
        if held is None or held.pool == service.pool:
            continue
        ways = held.pool, service.pool
        if ways not in known:
            old, new = ring(held.pool), plan.rings.get(service.pool) or ring(service.pool)
            known[ways] = _predict.of_service(
                _addresses(old.current if old else (), actual.backends),
                _addresses(old.previous if old else (), actual.backends),
                _addresses(new.current if new else (), members[service.pool]),
            )
        plan.service_shares[service.name] = known[ways]


def _addresses(indices: Iterable[int], backends: Members) -> list[str]:
    """The address behind every slot, empty for none."""
    return [backends[i].address if i else "" for i in indices]
