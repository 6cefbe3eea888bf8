# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One slot at a time: what a change and the settle time do to current, previous and tracked."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import (
    Moved,
    Slots,
    advance,
    moved,
    settle,
)

A, B, C = 1, 2, 3
LIVING = (A, B, C)
NOW, SINCE = 1000, 900
Triple = tuple[int, int, int]


def slots(*triples: Triple) -> Slots:
    return Slots(
        array("H", [t[0] for t in triples]),
        array("H", [t[1] for t in triples]),
        array("I", [t[2] for t in triples]),
    )


@pytest.mark.parametrize(
    ("before", "desired", "living", "after"),
    [
        # (current, previous, tracked)
        ((A, 0, 0), A, LIVING, (A, 0, 0)),
        ((A, 0, 0), B, LIVING, (B, A, NOW)),
        ((A, 0, 0), B, (B,), (B, 0, NOW)),
        ((A, 0, 0), 0, LIVING, (0, A, NOW)),
        ((A, 0, 0), 0, (), (0, 0, NOW)),
        ((0, 0, 0), A, LIVING, (A, 0, 0)),
        ((B, A, SINCE), B, LIVING, (B, A, SINCE)),
        ((B, A, SINCE), C, LIVING, (C, A, SINCE)),
        ((B, A, SINCE), A, LIVING, (A, A, SINCE)),
        ((B, A, SINCE), C, (B, C), (C, 0, SINCE)),
        ((B, A, SINCE), B, (B, C), (B, 0, SINCE)),
        ((B, A, SINCE), 0, LIVING, (0, A, SINCE)),
        ((0, A, SINCE), B, LIVING, (B, A, SINCE)),
        ((B, 0, SINCE), A, LIVING, (A, 0, SINCE)),
    ],
)
def test_advance(before: Triple, desired: int, living: Collection[int], after: Triple) -> None:
    assert advance(slots(before), [desired], living, NOW) == slots(after)


@pytest.mark.parametrize(
    ("before", "age", "busy", "after"),
    [
        ((B, A, NOW - 11), 10, (), (B, 0, 0)),
        ((B, 0, NOW - 11), 10, (), (B, 0, 0)),
        ((B, A, NOW - 10), 10, (), (B, A, NOW - 10)),
        ((B, A, NOW - 11), 10, (0,), (B, A, NOW - 11)),
        ((B, A, NOW - 11), 10, (1,), (B, 0, 0)),
        ((A, 0, 0), 10, (), (A, 0, 0)),
        ((B, A, NOW + 5), 10, (), (B, A, NOW + 5)),
    ],
)
def test_settle(before: Triple, age: int, busy: Collection[int], after: Triple) -> None:
    assert settle(slots(before), NOW, age, busy) == slots(after)


def test_first_fill_is_settled() -> None:
    assert advance(Slots.empty(3), [A, B, A], LIVING, NOW) == slots((A, 0, 0), (B, 0, 0), (A, 0, 0))


def test_arguments_are_left_alone() -> None:
    before = slots((A, 0, 0), (B, C, SINCE))
    advance(before, [B, A], (), NOW)
    settle(before, NOW, 1)
    assert before == slots((A, 0, 0), (B, C, SINCE))


@pytest.mark.parametrize("desired", [[], [A, B], [-1], [65536], [None], ["1"]])
def test_a_ring_that_does_not_fit_is_refused(desired: list[int]) -> None:
    with pytest.raises(ValueError, match=r"desired slots|backend index"):
        advance(slots((A, 0, 0)), desired, LIVING, NOW)


TRIPLES = st.tuples(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 2**32 - 1))


@given(st.lists(TRIPLES, max_size=20))
def test_bytes_are_the_kernels_struct(triples: list[Triple]) -> None:
    data = slots(*triples).to_bytes()
    assert data == b"".join(struct.pack("=HHI", *triple) for triple in triples)
    assert Slots.from_bytes(data) == slots(*triples)


def test_half_a_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        Slots.from_bytes(bytes(12))


@pytest.mark.parametrize(
    ("current", "desired", "expected"),
    [
        ([A, A, B, B], [A, A, B, B], Moved(0, 0, 0)),
        ([A, A, B, B], [C, A, B, C], Moved(0.5, 0.5, 0)),
        ([A, A, B, B], [B, B, A, A], Moved(1, 0, 1)),
        ([A, A, B, B], [B, A, C, B], Moved(0.5, 0.25, 0.25)),
        ([0, 0, 0, 0], [A, A, B, B], Moved(0, 0, 0)),
        ([A, A, A, A], [0, 0, 0, 0], Moved(1, 1, 0)),
        ([0, 0, A, A], [A, A, B, B], Moved(0.5, 0, 0.5)),
    ],
)
def test_moved(current: list[int], desired: list[int], expected: Moved) -> None:
    assert moved(current, desired) == expected


def test_ticks() -> None:
    assert _rings.tick(0) == 1
    assert _rings.tick(5 << _rings.TICK_SHIFT) == 5
    assert _rings.ticks(0) == 0
    assert _rings.ticks(1) == 2
    assert _rings.ticks(3600) == 6706


@given(st.integers(0, 7 * 86400))
def test_a_duration_in_ticks_is_not_shorter(duration: int) -> None:
    ticks = _rings.ticks(duration)
    assert ticks << _rings.TICK_SHIFT >= duration * 10**9 > (ticks - 1) << _rings.TICK_SHIFT
    assert _rings.seconds(ticks) == duration
