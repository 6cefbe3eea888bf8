# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus is told of a node, against its real maps and program."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf
from ansible_collections.l4lb.xdp.plugins.module_utils._info import info
from ansible_collections.l4lb.xdp.plugins.module_utils._proof import Counted
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from l4lb_agent import counters
from l4lb_agent.counters import Traffic
from l4lb_agent.families import METRICS
from l4lb_agent.metrics import Collector
from tests.agent.fake_status import status

from .flows import A, B, C, ack, syn
from .node import SIZES, SOURCE, Node
from .test_flows import drawn, write

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def pinned(node: Node) -> Iterator[Node]:
    """The node, with its program pinned as if it were attached."""
    _bpf.replace_pin(node.loaded.fd, node.pins / "balancer")
    yield node
    (node.pins / "balancer").unlink()


def collector(node: Node, **settings: Any) -> Collector:
    return Collector(dict, lambda: node.tables, node.pins, SOURCE, **settings)


def samples(collector: Collector) -> Samples:
    """Values by name and labels' values, in the labels' order."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def with_suffix(name: str, found: Samples) -> dict[tuple[str, ...], float]:
    return {labels: value for (each, labels), value in found.items() if each == name}


def test_traffic_is_counted_where_it_goes(node: Node) -> None:
    node.serve(A, B)
    before = with_suffix("l4lb_backend_packets_total", samples(collector(node)))
    frames = [syn(port) for port in range(20000, 20020)]
    sent = dict.fromkeys((A, B), 0)
    for frame in frames:
        sent[node.backend_of(frame)] += 1
    found = samples(collector(node))
    assert found["l4lb_packets_total", ("sent",)] == 20
    assert found["l4lb_service_packets_total", ("tcp0",)] == 20
    assert found["l4lb_service_bytes_total", ("tcp0",)] == 20 * 40
    assert found["l4lb_service_packets_total", ("udp0",)] == 0
    packets = with_suffix("l4lb_backend_packets_total", found)
    assert {key[1]: packets[key] - before[key] for key in packets} == sent


def test_proofs_are_not_traffic(node: Node) -> None:
    node.serve(A)
    (index,) = (i for i, b in node.tables.actual().backends.items() if b.address == A)
    before = samples(collector(node))
    node.backend_of(syn(20000))
    node.backend_of(syn(20001))
    (service,) = (s for s in node.tables.actual().services.values() if s.name == "tcp0")
    proved = Counted()
    proved.add("services", "tcp0", str(service.id), 40)
    proved.add("backends", str(index), A, 40)
    proved.add("verdicts", "sent", "", 40)
    found = samples(collector(node, proved=lambda: proved))
    assert found["l4lb_packets_total", ("sent",)] == 1
    assert found["l4lb_service_packets_total", ("tcp0",)] == 1
    key = "l4lb_backend_bytes_total", ("web", A)
    assert found[key] == before[key] + 40  # its counter stays while its index does


def test_proofs_of_another_owner_of_the_index_are_not_taken_off(node: Node) -> None:
    node.serve(A)
    (index,) = (i for i, b in node.tables.actual().backends.items() if b.address == A)
    before = samples(collector(node))
    node.backend_of(syn(20000))
    proved = Counted()
    proved.add("backends", str(index), B, 40)
    proved.add("services", "tcp0", "63", 40)
    found = samples(collector(node, proved=lambda: proved))
    key = "l4lb_backend_packets_total", ("web", A)
    assert found[key] == before[key] + 1
    assert found["l4lb_service_packets_total", ("tcp0",)] == 1


def test_index_that_changes_hands_during_a_reading_is_left_out(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old service's count must not become the new one's first value."""
    pools = {"web": {"backends": [{"address": A}]}}
    service = {"address": "203.0.113.10", "protocol": "tcp", "pool": "web"}
    old, new = ({**service, "name": name, "port": p} for name, p in (("old", 80), ("new", 81)))
    node.apply(pools, [old])
    node.backend_of(syn(20000))
    verdicts = Tables.verdicts

    def meanwhile(tables: Tables) -> dict[str, dict[str, int]]:
        node.apply(pools, [])
        node.apply(pools, [new])
        return verdicts(tables)

    with monkeypatch.context() as patch:
        patch.setattr(Tables, "verdicts", meanwhile)
        assert counters.read(node.tables).counted.services == {}
    assert counters.read(node.tables).counted.services == {"new": Traffic()}


