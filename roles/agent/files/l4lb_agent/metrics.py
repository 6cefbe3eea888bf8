# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus reads of a node: the kernel's counters as they are at that moment, and what the
agent last said of itself.

A scrape reads and never waits for the agent, so it works while the agent hangs; and the agent
never waits for it.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import registry

from ansible_collections.l4lb.xdp.plugins.module_utils import _proof, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._guard_tables import GuardTables
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import PINS, SOURCE
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from l4lb_agent import counters, told
from l4lb_agent.costly import Costly
from l4lb_agent.counters import Ledger, Reading, Traffic
from l4lb_agent.durations import Durations
from l4lb_agent.families import Family, family, one
from l4lb_agent.web import serve

__all__ = ["Collector", "serve"]

SERIES_A_BACKEND = 5
MAX_BACKEND_SERIES = 10_000
"""Where single backends would take more series than this, none has any."""


class Collector(registry.Collector):
    """A collector of prometheus_client.

    status: what _agent_status describes, {} before the first turn; tables: the open maps, None
    while there are none; proved: what proofs have added to the counters.
    """

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any]],
        tables: Callable[[], Tables | None],
        pins: Path = Path(PINS),
        source: Path = Path(SOURCE),
        proved: Callable[[], _proof.Counted] = _proof.Counted,
        max_backend_series: int = MAX_BACKEND_SERIES,
    ) -> None:
        self._status, self._tables, self._proved = status, tables, proved
        self._max_backend_series = max_backend_series
        self._costly = Costly(pins, source)
        self._ledger = Ledger()
        self._durations: dict[str, Durations] = {}
        self._lock = threading.Lock()

    def heard(self, kind: str, ok: bool, seconds: float) -> None:
        """Counts an answer to a check of this type. Only in one thread."""
        durations = self._durations.get(kind)
        if durations is None:
            durations = Durations()
            self._durations = {**self._durations, kind: durations}  # a scrape may be reading it
        durations.add(ok, seconds)

    def describe(self) -> list[Family]:
        """Nothing: to register a collector reads no maps."""
        return []

    def collect(self) -> Iterator[Family]:
        """All of families.METRICS. One scrape at a time: what is kept between them is shared."""
        with self._lock, _uncollected():
            began = time.monotonic()
            yield from self._kernel()
            yield from told.families(self._status())
            yield from self._checks()
            yield one("l4lb_agent_scrape_duration_seconds", time.monotonic() - began)

    def _kernel(self) -> list[Family]:
        tables = self._tables()
        if tables is None:
            return [one("l4lb_maps_readable", 0)]
        try:
            return [one("l4lb_maps_readable", 1), *self._maps(tables)]
        except (L4lbError, OSError):  # the agent meets the same, and its status says it
            return [one("l4lb_maps_readable", 0)]

    def _maps(self, tables: Tables) -> Iterator[Family]:
        reading = counters.read(tables)
        own = counters.of_proofs(self._proved(), reading)
        net = self._ledger.net(reading.counted, own)
        yield from _traffic("l4lb", {(verdict,): t for verdict, t in net.verdicts.items()})
        yield from _traffic("l4lb_service", {(name,): t for name, t in net.services.items()})
        opens = (((name,), t.opens) for name, t in net.services.items())
        yield family("l4lb_service_opens_total", opens)
        yield _refused(tables, reading)
        yield one("l4lb_flows_unrecorded_total", tables.unrecorded())
        yield _services(reading)
        few = len(reading.backends) * SERIES_A_BACKEND <= self._max_backend_series
        yield from _traffic("l4lb_backend", net.backends if few else {})
        yield from _backends(reading if few else None)
        yield one("l4lb_backend_series_omitted", not few)
        yield _quic(tables, reading)
        yield from self._seldom(tables, reading)

    def _seldom(self, tables: Tables, reading: Reading) -> Iterator[Family]:
        """What Costly keeps."""
        pools = reading.actual.pools
        rings = self._costly.rings(tables, reading.actual)
        tracked = (((pools[at].name,), ring.tracked) for at, ring in rings.items())
        yield family("l4lb_pool_tracked_slots", tracked)
        settle = (((pool.name,), _rings.seconds(pool.settle)) for pool in pools.values())
        yield family("l4lb_pool_settle_seconds", settle)
        yield one("l4lb_ring_slots", reading.actual.sizes.ring)
        entries = self._costly.flows(tables)
        yield family("l4lb_flow_table_entries", (((f,), n) for f, n in entries.items()))
        size = reading.actual.sizes.flows
        yield family("l4lb_flow_table_size", (((f,), size) for f in entries))
        identity = self._costly.identity(tables, reading.actual, rings)
        yield from _program(identity["program"])
        known = [identity["fingerprint"]] if "fingerprint" in identity else []
        yield family("l4lb_fingerprint_info", (((text,), 1) for text in known))

    def _checks(self) -> Iterator[Family]:
        known = self._durations.items()
        histogram: Any = family("l4lb_check_duration_seconds")
        for kind, durations in known:
            histogram.add_metric((kind,), *durations.buckets())
        yield histogram
        yield family("l4lb_check_failures_total", (((kind,), d.failed) for kind, d in known))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through tens of thousands of samples again and
    again and hold up the agent's other threads for 0.15 s. They need none: they are in no circles.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _traffic(prefix: str, counted: Mapping[Any, Traffic]) -> Iterator[Family]:
    """prefix_packets_total and prefix_bytes_total; the keys are the labels' values."""
    for place, unit in enumerate(("packets", "bytes")):
        yield family(f"{prefix}_{unit}_total", ((key, t[place]) for key, t in counted.items()))


