# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rings as built from addresses and weights: shares, disruption, and the same on every node."""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import NONE, build, ordered

SIZE = 65537
SMALL = 251
ALGORITHMS = ("maglev", "rendezvous")
MIXED = {
    "192.0.2.71": 100,
    "192.0.2.72": 50,
    "192.0.2.73": 1000,
    "2001:db8:2::71": 100,
    "2001:db8:2::72": 7,
}


def numbered(count: int) -> dict[str, int]:
    return {f"10.0.{i // 250}.{i % 250}": 100 for i in range(count)}


def by_address(algorithm: str, weights: dict[str, int], size: int) -> list[str]:
    names = [*ordered(weights), "none"]
    return [names[i] for i in build(algorithm, weights, size)]


def differing(one: list[str], two: list[str]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in zip(one, two) if a != b]


WEIGHTS = st.dictionaries(st.sampled_from(list(numbered(60))), st.integers(1, 1000), max_size=12)


@pytest.mark.parametrize(
    ("algorithm", "weights", "size", "digest"),
    [
        ("maglev", MIXED, SIZE, "6c7c6a83c40c68e2df8a1039a51582e660b9e2431ab42b01a727e4db0a18aecb"),
        (
            "maglev",
            numbered(30),
            SIZE,
            "0c2e93cc7f61601a5840426c5ae621aca7b00675d3fc6ceca263e2bb2139e0bd",
        ),
        (
            "maglev",
            {"192.0.2.71": 5},
            SMALL,
            "b5910765115e2c7b85e3b740dac1a62a052e3d97d0de240e0c988b2b03d56b4e",
        ),
        (
            "rendezvous",
            MIXED,
            SIZE,
            "a69ab3b4c99ac57dcae6259c77df9fa06081b2926a3c94d24b00dc1116876861",
        ),
        (
            "rendezvous",
            numbered(30),
            SMALL,
            "b0b70577ffcfef0910e4ecc0682af4ff99caec79dfbfc6d030f65dc906c7170c",
        ),
    ],
)
def test_rings_never_change(
    algorithm: str, weights: dict[str, int], size: int, digest: str
) -> None:
    """Nodes of two versions of the collection must agree: a new digest is a new algorithm."""
    ring = ",".join(map(str, build(algorithm, weights, size)))
    assert hashlib.sha256(ring.encode()).hexdigest() == digest


