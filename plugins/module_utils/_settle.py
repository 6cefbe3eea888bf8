# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settling: slots that changed long ago forget it and need the flow table no more.

Private to the collection. A slot settles when it has been tracked for longer than its pool's
`settle` and no flow seen within that time is recorded on another backend than the slot's current
one. Such a flow keeps the slot tracked even while its backend is down: it may come back.

Packets go on meanwhile. Why none of their flows breaks whose gaps are at most `settle`:

- Packets write records and never slots, and whoever else writes rings waits for the same lock: the
  slots that are read here are those that are replaced.
- Such a flow has sent since its slot is tracked, so it is recorded, and its last packet is at most
  `settle` before `now`, which is read first. The scan sees its record as it was then or later
  (_flows), and a later `seen` only keeps the slot tracked.
- A flow that begins during the scan takes `current`, where it is after the settling too: TCP by its
  SYN, UDP because the slot is older than `udp_transition` as well.
- What is left are packets of flows that were silent for longer and show up between the scan and the
  new ring. They are put on `previous`, and the settled slot takes them to `current`: beyond what is
  promised. But their records are young, and if the slot changed again soon, a new flow with the
  same addresses and ports, begun unrecorded on `current`, would be taken for theirs. So these
  records are removed. By then nobody makes more: the write of a ring returns when no packet is at
  work with the old one any more (maybe_wait_bpf_programs of the kernel).

What it cannot see are records that a full flow table has dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Union

from ansible_collections.l4lb.xdp.plugins.module_utils import _flows, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed, require_netaddr
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import identity_hash, slot
from ansible_collections.l4lb.xdp.plugins.module_utils._flows import Record
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    PROTOCOLS,
    Actual,
    Kernel,
    PoolEntry,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome, lacking
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import SchemaError, pinned_sizes
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables, now_tick

PATIENCE = 0.5
"""Seconds that the agent waits for another writer: it has more to do, and its turn comes again."""

_NEVER = 1 << 40
"""A tick that does not come."""

_LAG = 1
"""Ticks by which a ring may have reached the packets after the tick that its slots name."""


class Node(Kernel, Protocol):
    """What `_tables.Tables` offers and a test can fake."""

    def ring_id(self, pool: int) -> int: ...
    def settings(self) -> dict[str, Any]: ...


class FlowTables(Protocol):
    """What the module `_flows` offers and a test can fake."""

    def records(self, tables: Any) -> Iterator[Record]: ...
    def forget(self, tables: Any, record: Record) -> None: ...


@dataclass(frozen=True)
class Settled:
    """A pool's slots: tracked before and after; busy: old enough, but a flow of theirs that may
    still live is recorded on another backend.
    """

    pool: str
    before: int
    after: int
    busy: int


@dataclass(frozen=True)
class Seen:
    """A ring as it was read: how many slots were tracked, the oldest of them since which tick."""

    ring: int
    tracked: int
    oldest: int


Memory = dict[int, Seen]
"""What is known of the rings of the pools. A ring is only ever replaced, so one that has the same
id has the same slots, and need not be read until its oldest tracked slot is old enough.
"""

_QUIET, _BUSY = 1, 2


@dataclass
class _Watch:
    """A pool while its slots settle.

    marks: of each slot, _QUIET: old enough, and no such flow was found in it yet; _BUSY: one was;
    0: too young. since: only records seen at this tick or later count.
    """

    pool: PoolEntry
    slots: Slots
    marks: bytearray
    since: int

    def count(self, mark: int) -> int:
        return self.marks.count(mark)


_At = tuple[bytes, int, int]


class _Services(dict[_At, Union[_Watch, None]]):
    """(address, port, protocol) -> its pool; None for one that is not watched.

    As the program looks services up: the exact port first, then port 0.
    """

    def __missing__(self, key: _At) -> _Watch | None:
        address, _port, protocol = key
        return self.get((address, 0, protocol))


def settle_node(pins: Path, source: Path, state_dir: Path, dry: bool = False) -> Outcome:
    """Settles what can be settled on a node, as its only writer; dry: tells what would settle.

    Raises SchemaError when no balancer is prepared here, LockError when another writer does not
    end.
    """
    if dry and (why_not := lacking(lambda: _require_prepared(pins, source))):
        return Outcome(False, data={"settled": {}}, warnings=[why_not])
    require_netaddr()
    with writer(state_dir, "l4lb.xdp.services", dry) as waited:
        done = outcome(settle(Tables(pins, source), now_tick(), dry))
    done.warnings += waited
    return done


def settle_tables(
    tables: Tables, state_dir: Path, memory: Memory | None = None, patience: float = PATIENCE
) -> Outcome:
    """As `settle_node`, on tables that are open: for the agent, which does it every minute.

    memory: the caller's, for as long as these tables are open; spares it from reading all rings
    each time.
    """
    with writer(state_dir, "l4lb-agent", patience=patience) as waited:
        done = outcome(settle(tables, now_tick(), memory=memory))
    done.warnings += waited
    return done


def _require_prepared(pins: Path, source: Path) -> None:
    require_netaddr()
    if pinned_sizes(pins, source) is None:
        raise SchemaError(f"no maps at {pins}")