def _refused(tables: Tables, reading: Reading) -> Family:
    """Of services that have guards: proofs are counted nowhere here, no guard refuses them."""
    guarded = GuardTables(tables).services()
    refused = tables.guard_counters() if guarded else []
    rows = (
        ((service.name, reason), count)
        for service in reading.services.values()
        if service.id in guarded
        for reason, count in refused[service.id].items()
    )
    return family("l4lb_service_refused_packets_total", rows)


def _services(reading: Reading) -> Family:
    def pool(index: int) -> str:  # a killed writer may leave a service of a pool that is gone
        entry = reading.actual.pools.get(index)
        return entry.name if entry else "?"

    rows = (
        ((service.name, key.address, str(key.port), key.protocol, pool(service.pool)), 1)
        for key, service in reading.services.items()
    )
    return family("l4lb_service_info", rows)


def _quic(tables: Tables, reading: Reading) -> Family:
    """Proofs are no packets of QUIC, but empty, and count as by_hash."""
    pools = {index: pool.name for index, pool in reading.actual.pools.items() if pool.quic}
    counts = ((name, tables.quic_counter(index)) for index, name in pools.items())
    rows = (((name, word), n) for name, count in counts for word, n in count.items())
    return family("l4lb_quic_packets_total", rows)


def _backends(reading: Reading | None) -> Iterator[Family]:
    found = reading.backends if reading else {}
    yield family("l4lb_backend_up", ((key, b.health == "up") for key, b in found.items()))
    in_ring = ((key, b.health == "up" and b.state == "active") for key, b in found.items())
    yield family("l4lb_backend_in_ring", in_ring)
    yield family("l4lb_backend_weight", ((key, b.weight) for key, b in found.items()))


def _program(program: Mapping[str, Any]) -> Iterator[Family]:
    pinned = [(program["tag"], program["version"])] if program["tag"] else []
    yield family("l4lb_program_info", ((labels, 1) for labels in pinned))
    attached = ((each["interface"], each["mode"]) for each in program["interfaces"])
    yield family("l4lb_program_attached", ((labels, 1) for labels in attached))