def test_order_is_by_bytes_with_ipv4_first() -> None:
    addresses = ["2001:db8::1", "192.0.2.10", "192.0.2.9", "::2", "10.0.0.1"]
    assert ordered(addresses) == ["10.0.0.1", "192.0.2.9", "192.0.2.10", "::2", "2001:db8::1"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ring_without_backends(algorithm: str) -> None:
    assert build(algorithm, {}, 7) == [NONE] * 7


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ring_of_one_backend(algorithm: str) -> None:
    assert build(algorithm, {"192.0.2.71": 3}, 7) == [0] * 7


@pytest.mark.parametrize(
    ("algorithm", "weights", "size", "why"),
    [
        ("random", {}, 7, "algorithm 'random' is not one of maglev, rendezvous"),
        ("maglev", {}, 65536, "ring size 65536 is not a prime"),
        ("maglev", {}, 1, "ring size 1 is not a prime"),
        ("maglev", {"192.0.2.1": 0}, 7, "a weight is below 1"),
        ("maglev", numbered(7), 7, "7 backends are too many for a ring of 7 slots"),
    ],
)
def test_what_no_ring_can_be_made_of(
    algorithm: str, weights: dict[str, int], size: int, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        build(algorithm, weights, size)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=40, deadline=None)
@given(weights=WEIGHTS, shuffle=st.randoms(use_true_random=False))
def test_order_of_inventory_does_not_matter(
    algorithm: str, weights: dict[str, int], shuffle: random.Random
) -> None:
    turned = list(weights.items())
    shuffle.shuffle(turned)
    assert build(algorithm, dict(turned), SMALL) == build(algorithm, weights, SMALL)


@settings(max_examples=40, deadline=None)
@given(weights=WEIGHTS, factor=st.integers(2, 9))
def test_maglev_knows_only_proportions(weights: dict[str, int], factor: int) -> None:
    scaled = {address: weight * factor for address, weight in weights.items()}
    assert build("maglev", scaled, SMALL) == build("maglev", weights, SMALL)


@settings(max_examples=60, deadline=None)
@given(weights=WEIGHTS.filter(bool))
def test_maglev_shares_are_the_weights_but_for_rounding(weights: dict[str, int]) -> None:
    counts = Counter(by_address("maglev", weights, SMALL))
    for address, weight in weights.items():
        share = Fraction(weight, sum(weights.values()))
        assert abs(counts[address] - share * SMALL) <= (1 + share * len(weights)) / 2


def test_maglev_at_full_size_is_within_one_percent() -> None:
    weights = {address: 10 + i * 10 for i, address in enumerate(numbered(20))}
    counts = Counter(by_address("maglev", weights, SIZE))
    for address, weight in weights.items():
        assert counts[address] == pytest.approx(SIZE * weight / sum(weights.values()), rel=0.01)


@pytest.mark.parametrize("weights", [numbered(3), {"192.0.2.71": 100, "192.0.2.72": 50}, MIXED])
def test_rendezvous_at_full_size_is_within_what_chance_does(weights: dict[str, int]) -> None:
    counts = Counter(by_address("rendezvous", weights, SIZE))
    for address, weight in weights.items():
        share = weight / sum(weights.values())
        deviation = math.sqrt(SIZE * share * (1 - share))
        assert abs(counts[address] - SIZE * share) < 4 * deviation


def test_rendezvous_shares_have_no_bias_over_many_rings() -> None:
    """Ten rings of weights 1 and 1000: the rare backend gets neither more nor less."""
    rare = sum(
        build("rendezvous", {f"192.0.2.{i}": 1, f"198.51.100.{i}": 1000}, SIZE).count(0)
        for i in range(1, 11)
    )
    assert abs(rare - 10 * SIZE / 1001) < 4 * math.sqrt(10 * SIZE / 1001)


@settings(max_examples=40, deadline=None)
@given(weights=WEIGHTS.filter(lambda w: len(w) > 1), data=st.data())
def test_rendezvous_moves_nothing_between_two_others(
    weights: dict[str, int], data: st.DataObject
) -> None:
    changed = data.draw(st.sampled_from(sorted(weights)))
    weight = data.draw(st.integers(0, 1000))
    after = {a: w for a, w in weights.items() if a != changed} | (
        {changed: weight} if weight else {}
    )
    moves = differing(
        by_address("rendezvous", weights, SMALL), by_address("rendezvous", after, SMALL)
    )
    assert all(changed in move for move in moves)
    if weight <= weights[changed]:
        assert all(old == changed for old, _new in moves)
    else:
        assert all(new == changed for _old, new in moves)


@pytest.mark.parametrize("count", [3, 10, 30])
def test_maglev_collateral_of_a_removal_is_small(count: int) -> None:
    """The paper's figure 11 at M = 65537: some percent of the slots of the others at most."""
    weights = numbered(count)
    gone = list(weights)[count // 2]
    before = by_address("maglev", weights, SIZE)
    after = by_address("maglev", {a: w for a, w in weights.items() if a != gone}, SIZE)
    collateral = [old for old, _new in differing(before, after) if old != gone]
    assert len(collateral) < 0.02 * SIZE


def test_logarithm_is_as_exact_as_documented() -> None:
    draw = random.Random(7)
    draws = [draw.getrandbits(32) for _draw in range(20_000)]
    draws += [*range(1000), *range(2**32 - 1000, 2**32)]
    for value, cost in zip(draws, _rings._costs(draws)):
        left = (2**32 - value - 0.5) / 2**32
        exact = -math.log1p(-left) / math.log(2)
        error = cost / 2**44 - exact
        assert -1e-12 < error < 4.4e-8
        assert abs(error) < 5e-4 * exact
        assert cost > 0


def test_draws_do_not_depend_on_the_size_of_the_ring() -> None:
    assert _rings._draws(b"\x0a\x00\x00\x01", 7) == _rings._draws(b"\x0a\x00\x00\x01", 11)[:7]
    assert isinstance(_rings._draws(b"\x0a\x00\x00\x01", 7), array)