def outcome(pools: Collection[Settled]) -> Outcome:
    """A line for each pool that has tracked slots, or had."""
    return Outcome(
        changed=any(each.before != each.after for each in pools),
        before=[f"pool {each.pool}: {each.before} slots tracked" for each in pools],
        after=[f"pool {each.pool}: {each.after} slots tracked" for each in pools],
        data={
            "settled": {
                each.pool: {"before": each.before, "after": each.after, "busy": each.busy}
                for each in pools
            }
        },
        notes=[
            f"pool {each.pool}: {each.busy} slots stay tracked for flows on other backends"
            for each in pools
            if each.busy
        ],
    )


def settle(
    tables: Node,
    now: int,
    dry: bool = False,
    flows: FlowTables = _flows,
    memory: Memory | None = None,
) -> list[Settled]:
    """Settles what can be settled; returns the pools that have tracked slots, or had, by name.

    now: the tick, read under the writer's lock and before this is called. dry: writes nothing.
    Reads the flow tables only when a slot is old enough, and rewrites only rings that change.
    memory: of earlier calls on these tables; kept up to date.
    """
    actual = tables.actual()
    memory = {} if memory is None else memory
    before: dict[int, int] = {}
    watched: dict[int, _Watch] = {}
    for index, seen, slots in _tracked(tables, actual, memory, now):
        before[index] = seen.tracked
        if slots is None:
            continue
        watch = _watch(actual.pools[index], slots, now)
        if watch.count(_QUIET):
            watched[index] = watch
    seed = tables.settings()["hash_seed"]
    if watched:
        records = flows.records(tables)
        for watch, number, _record in _elsewhere(records, _services(actual, watched), seed):
            watch.marks[number] = _BUSY
    settling = {index: watch for index, watch in watched.items() if watch.count(_QUIET)}
    if not dry:
        _write(tables, settling, now)
        _forget_late(tables, actual, settling, seed, now, flows)
    results = (
        _result(actual.pools[index].name, tracked, watched.get(index))
        for index, tracked in before.items()
    )
    return sorted(results, key=lambda each: each.pool)


def _tracked(
    tables: Node, actual: Actual, memory: Memory, now: int
) -> Iterator[tuple[int, Seen, Slots | None]]:
    """The pools whose rings have tracked slots; with these where one may be old enough."""
    for index in set(memory) - set(actual.pools):
        del memory[index]
    for index, pool in actual.pools.items():
        seen, slots = memory.get(index), None
        number = tables.ring_id(index)
        if seen is None or seen.ring != number or now - seen.oldest > _age(pool):
            slots = tables.ring(index)
            seen = memory[index] = _seen(number, slots)
        if seen.tracked:
            yield index, seen, slots


def _seen(number: int, slots: Slots | None) -> Seen:
    count = 0 if slots is None else slots.tracked_count()
    oldest = min(filter(None, slots.tracked)) if slots is not None and count else _NEVER
    return Seen(number, count, oldest)


def _watch(pool: PoolEntry, slots: Slots, now: int) -> _Watch:
    settled = _settled(pool, slots, now)
    marks = bytearray(map(int.__ne__, slots.tracked, settled.tracked))
    return _Watch(pool, slots, marks, now - pool.settle)


def _settled(pool: PoolEntry, slots: Slots, now: int, busy: Collection[int] = ()) -> Slots:
    return _rings.settle(slots, now, _age(pool), busy)


def _age(pool: PoolEntry) -> int:
    """Ticks for longer than which a slot has to be tracked."""
    return max(pool.settle, pool.udp_transition) + _LAG


def _services(actual: Actual, watched: Mapping[int, _Watch]) -> _Services:
    """All services, since one that is not watched may be what a packet finds first."""
    return _Services(
        {
            (packed(key.address), key.port, PROTOCOLS[key.protocol]): watched.get(service.pool)
            for key, service in actual.services.items()
            if key.protocol in PROTOCOLS
        }
    )


def _elsewhere(
    records: Iterator[Record], services: _Services, seed: int
) -> Iterator[tuple[_Watch, int, Record]]:
    """The records that count in quiet slots, on another backend than the slot's current one."""
    for record in records:
        source, destination, source_port, port, protocol, backend, seen = record
        watch = services[destination, port, protocol]
        if watch is None or seen < watch.since:
            continue
        current = watch.slots.current
        number = slot(
            identity_hash(
                watch.pool.identity, seed, source, destination, protocol, source_port, port
            ),
            len(current),
        )
        if current[number] != backend and watch.marks[number] == _QUIET:
            yield watch, number, record


def _write(tables: Node, settling: Mapping[int, _Watch], now: int) -> None:
    for index, watch in settling.items():
        busy = [number for number, mark in enumerate(watch.marks) if mark == _BUSY]
        tables.put_ring(index, _settled(watch.pool, watch.slots, now, busy))


def _forget_late(
    tables: Node,
    actual: Actual,
    settling: Mapping[int, _Watch],
    seed: int,
    now: int,
    flows: FlowTables,
) -> None:
    """Removes records on other backends, made in slots while these settled: see above.

    Not of pools that always track: theirs are in use whether a slot is settled or not.
    """
    adaptive = {i: watch for i, watch in settling.items() if watch.pool.tracking == "adaptive"}
    if not adaptive:
        return
    for watch in adaptive.values():
        watch.since = now
    records = flows.records(tables)
    late = [record for *_slot, record in _elsewhere(records, _services(actual, adaptive), seed)]
    for record in late:
        flows.forget(tables, record)


def _result(pool: str, tracked: int, watch: _Watch | None) -> Settled:
    if watch is None:
        return Settled(pool, tracked, tracked, 0)
    return Settled(pool, tracked, tracked - watch.count(_QUIET), watch.count(_BUSY))
