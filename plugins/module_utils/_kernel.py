# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's maps hold, as plain data in inventory's words.

Private to the collection. Knows neither bcc nor plans: `Kernel` is what `_tables.Tables` offers and
a test can fake.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Pool
from ansible_collections.l4lb.xdp.plugins.module_utils._quic import Quic
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes

LIVING = ("active", "draining")
PROTOCOLS: dict[str, int] = {
    "tcp": socket.IPPROTO_TCP,
    "udp": socket.IPPROTO_UDP,
    "sctp": socket.IPPROTO_SCTP,
}


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
    identity: str = "five_tuple"
    quic: Quic | None = None


def pool_entry(pool: Pool) -> PoolEntry:
    """A pool of the inventory as the kernel holds it, without a ring."""
    return PoolEntry(
        pool.name,
        pool.algorithm,
        pool.forwarding,
        pool.tracking,
        _rings.ticks(pool.udp_transition),
        _rings.ticks(pool.settle),
        identity=pool.identity,
        quic=pool.quic,
    )


@dataclass(frozen=True)
class BackendEntry:
    """struct backend; pool is a pool's index, state also `removed`, forwarding its pool's."""

    pool: int
    address: str
    weight: int
    state: str
    health: str = "up"
    forwarding: str = "ipip"

    @property
    def lives(self) -> bool:
        return self.state in LIVING and self.health == "up"


@dataclass(frozen=True)
class Actual:
    """What the kernel holds, rings apart.

    addresses: those at which a packet that no service wants is not somebody else's, each with the
    id and the pool of its first service, which echo requests may follow. filter: the words of the
    addresses' filter that are not 0, by index. shortcuts: those that lead to a service, by place,
    as _shortcuts.py makes them. server_ids: backends by pool and the id in their connection ids.
    """

    services: dict[ServiceKey, ServiceEntry]
    pools: dict[int, PoolEntry]
    backends: dict[int, BackendEntry]
    sizes: Sizes
    addresses: dict[str, tuple[int, int]] = field(default_factory=dict)
    filter: dict[int, int] = field(default_factory=dict)
    server_ids: dict[tuple[int, int], int] = field(default_factory=dict)
    shortcuts: dict[int, bytes] = field(default_factory=dict)

    def of_pools(self, names: Collection[str]) -> Actual:
        """These pools with their backends, as if the kernel held nothing else."""
        pools = {index: pool for index, pool in self.pools.items() if pool.name in names}
        backends = {index: b for index, b in self.backends.items() if b.pool in pools}
        ids = {key: index for key, index in self.server_ids.items() if key[0] in pools}
        return Actual({}, pools, backends, self.sizes, server_ids=ids)


class Kernel(Protocol):
    """What a plan is made against and written to."""

    def actual(self) -> Actual: ...
    def ring(self, pool: int) -> Slots | None: ...
    def named_by_flows(self) -> set[int]: ...
    def put_pool(self, index: int, pool: PoolEntry) -> None: ...
    def remove_pool(self, index: int) -> None: ...
    def put_ring(self, pool: int, slots: Slots) -> None: ...
    def put_backend(self, index: int, backend: BackendEntry, fresh: bool) -> None: ...
    def put_filter(self, index: int, word: int) -> None: ...
    def put_shortcut(self, place: int, shortcut: bytes) -> None: ...
    def remove_shortcut(self, place: int) -> None: ...
    def put_server_id(self, pool: int, server_id: int, backend: int) -> None: ...
    def remove_server_id(self, pool: int, server_id: int) -> None: ...
    def put_address(self, address: str, service: int, pool: int) -> None: ...
    def remove_address(self, address: str) -> None: ...
    def put_service(self, key: ServiceKey, service: ServiceEntry, fresh: bool) -> None: ...
    def remove_service(self, key: ServiceKey, service: ServiceEntry) -> None: ...
