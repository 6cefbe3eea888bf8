# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shortcuts to services, and what a plan does to them; FakeKernel refuses one that leads astray."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _plan, _shortcuts
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceEntry, ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils import fake_kernel
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import (
    FakeKernel,
    Killed,
)
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fleets import members

NOW = 1000
SERVICES = 16
POOLS = {"web": {"backends": members("10.0.0.1")}, "api": {"backends": members("10.0.0.2")}}


def sharing(first: int, count: int) -> list[ServiceKey]:
    """Services that have a place, the same, together."""
    keys = [ServiceKey("203.0.113.10", port, "tcp") for port in range(1, 4000)]
    at = _shortcuts.place(keys[first], SERVICES)
    return [key for key in keys if _shortcuts.place(key, SERVICES) == at][:count]


KEYS = [
    *sharing(0, 4),
    *sharing(1, 2),
    ServiceKey("203.0.113.10", 0, "tcp"),
    ServiceKey("2001:db8:100::10", 443, "udp"),
]
wishes = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(sorted(POOLS)), max_size=6)


def fleet_of(wanted: dict[ServiceKey, str]) -> Fleet:
    services: list[dict[str, Any]] = [
        {"name": f"s{KEYS.index(key)}", **key._asdict(), "pool": pool}
        for key, pool in wanted.items()
    ]
    return parse(POOLS, services)


def kernel() -> FakeKernel:
    return FakeKernel(Sizes(ring=53, services=SERVICES, pools=2, backends=4, flows=8))


def bring(wanted: dict[ServiceKey, str], held: FakeKernel) -> _plan.Plan:
    return fake_kernel.bring(fleet_of(wanted), held, NOW)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (("203.0.113.10", 80, "tcp"), 3186),
        (("203.0.113.10", 443, "udp"), 4347),
        (("2001:db8:100::10", 80, "tcp"), 9096),
        (("2001:db8:100::10", 5060, "sctp"), 2257),
    ],
)
def test_place_of_a_service_is_fixed(key: tuple[str, int, str], place: int) -> None:
    assert _shortcuts.place(ServiceKey(*key), 4096) == place


@given(
    st.ip_addresses(),
    st.integers(1, 65535),
    st.sampled_from(["tcp", "udp", "sctp"]),
    st.integers(1, 1 << 20),
)
def test_place_lies_within_the_map(
    address: object, port: int, protocol: str, services: int
) -> None:
    assert 0 <= _shortcuts.place(ServiceKey(str(address), port, protocol), services) < 8 * services


@pytest.mark.parametrize(
    "key",
    [
        lambda i: ("203.0.113.10", 1 + i, "tcp"),
        lambda i: (f"10.1.{i >> 8}.{i & 255}", 443, "tcp"),
        lambda i: (f"2001:db8::{i:x}", 443, "udp"),
        lambda i: (f"203.0.{i >> 4}.1", 8000 + i % 16, "tcp"),
    ],
    ids=["ports", "addresses", "IPv6", "both"],
)
@pytest.mark.parametrize(("services", "least"), [(4096, 0.92), (3000, 0.94), (300, 0.98)])
def test_nearly_all_services_have_a_place(key: Any, services: int, least: float) -> None:
    """As many as by chance: places * (1 - exp(-services / places))."""
    wanted = {ServiceKey(*key(i)): ServiceEntry(i, 0, "") for i in range(services)}
    assert len(_shortcuts.shortcuts(wanted, 4096)) > least * services


def test_shortcut_says_whose_it_is() -> None:
    key = ServiceKey("203.0.113.10", 80, "tcp")
    found = _shortcuts.shortcut(key, ServiceEntry(7, 3, "web"))
    assert len(found) == _shortcuts.BYTES
    assert _shortcuts.leads(found, key)
    for other in (("203.0.113.11", 80, "tcp"), ("203.0.113.10", 81, "tcp"), (key[0], 80, "udp")):
        assert not _shortcuts.leads(found, ServiceKey(*other))
    mapped = ServiceKey("cb00:710a::", 80, "tcp")  # the same words
    assert not _shortcuts.leads(found, mapped)


def test_words_are_written_so_that_nobody_reads_half_a_shortcut() -> None:
    found = _shortcuts.shortcut(ServiceKey("2001:db8::1", 80, "tcp"), ServiceEntry(7, 3, "web"))
    memory = bytearray(2 * _shortcuts.BYTES)
    for number, word in _shortcuts.writes(found, 5):
        assert _shortcuts.taken(bytes(memory)) == {}
        memory[32 + 8 * number : 40 + 8 * number] = word.to_bytes(8, "little")
    assert _shortcuts.taken(bytes(memory)) == {1: found}
    assert memory[52:56] == (5).to_bytes(4, "little")
    number, word = _shortcuts.removal(5)
    memory[32 + 8 * number : 40 + 8 * number] = word.to_bytes(8, "little")
    assert _shortcuts.taken(bytes(memory)) == {}


@given(st.lists(wishes, min_size=1, max_size=5))
def test_shortcuts_are_those_of_the_services_whatever_was_before(
    history: list[dict[ServiceKey, str]],
) -> None:
    held = kernel()
    for wanted in history:
        bring(wanted, held)
        assert held.shortcuts == _shortcuts.shortcuts(held.services, SERVICES)
        assert not bring(wanted, held).changed


@given(st.lists(wishes, min_size=1, max_size=5), wishes, st.data())
def test_death_at_any_write_leads_nobody_astray(
    history: list[dict[ServiceKey, str]], last: dict[ServiceKey, str], data: st.DataObject
) -> None:
    """FakeKernel looks after each write."""
    held = kernel()
    for wanted in history:
        held.writes, held.dies_at = 0, data.draw(st.integers(0, 40))
        with suppress(Killed):
            bring(wanted, held)
    held.dies_at = None
    bring(last, held)
    assert held.shortcuts == _shortcuts.shortcuts(held.services, SERVICES)


def test_lost_and_foreign_shortcuts_are_put_right() -> None:
    held = kernel()
    wanted = dict.fromkeys(KEYS[:3], "web")
    bring(wanted, held)
    right = dict(held.shortcuts)
    place = min(right)
    for wrong in ({}, {place: bytes(32)}, {**right, place + 1: right[place]}):
        held.shortcuts = dict(wrong)
        assert bring(wanted, held).writes.keys() == {"shortcuts"}
        assert held.shortcuts == right
