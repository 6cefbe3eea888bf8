# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backends get flows: each rule by example, and what holds whatever happens."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils._config import STATES, Backend, Pool
from ansible_collections.l4lb.xdp.plugins.module_utils._health import Health
from l4lb_agent.policy import STEPS, decide

A, B, C, D = (f"192.0.2.{i}" for i in (71, 72, 73, 100))
ALL = (A, B, C, D)
NOW = 1_000_000


def pool(*backends: str, states: str = "", **rules: object) -> Pool:
    """states: of each backend, its first letters' order as in `backends`."""
    given_states = states.split() or ["active"] * len(backends)
    members = tuple(Backend(a, state=s) for a, s in zip(backends, given_states))
    return replace(Pool("web", members), **rules)


def down(*addresses: str, since: int = 5) -> dict[str, Health]:
    return dict.fromkeys(addresses, Health("down", since=since))


def seen(**words: str) -> dict[str, str]:
    """By the names above."""
    return {{"a": A, "b": B, "c": C, "d": D}[name]: word for name, word in words.items()}


# --- up, down, unknown ---


def test_backend_that_is_seen_down_goes_out_and_that_is_its_time() -> None:
    assert decide(pool(A, B), seen(a="down", b="up"), {}, NOW) == down(A, since=NOW)


def test_since_is_when_it_went_out() -> None:
    assert decide(pool(A, B), seen(a="down", b="up"), down(A), NOW) == down(A)


def test_backend_that_is_seen_up_comes_back() -> None:
    assert decide(pool(A, B), seen(a="up", b="up"), down(A, B), NOW) == {}


@pytest.mark.parametrize("said", [{}, seen(a="unknown", b="unknown")])
def test_unknown_changes_nothing(said: dict[str, str]) -> None:
    held = {A: Health("down", since=5), B: Health("up", 25, NOW - 30)}
    assert decide(pool(A, B, slow_start=100), said, held, NOW) == held


def test_backend_that_left_the_pool_is_forgotten() -> None:
    assert decide(pool(A), seen(a="up", b="down"), down(B), NOW) == {}


def test_all_down_takes_out_all() -> None:
    assert decide(pool(A, B), seen(a="down", b="down"), {}, NOW) == down(A, B, since=NOW)


# --- max_unhealthy ---


@pytest.mark.parametrize(
    ("share", "size", "out"),
    [(100, 4, 4), (99, 4, 3), (50, 4, 2), (50, 3, 1), (30, 3, 0), (34, 3, 1), (0, 4, 0)],
)
def test_share_that_may_be_out_is_rounded_down(share: int, size: int, out: int) -> None:
    backends = ALL[:size]
    decided = decide(pool(*backends, max_unhealthy=share), dict.fromkeys(backends, "down"), {}, NOW)
    assert list(decided) == list(backends[:out])


def test_who_is_out_stays_out_and_others_wait() -> None:
    half = pool(A, B, max_unhealthy=50)
    held = decide(half, seen(a="up", b="down"), {}, NOW)
    both = decide(half, seen(a="down", b="down"), held, NOW + 1)
    assert both == held == down(B, since=NOW)
    assert decide(half, seen(a="down", b="up"), both, NOW + 2) == down(A, since=NOW + 2)


def test_lower_share_brings_nobody_back() -> None:
    assert decide(pool(A, B, max_unhealthy=0), seen(a="down"), down(A, B), NOW) == down(A, B)


def test_backends_without_new_flows_take_up_no_room() -> None:
    mixed = pool(*ALL, states="draining disabled active active", max_unhealthy=50)
    decided = decide(mixed, dict.fromkeys(ALL, "down"), {}, NOW)
    assert decided == down(A, B, C, since=NOW)


# --- all_down ---


def test_last_ring_stays_when_all_are_down() -> None:
    open_pool = pool(A, B, C, all_down="fail_open")
    held = down(A)
    decided = decide(open_pool, seen(a="down", b="down", c="down"), held, NOW)
    assert decided == held


def test_one_that_lives_ends_failing_open() -> None:
    open_pool = pool(A, B, C, all_down="fail_open")
    decided = decide(open_pool, seen(a="down", b="down", c="up"), down(A), NOW)
    assert decided == {**down(A), **down(B, since=NOW)}


def test_all_get_flows_when_the_last_ring_is_empty() -> None:
    open_pool = pool(A, B, all_down="fail_open")
    assert decide(open_pool, seen(a="down", b="down"), down(A, B), NOW) == {}
    disabled = pool(A, B, states="active disabled", all_down="fail_open")
    assert decide(disabled, seen(a="down", b="down"), down(A, B), NOW) == down(B)


def test_draining_backend_that_is_down_loses_its_flows_all_the_same() -> None:
    draining = pool(A, B, states="active draining", all_down="fail_open")
    decided = decide(draining, seen(a="down", b="down"), {}, NOW)
    assert decided == down(B, since=NOW)


# --- slow_start ---


