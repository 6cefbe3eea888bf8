# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's maps as dictionaries: what `_plan` is made against and written to, without a kernel."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ansible_collections.l4lb.xdp.plugins.module_utils import _filter, _plan, _shortcuts
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    Actual,
    BackendEntry,
    PoolEntry,
    ServiceEntry,
    ServiceKey,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes

SMALL = Sizes(ring=53, services=16, pools=6, backends=24, flows=8)


class Killed(Exception):
    """The writer died before this write."""


@dataclass
class FakeKernel:
    """Holds what is written; dies before write number `dies_at`."""

    sizes: Sizes = SMALL
    services: dict[ServiceKey, ServiceEntry] = field(default_factory=dict)
    pools: dict[int, PoolEntry] = field(default_factory=dict)
    backends: dict[int, BackendEntry] = field(default_factory=dict)
    rings: dict[int, Slots] = field(default_factory=dict)
    flows: set[int] = field(default_factory=set)
    addresses: dict[str, tuple[int, int]] = field(default_factory=dict)
    server_ids: dict[tuple[int, int], int] = field(default_factory=dict)
    writes: int = 0
    dies_at: int | None = None
    ring_ids: dict[int, int] = field(default_factory=dict)
    filter: dict[int, int] = field(default_factory=dict)
    shortcuts: dict[int, bytes] = field(default_factory=dict)

    def actual(self) -> Actual:
        return Actual(
            dict(self.services),
            dict(self.pools),
            dict(self.backends),
            self.sizes,
            dict(self.addresses),
            dict(self.filter),
            dict(self.server_ids),
            dict(self.shortcuts),
        )

    def ring(self, pool: int) -> Slots | None:
        return self.rings.get(pool)

    def ring_id(self, pool: int) -> int:
        return self.ring_ids.get(pool, 1) if pool in self.rings else 0

    def named_by_flows(self) -> set[int]:
        return self.flows

    def _write(self) -> None:
        if self.writes == self.dies_at:
            raise Killed
        self.writes += 1

    def put_pool(self, index: int, pool: PoolEntry) -> None:
        self._write()
        self.pools[index] = pool

    def remove_pool(self, index: int) -> None:
        self._write()
        self.pools[index] = replace(self.pools[index], ring_digest=0)
        self._write()
        self.rings.pop(index, None)
        self._write()
        self.pools.pop(index)

    def put_ring(self, pool: int, slots: Slots) -> None:
        self._write()
        self.rings[pool] = slots
        self.ring_ids[pool] = 1 + self.writes

    def put_backend(self, index: int, backend: BackendEntry, fresh: bool) -> None:
        self._write()
        assert not fresh or index not in self.flows
        named = index in self.server_ids.values()
        assert not named or backend.state != "removed", "an id would name nobody"
        self.backends[index] = backend

    def passes(self, address: str) -> bool:
        """Whether the filter lets a packet to the address go on to the services."""
        index, bit = _filter.place(address, self.sizes.services)
        return bool(self.filter.get(index, 0) >> bit & 1)

    def put_filter(self, index: int, word: int) -> None:
        self._write()
        self.filter[index] = word
        if not word:
            del self.filter[index]
        held = {*self.addresses, *(key.address for key in self.services)}
        assert all(map(self.passes, held)), "its packets would be passed"

    def put_shortcut(self, place: int, shortcut: bytes) -> None:
        self._write()
        assert place not in self.shortcuts, "a packet could see half of each"
        self.shortcuts[place] = shortcut
        self._lead_to_services()

    def remove_shortcut(self, place: int) -> None:
        self._write()
        del self.shortcuts[place]

    def _lead_to_services(self) -> None:
        services = [_shortcuts.shortcut(*service) for service in self.services.items()]
        assert set(self.shortcuts.values()) <= set(services), "a packet would go elsewhere"

    def put_server_id(self, pool: int, server_id: int, backend: int) -> None:
        self._write()
        assert self.backends[backend].pool == pool, "its datagrams would go to another pool's"
        self.server_ids[pool, server_id] = backend

    def remove_server_id(self, pool: int, server_id: int) -> None:
        self._write()
        del self.server_ids[pool, server_id]

    def put_address(self, address: str, service: int, pool: int) -> None:
        self._write()
        assert self.passes(address), "its packets would be passed"
        assert pool in self.rings, "an echo request would find a pool without its ring"
        self.addresses[address] = service, pool

    def remove_address(self, address: str) -> None:
        self._write()
        assert address not in {key.address for key in self.services}, "its packets would be passed"
        del self.addresses[address]

    def put_service(self, key: ServiceKey, service: ServiceEntry, fresh: bool) -> None:
        self._write()
        assert not fresh or service.id not in {held.id for held in self.services.values()}
        assert key.address in self.addresses, "a packet to any port would not find it"
        assert service.pool in self.pools, "a packet would find a service without its pool"
        assert service.pool in self.rings, "a packet would find a service without its ring"
        self.services[key] = service
        self._lead_to_services()

    def remove_service(self, key: ServiceKey, service: ServiceEntry) -> None:
        self._write()
        assert self.services.pop(key) == service
        self._lead_to_services()

    def current(self) -> dict[str, list[str | None]]:
        """Where each pool's slots point, by address: what nodes have to agree on."""
        return {
            pool.name: [self.backends[i].address if i else None for i in self.rings[index].current]
            for index, pool in sorted(self.pools.items(), key=lambda item: item[1].name)
            if index in self.rings  # a writer that died may have left a pool without one
        }


def bring(fleet: Fleet, held: FakeKernel, now: int) -> _plan.Plan:
    """As a run of services does: plans, writes, reads back."""
    plan = _plan.make(fleet, held.actual(), held.ring, held.named_by_flows, now)
    _plan.apply(plan, held, lambda: now)
    _plan.verify(plan, fleet, held, now)
    return plan
