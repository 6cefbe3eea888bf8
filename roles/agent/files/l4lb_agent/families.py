# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every metric there is: its kind, its labels, what it means, and how many series it has.

docs/metrics.md is this table for people; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

Family = Union[CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily]

_KINDS = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


@dataclass(frozen=True)
class Metric:
    """series: how many of a node, in words."""

    kind: str
    labels: tuple[str, ...]
    help: str
    series: str


def _gauge(help: str, labels: str = "", series: str = "1") -> Metric:  # noqa: A002
    return Metric("gauge", tuple(labels.split()), help, series)


def _counter(help: str, labels: str = "", series: str = "1") -> Metric:  # noqa: A002
    return Metric("counter", tuple(labels.split()), help, series)


_TYPES = "types of health checks in use, at most 6"
_SERVICES, _ADDRESSES, _POOLS = "services", "service addresses", "pools"
_BACKENDS = "backends; none above the limit"

METRICS: Mapping[str, Metric] = {
    # The packet's way
    "l4lb_packets_total": _counter(
        "Packets that came in by a balancing interface, by what became of them.",
        "verdict",
        "verdicts, about 20",
    ),
    "l4lb_bytes_total": _counter(
        "Bytes of the same packets, as their IP headers say.", "verdict", "verdicts, about 20"
    ),
    "l4lb_service_packets_total": _counter(
        "Packets sent on to backends of the service.", "service", _SERVICES
    ),
    "l4lb_service_bytes_total": _counter(
        "Bytes of these packets, without the outer header.", "service", _SERVICES
    ),
    "l4lb_service_opens_total": _counter(
        "Packets sent on that open a connection (TCP SYN, SCTP INIT), those sent again included.",
        "service",
        _SERVICES,
    ),
    "l4lb_service_refused_packets_total": _counter(
        "Packets that guards of the service dropped: not_allowed, limited.",
        "service reason",
        "services with guards x 2",
    ),
    "l4lb_backend_packets_total": _counter(
        "Packets sent on to the backend.", "pool backend", _BACKENDS
    ),
    "l4lb_backend_bytes_total": _counter(
        "Bytes of these packets, without the outer header.", "pool backend", _BACKENDS
    ),
    "l4lb_quic_packets_total": _counter(
        "Datagrams to pools with quic, by what their connection ids said.",
        "pool result",
        "pools with quic x 4",
    ),
    # What the kernel holds
    "l4lb_maps_readable": _gauge("1 while the agent can read the balancer's maps."),
    "l4lb_program_info": _gauge(
        "The pinned balancer: the tag of its instructions and the collection's version.",
        "tag version",
    ),
    "l4lb_program_attached": _gauge(
        "1 for each interface that runs the pinned balancer.",
        "interface mode",
        "balancing interfaces",
    ),
    "l4lb_fingerprint_info": _gauge(
        "Of seed, layout, program, services and rings: nodes that share it steer alike.",
        "fingerprint",
    ),
    "l4lb_service_info": _gauge(
        "What clients connect to, and the pool behind it.",
        "service address port protocol pool",
        _SERVICES,
    ),
    "l4lb_pool_tracked_slots": _gauge(
        "Slots of the pool's ring that changed and have not settled yet.", "pool", _POOLS
    ),
    "l4lb_pool_settle_seconds": _gauge(
        "How long a slot must be quiet before it settles.", "pool", _POOLS
    ),
    "l4lb_ring_slots": _gauge("Slots of a ring."),
    "l4lb_backend_up": _gauge(
        "1 when the data path takes the backend for up, 0 for down.", "pool backend", _BACKENDS
    ),
    "l4lb_backend_in_ring": _gauge(
        "1 when the backend gets new flows: active by inventory and up.", "pool backend", _BACKENDS
    ),
    "l4lb_backend_weight": _gauge(
        "The backend's weight in its pool's ring.", "pool backend", _BACKENDS
    ),
    "l4lb_backend_series_omitted": _gauge(
        "1 when single backends have no series, because these would be more than the limit."
    ),
    "l4lb_flow_table_entries": _gauge(
        "Flows recorded; the count may be some seconds old.", "family", "2"
    ),
    "l4lb_flow_table_size": _gauge("Flows for which there is room.", "family", "2"),
    "l4lb_flows_unrecorded_total": _counter(
        "Packets whose flow was not recorded, because as many as may be in a second had been."
    ),
    # What is announced, and why not
    "l4lb_node_state": _gauge(
        "1 for the state that the node was told to have.", "state", "states, 3"
    ),
    "l4lb_node_withheld": _gauge(
        "1 for each reason for which the node announces nothing.", "reason", "reasons that hold"
    ),
    "l4lb_service_gate_open": _gauge(
        "1 while everything that the service needs is proven to work.", "service", _SERVICES
    ),
    "l4lb_service_withheld": _gauge(
        "1 for each reason for which the service's gate does not hold.",
        "service reason",
        "services x reasons that hold",
    ),
    "l4lb_address_announced": _gauge(
        "1 while the service address is announced.", "address", _ADDRESSES
    ),
    "l4lb_address_withheld": _gauge(
        "1 for each reason for which the address is not announced.",
        "address reason",
        "service addresses x reasons that hold",
    ),
    "l4lb_proofs_total": _counter("Synthetic packets run through the live program."),
    "l4lb_proof_failures_total": _counter("Proofs that did not come out as they must."),
    # Health
    "l4lb_pool_backends": _gauge(
        "Backends of the pool by what its health check says.", "pool health", "pools x 3"
    ),
    "l4lb_pool_healthy_backends": _gauge(
        "Backends of the pool that count as healthy for announcing.", "pool", _POOLS
    ),
    "l4lb_pool_minimum_healthy_backends": _gauge(
        "Fewer healthy ones than this, and the pool's services are withdrawn.", "pool", _POOLS
    ),
    "l4lb_check_duration_seconds": Metric(
        "histogram", ("type",), "How long health checks took, failed ones too.", f"{_TYPES}; x 14"
    ),
    "l4lb_check_failures_total": _counter("Health checks that failed.", "type", _TYPES),
    # The agent
    "l4lb_agent_info": _gauge("The agent's version.", "version"),
    "l4lb_agent_start_time_seconds": _gauge("When the agent was started, in Unix time."),
    "l4lb_agent_last_turn_timestamp_seconds": _gauge(
        "When the agent last went round, in Unix time."
    ),
    "l4lb_agent_turn_duration_seconds": _gauge("How long its last turn took."),
    "l4lb_agent_lease_seconds": _gauge(
        "Without a turn for this long the node is withdrawn by its lease."
    ),
    "l4lb_agent_problems": _gauge("Parts of the last turn that failed; `l4lb status` names them."),
    "l4lb_agent_scrape_duration_seconds": _gauge("How long it took to read these metrics."),
}


def family(name: str, samples: Iterable[tuple[tuple[str, ...], float]] = ()) -> Family:
    """The metric with these samples, as (labels' values, value)."""
    metric = METRICS[name]
    made: Any = _KINDS[metric.kind](name, metric.help, labels=metric.labels)
    for labels, value in samples:
        made.add_metric(labels, value)
    return made  # type: ignore[no-any-return]


def one(name: str, value: float) -> Family:
    """A metric without labels."""
    return family(name, [((), value)])
