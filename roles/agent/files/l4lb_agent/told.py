# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's status as metrics. What it says in sentences becomes a word of a short list here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._node_state import STATES
from ansible_collections.l4lb.xdp.plugins.module_utils._version import VERSION
from l4lb_agent import reasons
from l4lb_agent.families import Family, family, one

HEALTHS = ("up", "down", "unknown")


def families(status: Mapping[str, Any]) -> Iterator[Family]:
    """status: see _agent_status; {} before the first turn gives no more than the version."""
    yield family("l4lb_agent_info", [((VERSION,), 1)])
    if not status:
        return
    yield from _agent(status)
    yield from _gate(status)
    yield from _pools(status)


def _agent(status: Mapping[str, Any]) -> Iterator[Family]:
    yield one("l4lb_agent_start_time_seconds", status["started"])
    yield one("l4lb_agent_last_turn_timestamp_seconds", status["written"])
    yield one("l4lb_agent_turn_duration_seconds", status.get("turn_seconds", 0))
    yield one("l4lb_agent_lease_seconds", status["lease"])
    yield one("l4lb_agent_problems", len(status["problems"]))
    proofs = status["proofs"]
    yield one("l4lb_proofs_total", proofs.get("made", 0))
    yield one("l4lb_proof_failures_total", proofs.get("failed", 0))


def _gate(status: Mapping[str, Any]) -> Iterator[Family]:
    node, services, addresses = status["node"], status["services"], status["addresses"]
    yield family("l4lb_node_state", (((s,), s == node["wanted"]) for s in STATES))
    yield _withheld("l4lb_node_withheld", [((), node["reasons"])])
    gates = (((each["name"],), not each["reasons"]) for each in services)
    yield family("l4lb_service_gate_open", gates)
    yield _withheld(
        "l4lb_service_withheld", (((each["name"],), each["reasons"]) for each in services)
    )
    announced = (((address,), each["announced"]) for address, each in addresses.items())
    yield family("l4lb_address_announced", announced)
    yield _withheld(
        "l4lb_address_withheld",
        (((address,), each["reasons"]) for address, each in addresses.items()),
    )


def _withheld(name: str, found: Iterable[tuple[tuple[str, ...], Iterable[str]]]) -> Family:
    """1 for each word that a reason comes to; several sentences may come to one word."""
    rows = (
        ((*labels, word), 1)
        for labels, texts in found
        for word in dict.fromkeys(map(reasons.word, texts))
    )
    return family(name, rows)


def _pools(status: Mapping[str, Any]) -> Iterator[Family]:
    pools = status["pools"]
    seen = Counter((each["pool"], each["health"]) for each in status["backends"])
    rows = (((pool, health), seen[pool, health]) for pool in pools for health in HEALTHS)
    yield family("l4lb_pool_backends", rows)
    for key in ("healthy", "minimum_healthy"):
        counts = (((name,), pool[key]) for name, pool in pools.items())
        yield family(f"l4lb_pool_{key}_backends", counts)
