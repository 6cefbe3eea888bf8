# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter of service addresses, and what a plan does to it; FakeKernel refuses to lose a bit."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _filter, _plan
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils import fake_kernel
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import (
    FakeKernel,
    Killed,
)
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fleets import members

NOW = 1000
SERVICES = 64


def sharing(prefix: str) -> list[str]:
    """Addresses of that prefix that have no more than four bits together, in one word."""
    every = (
        f"{prefix}{i:x}" if ":" in prefix else f"{prefix}{i >> 8}.{i & 255}" for i in range(1 << 16)
    )
    return list(itertools.islice((a for a in every if few(*_filter.place(a, SERVICES))), 12))


def few(index: int, bit: int) -> bool:
    return index == 3 and bit in (0, 1, 31, 63)


ADDRESSES = sharing("10.1.") + sharing("2001:db8::")
histories = st.lists(
    st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=6), min_size=1, max_size=5
)


def fleet_at(addresses: list[str]) -> Fleet:
    services = [
        {"name": f"s{i}", "address": address, "port": 80, "protocol": "tcp", "pool": "web"}
        for i, address in enumerate(addresses)
    ]
    return parse({"web": {"backends": members("10.0.0.1")}}, services)


def kernel() -> FakeKernel:
    return FakeKernel(Sizes(ring=53, services=SERVICES, pools=2, backends=4, flows=8))


def bring(addresses: list[str], held: FakeKernel) -> _plan.Plan:
    return fake_kernel.bring(fleet_at(addresses), held, NOW)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("203.0.113.10", (930, 2)),
        ("203.0.113.11", (724, 3)),
        ("2001:db8:100::10", (90, 45)),
        ("2001:db8:100::11", (398, 3)),
        ("::", (0, 0)),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", (964, 41)),
    ],
)
def test_place_of_an_address_is_fixed(address: str, place: tuple[int, int]) -> None:
    assert _filter.place(address, 4096) == place


@given(st.ip_addresses(), st.integers(1, 1 << 20))
def test_place_lies_within_the_map(address: object, services: int) -> None:
    index, bit = _filter.place(str(address), services)
    assert 0 <= index * 64 + bit < 16 * services
    assert 0 <= bit < 64


@pytest.mark.parametrize(
    "prefix", ["10.1.{high}.{low}", "10.{high}.{low}.1", "2001:db8:0:1::{number:x}"]
)
@pytest.mark.parametrize("addresses", [4096, 1000])
def test_filter_stops_the_neighbours_of_its_addresses(prefix: str, addresses: int) -> None:
    """Like any other addresses: of them as many pass as bits are set."""
    every = [prefix.format(high=i >> 8, low=i & 255, number=i) for i in range(addresses + 4096)]
    filled = _filter.words(every[:addresses], 4096)
    places = [_filter.place(address, 4096) for address in every[addresses:]]
    through = sum(filled.get(index, 0) >> bit & 1 for index, bit in places)
    assert through < 1.6 * 4096 * addresses / (16 * 4096)


@given(histories)
def test_filter_is_that_of_the_addresses_whatever_was_before(history: list[list[str]]) -> None:
    held = kernel()
    for addresses in history:
        bring(addresses, held)
        assert held.filter == _filter.words(addresses, SERVICES)
        assert not bring(addresses, held).changed


@given(histories, st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=6), st.data())
def test_death_at_any_write_leaves_no_service_without_its_bit(
    history: list[list[str]], last: list[str], data: st.DataObject
) -> None:
    held = kernel()
    for addresses in history:
        held.writes, held.dies_at = 0, data.draw(st.integers(0, 24))
        with suppress(Killed):
            bring(addresses, held)
        assert all(held.passes(key.address) for key in held.services)
        assert all(held.passes(address) for address in held.addresses)
    held.dies_at = None
    bring(last, held)
    assert held.filter == _filter.words(last, SERVICES)


def test_lost_and_foreign_bits_are_put_right() -> None:
    held = kernel()
    bring(ADDRESSES[:2], held)
    wanted = dict(held.filter)
    for wrong in ({}, {**wanted, 0: (1 << 64) - 1}):
        held.filter = dict(wrong)
        plan = bring(ADDRESSES[:2], held)
        assert plan.writes.keys() == {"filter"}
        assert held.filter == wanted
