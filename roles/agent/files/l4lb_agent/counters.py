# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's counters by the names of what they count, without what the node itself has sent.

The indices of services and backends are given away again, and a counter begins anew with its new
owner. So who owns which is read before and after the counters: what changed hands meanwhile is left
out of that reading.
"""

from __future__ import annotations

import ctypes as ct
import operator
import time
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    Actual,
    BackendEntry,
    ServiceEntry,
    ServiceKey,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import OPENINGS
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

if TYPE_CHECKING:
    from ansible_collections.l4lb.xdp.plugins.module_utils import _proof


class Traffic(NamedTuple):
    """Since the counter began; bytes are those of the clients' IP packets. opens: packets that open
    a TCP connection, counted for services only.
    """

    packets: int = 0
    bytes: int = 0
    opens: int = 0


@dataclass(frozen=True)
class Counted:
    """Packets by verdict's word, service's name, (pool's name, backend's address).

    Of a reading, or what the node's own proofs have added to one.
    """

    verdicts: Mapping[str, Traffic] = field(default_factory=dict)
    services: Mapping[str, Traffic] = field(default_factory=dict)
    backends: Mapping[tuple[str, str], Traffic] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """What the maps held; `at` is in seconds of time.monotonic."""

    at: float
    actual: Actual
    services: Mapping[ServiceKey, ServiceEntry]
    backends: Mapping[tuple[str, str], BackendEntry]
    counted: Counted


def read(tables: Tables) -> Reading:
    """Reads all counters once. Raises BpfError."""
    before = tables.actual()
    of_services = _totals(tables, "service_counters", (s.id for s in before.services.values()))
    of_backends = _totals(tables, "backend_counters", iter(before.backends))
    verdicts = {word: Traffic(**total) for word, total in tables.verdicts().items()}
    at = time.monotonic()
    after = tables.actual()
    services = {k: s for k, s in before.services.items() if after.services.get(k) == s}
    backends: dict[tuple[str, str], BackendEntry] = {}
    backend_totals: dict[tuple[str, str], Traffic] = {}
    for index, backend in before.backends.items():
        pool = before.pools.get(backend.pool)
        now = after.backends.get(index)
        if pool and now and backend.state != "removed" and backend.address == now.address:
            backends[pool.name, backend.address] = now
            backend_totals[pool.name, backend.address] = of_backends[index]
    totals: dict[str, Traffic] = {}
    for service in services.values():  # one that is being moved is there twice for a moment
        totals[service.name] = _add(totals.get(service.name, Traffic()), of_services[service.id])
    return Reading(at, after, services, backends, Counted(verdicts, totals, backend_totals))


def of_proofs(proved: _proof.Counted, reading: Reading) -> Counted:
    """What proofs have added to the counters of a reading. Proofs may go on meanwhile."""
    ids = {service.name: str(service.id) for service in reading.services.values()}
    verdicts = {word: Traffic(c.packets, c.bytes) for word, c in dict(proved.verdicts).items()}
    opening = {s.name for key, s in reading.services.items() if key.protocol in OPENINGS}
    services = {
        name: Traffic(c.packets, c.bytes, c.packets if name in opening else 0)
        for name, c in dict(proved.services).items()
        if c.of == ids.get(name)
    }
    backends: dict[tuple[str, str], Traffic] = {}
    for index, count in dict(proved.backends).items():
        backend = reading.actual.backends.get(int(index))
        pool = reading.actual.pools.get(backend.pool) if backend else None
        if backend and pool and backend.address == count.of:
            backends[pool.name, backend.address] = Traffic(count.packets, count.bytes)
    return Counted(verdicts, services, backends)


def _totals(tables: Tables, name: str, used: Iterator[int]) -> list[Traffic]:
    """The sums over all CPUs by index, up to the last that is used.

    A counter is some words of 8 bytes a CPU; all of one field are added at once, because an
    attribute of a ctypes object costs as much as a hundred such additions.
    """
    rows = max(used, default=-1) + 1
    if not rows:
        return []
    table = tables.table(name)
    leaf = table.Leaf
    batches = _bpf.read_batches(table.map_fd, table.Key, leaf, rows)
    _keys, values, count = next(batches)
    words = array("Q", ct.string_at(values, count * ct.sizeof(leaf)))
    fields = (f for f in Traffic._fields if hasattr(leaf._type_, f))
    return [Traffic(*row) for row in zip(*(_sum(words, leaf, f) for f in fields))]


def _sum(words: array[int], leaf: Any, name: str) -> list[int]:
    """One field of every entry, added over its CPUs."""
    width = ct.sizeof(leaf) // words.itemsize
    one = ct.sizeof(leaf._type_) // words.itemsize
    first = getattr(leaf._type_, name).offset // words.itemsize
    total: list[int] = []
    for start in range(first, width, one):
        of_cpu = words[start::width]
        total = list(map(operator.add, total, of_cpu)) if total else of_cpu.tolist()
    return total


class _Account(NamedTuple):
    """A series: its counter, our own part as last heard, what was taken off, what was told."""

    raw: Traffic
    own: Traffic
    taken: Traffic
    told: Traffic


class Ledger:
    """Takes off the node's own packets; no series goes back unless its counter began anew.

    A proof is counted by the kernel and by us at two moments: a reading in between would make a
    series one less than before, which Prometheus takes for a new beginning, adding all of it again.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, dict[Any, _Account]] = {}

    def net(self, counted: Counted, own: Counted) -> Counted:
        """The reading without what is our own."""
        return Counted(
            self._of("verdicts", counted.verdicts, own.verdicts),
            self._of("services", counted.services, own.services),
            self._of("backends", counted.backends, own.backends),
        )

    def _of(
        self, kind: str, counted: Mapping[Any, Traffic], own: Mapping[Any, Traffic]
    ) -> dict[Any, Traffic]:
        known = self._accounts.get(kind, {})
        self._accounts[kind] = {
            key: _account(known.get(key), raw, own.get(key, Traffic()))
            for key, raw in counted.items()
        }
        return {key: account.told for key, account in self._accounts[kind].items()}


def _account(last: _Account | None, raw: Traffic, own: Traffic) -> _Account:
    if last is None:  # a counter cannot hold more of ours than it holds
        taken = own if own.packets <= raw.packets else Traffic()
        return _Account(raw, own, taken, _less(raw, taken))
    if raw.packets < last.raw.packets:
        return _Account(raw, own, Traffic(), raw)
    news = _less(own, last.own) if own.packets >= last.own.packets else own
    taken = _add(last.taken, news)
    net = _less(raw, taken)
    told = Traffic(*map(max, last.told, net))
    return _Account(raw, own, taken, told)


def _add(one: Traffic, other: Traffic) -> Traffic:
    return Traffic(*map(operator.add, one, other))


def _less(one: Traffic, other: Traffic) -> Traffic:
    return Traffic(*(max(0, a - b) for a, b in zip(one, other)))