def test_recovered_backend_gets_its_weight_in_steps() -> None:
    slow = pool(A, B, slow_start=100)
    held = down(A)
    shares = []
    for passed in range(0, 130, 5):
        held = decide(slow, seen(a="up", b="up"), held, NOW + passed)
        shares.append(held.get(A, Health()).share)
        assert held.get(A, Health(since=NOW)).since == NOW
    assert [shares[i] for i in (0, 4, 5, 9, 10, 15, 19, 20)] == [10, 10, 25, 25, 50, 75, 75, 100]
    assert sum(one != two for one, two in pairwise(shares)) == len(STEPS)
    assert held == {}


def test_backend_that_was_never_down_starts_at_full_weight() -> None:
    assert decide(pool(A, slow_start=100), seen(a="up"), {}, NOW) == {}


def test_falling_again_begins_anew() -> None:
    slow = pool(A, B, slow_start=100)
    half = {A: Health("up", 50, NOW - 50)}
    fallen = decide(slow, seen(a="down", b="up"), half, NOW)
    assert fallen == down(A, since=NOW)
    assert decide(slow, seen(a="up", b="up"), fallen, NOW + 9) == {A: Health("up", 10, NOW + 9)}


def test_clock_that_was_set_back_begins_the_steps_anew_but_takes_nothing() -> None:
    slow = pool(A, slow_start=100)
    decided = decide(slow, seen(a="up"), {A: Health("up", 50, NOW + 500)}, NOW)
    assert decided == {A: Health("up", 50, NOW)}


@pytest.mark.parametrize(("seconds", "share"), [(0, 100), (1000, 50)])
def test_other_time_while_it_rises_never_takes_weight(seconds: int, share: int) -> None:
    decided = decide(
        pool(A, slow_start=seconds), seen(a="up"), {A: Health("up", 50, NOW - 50)}, NOW
    )
    assert decided.get(A, Health()).share == share


# --- whatever happens ---

pools = st.builds(
    Pool,
    st.just("web"),
    st.lists(
        st.builds(Backend, st.sampled_from(ALL), st.just(100), st.sampled_from(STATES)),
        unique_by=lambda backend: backend.address,
    ).map(tuple),
    max_unhealthy=st.integers(0, 100),
    all_down=st.sampled_from(["withdraw", "fail_open"]),
    slow_start=st.sampled_from([0, 1, 30]),
)
turns = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(ALL), st.sampled_from(["up", "down", "unknown"])),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=12,
)


def active(each: Pool) -> set[str]:
    return {backend.address for backend in each.backends if backend.state == "active"}


def out(healths: dict[str, Health]) -> set[str]:
    return {address for address, health in healths.items() if health.health == "down"}


@given(st.lists(pools, min_size=1, max_size=3), turns)
def test_rules_hold_through_any_history(
    inventories: list[Pool], history: list[tuple[dict[str, str], int]]
) -> None:
    applied: dict[str, Health] = {}
    now = NOW
    for i, (said, passed) in enumerate(history):
        now += passed
        each = inventories[i * len(inventories) // len(history)]
        before, applied = applied, decide(each, said, applied, now)
        members = {backend.address for backend in each.backends}
        assert set(applied) <= members
        assert all(health.differs and health.since <= now for health in applied.values())
        assert decide(each, said, applied, now) == applied, "it is not settled"
        limit = math.floor(len(active(each)) * each.max_unhealthy / 100)
        fallen = (out(applied) - out(before)) & active(each)
        assert not fallen or len(out(applied) & active(each)) <= limit
        assert all(said.get(a) == "down" for a in out(applied) - out(before))
        assert not any(said.get(a) == "up" for a in out(applied))
        failing = each.all_down == "fail_open" and active(each)
        if failing:
            assert active(each) - out(applied), "the ring is empty"
        elif each.max_unhealthy == 100:
            assert {a for a in members if said.get(a) == "down"} <= out(applied)
        for address in members - out(applied) - out(before):
            share = before.get(address, Health()).share
            assert applied.get(address, Health()).share >= share


@given(pools, st.dictionaries(st.sampled_from(ALL), st.sampled_from(["up", "down"])))
def test_order_of_the_inventory_does_not_matter(each: Pool, said: dict[str, str]) -> None:
    turned = replace(each, backends=tuple(reversed(each.backends)))
    assert decide(each, said, {}, NOW) == decide(turned, said, {}, NOW)


@given(pools, st.dictionaries(st.sampled_from(ALL), st.sampled_from(["up", "down"])), turns)
def test_restart_of_the_agent_changes_nothing(
    each: Pool, said: dict[str, str], later: list[tuple[dict[str, str], int]]
) -> None:
    """Nothing is known then, until checks have answered; weights go on rising."""
    applied = decide(each, said, down(A, B, since=NOW - 9), NOW)
    again = decide(each, {}, applied, NOW + later[0][1])
    assert out(again) == out(applied) or (
        each.all_down == "fail_open" and active(each) <= out(applied)
    )
