# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the gate: what is announced, and why not, whatever was found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._config import (
    Backend,
    Fleet,
    Pool,
    Service,
    parse,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._node_state import NodeState
from l4lb_agent.gate import AGAIN, AT_ONCE, Agenda, Findings, Proven, announcements, too_few

A, B = "203.0.113.10", "203.0.113.11"
FLEET = Fleet(
    (Pool("web"), Pool("mail")),
    (
        Service("web", A, 80, "tcp", "web"),
        Service("mail", A, 25, "tcp", "mail"),
        Service("other", B, 80, "tcp", "web"),
    ),
)
WELL = Findings([], {}, {})
UP = NodeState()


def announced(
    findings: Findings, before: str = "", node: NodeState = UP, now: float = 100.0
) -> set[str]:
    addresses, reasons = announcements(findings, FLEET, node, set(before.split()), now)
    assert set(reasons) == {A, B} - addresses, "whoever is not announced has a reason, nobody else"
    assert all(reasons.values())
    return set(addresses)


def test_all_is_announced_when_nothing_speaks_against_it() -> None:
    assert announced(WELL) == {A, B}


@pytest.mark.parametrize("before", ["", f"{A} {B}"])
def test_node_that_is_not_well_announces_nothing(before: str) -> None:
    assert announced(replace(WELL, node=["eth0 runs no XDP program"]), before) == set()


@pytest.mark.parametrize("before", ["", f"{A} {B}"])
def test_one_service_that_does_not_forward_withdraws_its_address_only(before: str) -> None:
    findings = replace(WELL, services={"mail": ["no next hop"]})
    assert announced(findings, before) == {B}
    assert announcements(findings, FLEET, UP, (), 0)[1] == {A: ["no next hop"]}


def test_an_address_needs_one_pool_that_is_healthy() -> None:
    assert announced(replace(WELL, pools={"mail": ["0 of 3"]}), f"{A} {B}") == {A, B}
    assert announced(replace(WELL, pools={"web": ["0 of 3"]}), f"{A} {B}") == {A}
    both = {"web": ["0 of 3"], "mail": ["1 of 3"]}
    assert announced(replace(WELL, pools=both), f"{A} {B}") == set()


def test_what_is_announced_stays_while_it_is_not_proven_and_nothing_new_comes() -> None:
    findings = replace(WELL, unproven=frozenset({"web", "mail", "other"}))
    assert announced(findings) == set()
    assert announced(findings, A) == {A}
    assert announced(replace(findings, unproven=frozenset({"mail"}))) == {B}


def test_nothing_new_is_announced_while_the_hold_lasts() -> None:
    findings = replace(WELL, hold_until=105.0)
    assert announced(findings, now=104.9) == set()
    assert announced(findings, A, now=104.9) == {A}
    assert announced(findings, now=105.0) == {A, B}
    reasons = announcements(findings, FLEET, UP, (), 102.0)[1]
    assert reasons[A] == ["everything is well; announced in 3 s (hold)"]


def test_state_of_the_node() -> None:
    assert announced(WELL, A, NodeState("draining")) == {A, B}
    assert announced(WELL, f"{A} {B}", NodeState("withdrawn")) == set()
    assert announced(WELL, f"{A} {B}", NodeState("announcing", 0, (A,))) == {B}


def test_address_that_is_no_service_any_more_is_not_announced() -> None:
    assert announced(WELL, "203.0.113.99") == {A, B}


@pytest.mark.parametrize(
    ("minimum", "all_down", "healthy", "holds"),
    [
        (1, "withdraw", 1, True),
        (1, "withdraw", 0, False),
        (2, "withdraw", 1, False),
        (0, "withdraw", 0, True),
        (1, "fail_open", 0, True),
        (2, "fail_open", 1, True),
    ],
)
def test_healthy_backends_that_a_pool_needs(
    minimum: int, all_down: str, healthy: int, holds: bool
) -> None:
    backends = Backend("192.0.2.71"), Backend("192.0.2.72", state="draining")
    pool = Pool("web", backends, minimum_healthy=minimum, all_down=all_down)
    assert (not too_few(pool, healthy)) == holds


@pytest.mark.parametrize("all_down", ["withdraw", "fail_open"])
@pytest.mark.parametrize("backends", [(), (Backend("192.0.2.71", state="disabled"),)])
def test_pool_without_a_living_backend_is_never_announced(
    all_down: str, backends: tuple[Backend, ...]
) -> None:
    pool = Pool("web", backends, minimum_healthy=0, all_down=all_down)
    assert too_few(pool, 0)[0].startswith("pool web has no backend that is active or draining")


# --- whose turn it is ---


def fleet(pools: int, services: int) -> Fleet:
    return parse(
        {f"p{i}": {"backends": [{"address": f"10.0.0.{i + 1}"}]} for i in range(pools)},
        [
            {
                "name": f"s{i}",
                "address": f"203.0.113.{i + 1}",
                "port": 80,
                "protocol": "tcp",
                "pool": f"p{i // (services // pools)}",
            }
            for i in range(services)
        ],
    )


def proven(agenda: Agenda, now: float, names: list[str] | None = None) -> None:
    for name in agenda.services if names is None else names:
        agenda.services[name].hear(None, now)


def test_who_is_not_proven_comes_first_then_who_waits_longest() -> None:
    agenda = Agenda()
    agenda.take_in(fleet(4, 100))
    assert len(agenda.due(0.0)[0]) == 100
    proven(agenda, 0.0)
    assert agenda.due(AGAIN / 2) == ([], [])
    _none, first = agenda.due(AGAIN)
    assert len(first) == AT_ONCE
    proven(agenda, AGAIN, first)
    assert not set(agenda.due(AGAIN)[1]) & set(first)
    agenda.services["s7"].hear("wrong", AGAIN)
    assert agenda.due(AGAIN)[0] == ["s7"]


def test_pools_are_proven_in_turn() -> None:
    agenda = Agenda()
    agenda.take_in(fleet(20, 200))
    proven(agenda, 0.0)
    assert len({agenda.services[name].pool for name in agenda.due(AGAIN)[1][:20]}) == 20


def test_what_is_known_stays_known_while_the_service_is_the_same() -> None:
    agenda, before = Agenda(), fleet(2, 4)
    agenda.take_in(before)
    proven(agenda, 0.0)
    agenda.services["s3"].hear("wrong", 0.0)
    agenda.services["s3"].hear("wrong", 0.5)
    moved = replace(before.services[0], pool="p1")
    agenda.take_in(replace(before, services=(moved, *before.services[1:])))
    assert agenda.due(0.1)[0] == ["s0", "s3"]
    assert agenda.services["s3"].reason == "wrong"


def test_first_failure_does_not_count_yet() -> None:
    each = Proven(ServiceKey(A, 80, "tcp"), "web")
    each.hear("wrong", 0.0)
    assert (each.reason, each.known) == (None, False)
    each.hear("wrong", 0.5)
    assert (each.reason, each.known) == ("wrong", True)
    each.hear(None, 1.0)
    assert (each.reason, each.doubtful) == (None, False)
    each.hear("wrong", 2.0)
    assert (each.reason, each.doubtful) == (None, True)
    each.hear("wrong", 2.5)
    assert each.reason == "wrong"
    each.doubt()
    assert (each.known, each.reason) == (False, None)