def test_sums_over_cpus_are_those_of_the_library(node: Node) -> None:
    """Both fields of every CPU, whatever their number."""
    node.serve(A, B, C)
    table = node.tables.table("service_counters")
    for index in range(4):
        leaf = table.Leaf()
        for cpu, counter in enumerate(leaf):
            counter.packets, counter.bytes = 10 * index + cpu, 1000 * index + cpu
        table[index] = leaf
    want = node.tables.service_counters()
    reading = counters.read(node.tables)
    for service in reading.services.values():
        counted = reading.counted.services[service.name]._asdict()
        assert counted == {field: want[service.id][field] for field in counted}


def test_backends_as_the_data_path_sees_them(node: Node) -> None:
    node.serve(A, {"address": B, "weight": 50, "state": "draining"})
    found = samples(collector(node))
    assert with_suffix("l4lb_backend_in_ring", found) == {("web", A): 1, ("web", B): 0}
    assert with_suffix("l4lb_backend_up", found) == {("web", A): 1, ("web", B): 1}
    assert found["l4lb_backend_weight", ("web", B)] == 50


def test_backends_above_the_limit_have_no_series(node: Node) -> None:
    node.serve(A, B)
    at, above = (samples(collector(node, max_backend_series=n)) for n in (10, 9))
    assert len(with_suffix("l4lb_backend_up", at)) == 2
    assert at["l4lb_backend_series_omitted", ()] == 0
    assert not [name for name, labels in above if name.startswith("l4lb_backend_") and labels]
    assert above["l4lb_backend_series_omitted", ()] == 1
    assert above["l4lb_service_packets_total", ("tcp0",)] == 0


def test_program_and_fingerprint_are_those_of_info(pinned: Node) -> None:
    pinned.serve(A, B)
    found = samples(collector(pinned))
    told = info(pinned.pins, SOURCE, ["program", "fingerprint"])
    version = told["program"]["version"]
    assert with_suffix("l4lb_program_info", found) == {(told["program"]["tag"], version): 1}
    assert with_suffix("l4lb_fingerprint_info", found) == {(told["fingerprint"],): 1}
    assert with_suffix("l4lb_program_attached", found) == {}


def test_rings_are_read_again_when_they_change(node: Node) -> None:
    node.serve(A)
    watching = collector(node)
    before = samples(watching)
    assert before["l4lb_pool_tracked_slots", ("web",)] == 0
    assert before["l4lb_ring_slots", ()] == SIZES.ring
    node.serve(A, B)
    after = samples(watching)
    tracked = info(node.pins, SOURCE, ["pools"])["pools"]["web"]["tracked_slots"]
    assert after["l4lb_pool_tracked_slots", ("web",)] == tracked > 0
    names = (with_suffix("l4lb_fingerprint_info", each) for each in (before, after))
    assert next(names) != next(names)


def test_flow_tables_are_counted_now_and_then(node: Node) -> None:
    node.serve(A)
    write(node, drawn(30, ipv6=False))
    watching = collector(node)
    assert samples(watching)["l4lb_flow_table_entries", ("ipv4",)] == 30
    write(node, drawn(40, ipv6=False))
    again = samples(watching)
    assert again["l4lb_flow_table_entries", ("ipv4",)] == 30
    assert again["l4lb_flow_table_size", ("ipv4",)] == SIZES.flows


def test_maps_that_cannot_be_read_hide_nothing_else(node: Node) -> None:
    def broken(_tables: Tables) -> None:
        raise _bpf.BpfError("read a map")

    class Broken(Tables):
        def __init__(self) -> None:
            pass

        actual = broken  # type: ignore[assignment]

    found = samples(Collector(status, Broken, node.pins, SOURCE))
    assert found["l4lb_maps_readable", ()] == 0
    assert found["l4lb_agent_problems", ()] == 0


def test_promtool_finds_nothing_to_say(pinned: Node, make_status: Callable[[], Any]) -> None:
    """All there is: names, units, types and help."""
    pinned.serve(A, B)
    pinned.backend_of(ack(20000))
    everything = Collector(make_status, lambda: pinned.tables, pinned.pins, SOURCE)
    everything.heard("tcp", True, 0.001)
    everything.heard("http", False, 1.0)
    registry = CollectorRegistry()
    registry.register(everything)
    text = generate_latest(registry)
    ran = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert {line.split()[2] for line in text.decode().splitlines() if line[:6] == "# TYPE"} == set(
        METRICS
    )


@pytest.fixture
def make_status() -> Callable[[], Any]:
    node = {"state": "announcing", "wanted": "announcing", "since": 0, "reasons": ["a"]}
    return lambda: status(node=node)
