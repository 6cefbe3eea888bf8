# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predictions against flows that are followed one by one, and the refusal of too much."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _predict, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._predict import (
    RefusedError,
    Shares,
    of_identity,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots

A, B, C, D = 1, 2, 3, 4
NOW = 100


def slots(*triples: tuple[int, int, int]) -> Slots:
    current, previous, tracked = zip(*triples)
    return Slots(array("H", current), array("H", previous), array("I", tracked))


def broken(
    before: tuple[int, int, int], gets: int, living: set[int], tracking: str = "adaptive"
) -> bool:
    """Whether a slot's flows may lose their backend."""
    old = slots(before)
    base = Slots.empty(1) if tracking == "never" else old
    new = _rings.advance(base, [gets], living, NOW)
    return _predict.of_ring(old, new, living).broken == 1


@pytest.mark.parametrize(
    ("before", "gets", "living", "expected"),
    [
        ((A, 0, 0), A, {A, B}, False),
        ((A, 0, 0), B, {A, B}, False),  # tracked from now, A is remembered
        ((A, 0, 0), B, {B}, True),  # A is dead
        ((A, B, 7), C, {A, B, C}, False),  # what is on A is recorded, B stays remembered
        ((A, B, 7), C, {A, C}, True),  # B died, and old flows were on it
        ((A, 0, 7), C, {A, C}, False),  # what is on A is recorded
        ((A, 0, 7), C, {C}, True),
        ((A, B, 7), B, {A, B}, False),
        ((A, 0, 0), 0, {A}, False),  # drained: nobody new, the old ones stay
        ((A, 0, 0), 0, set(), True),
    ],
)
def test_slot_breaks_flows(
    before: tuple[int, int, int], gets: int, living: set[int], expected: bool
) -> None:
    assert broken(before, gets, living) is expected


def test_without_tracking_what_moves_breaks() -> None:
    assert broken((A, 0, 0), B, {A, B}, "never")
    assert not broken((A, 0, 0), A, {A, B}, "never")
    assert broken((A, B, 7), A, {A, B}, "never")  # B's old flows are forgotten


def test_pool_that_had_nobody_moves_nothing() -> None:
    before = slots((0, 0, 0), (0, 0, 0))
    after = _rings.advance(before, [A, B], {A, B}, NOW)
    assert _predict.of_ring(before, after, {A, B}) == Shares(0, 0, 0, 0)


addresses = st.sampled_from(["", "192.0.2.71", "192.0.2.72", "192.0.2.73"])


@given(st.lists(st.tuples(addresses, addresses), min_size=1, max_size=30))
def test_service_with_another_pool_breaks_what_moves(ways: list[tuple[str, str]]) -> None:
    old, new = [old for old, _new in ways], [new for _old, new in ways]
    shares = _predict.of_service(old, [""] * len(ways), new)
    moved = sum(1 for old, new in ways if old and new != old) / len(ways)
    assert shares.moved == pytest.approx(moved)
    assert shares.broken == pytest.approx(moved)
    assert shares.moved == pytest.approx(shares.unavoidable + shares.collateral)


def test_another_identity_sends_flows_anywhere() -> None:
    before = slots((A, 0, 0), (A, 0, 0), (A, 0, 0), (B, 0, 0))
    after = slots((A, 0, 0), (A, 0, 0), (B, 0, 0), (B, 0, 0))
    stays = 3 / 4 * 2 / 4 + 1 / 4 * 2 / 4
    assert of_identity(before, after, False) == Shares(1 - stays, 0, 1 - stays, 1 - stays)
    assert of_identity(before, after, True) == Shares(1 - stays, 0, 1 - stays, 0)
    nobody = slots((0, 0, 0), (0, 0, 0))
    assert of_identity(nobody, slots((A, 0, 0), (A, 0, 0)), False) == Shares(0, 0, 0, 0)
    half = slots((A, 0, 0), (0, 0, 0))
    assert of_identity(half, half, False).moved == 1 / 4


def test_service_that_had_no_ring_moves_nothing() -> None:
    assert _predict.of_service([], [], ["192.0.2.71"] * 5) == Shares(0, 0, 0, 0)


def test_flows_on_the_former_backend_break_with_another_pool() -> None:
    shares = _predict.of_service(["b", "b"], ["a", ""], ["b", "b"])
    assert (shares.moved, shares.broken) == (0, 0.5)


def test_flows_of_a_drained_pool_break_when_its_last_backend_dies() -> None:
    before = slots((0, A, 7), (0, A, 7))
    after = _rings.advance(before, [0, 0], set(), NOW)
    assert _predict.of_ring(before, after, set()).broken == 1


def test_too_much_is_refused_by_name() -> None:
    pools = {"web": Shares(0.3334, 0.3333, 0.0001, 0), "api": Shares(0.05, 0.05, 0, 0)}
    services = {"tls": Shares(0.5, 0.5, 0, 0.5)}
    _predict.require_at_most(100, pools, services)
    _predict.require_at_most(50, pools, services)
    with pytest.raises(RefusedError) as refused:
        _predict.require_at_most(10, pools, services)
    text = str(refused.value)
    assert "nothing written: more than max_moved (10 %)" in text
    assert "pool web: 33.34 % of new flows go elsewhere (33.33 % unavoidable" in text
    assert "service tls: 50.0 %" in text
    assert "api" not in text
    assert "l4lb_max_moved" in text
