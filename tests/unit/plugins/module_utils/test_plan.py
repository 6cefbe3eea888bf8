# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan against a kernel of dictionaries: convergence, stability, order, and death at any
write.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _plan, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._plan import Plan, PlanError
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import (
    FakeKernel,
    Killed,
)
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fleets import (
    ADDRESSES,
    fleet_of,
    fleets,
    members,
)

NOW = 1000


def plan_for(fleet: Fleet, kernel: FakeKernel) -> Plan:
    return _plan.make(fleet, kernel.actual(), kernel.ring, kernel.named_by_flows, NOW)


def bring(fleet: Fleet, kernel: FakeKernel) -> Plan:
    plan = plan_for(fleet, kernel)
    _plan.apply(plan, kernel, lambda: NOW)
    return plan


@given(st.lists(fleets(), min_size=1, max_size=4))
def test_second_run_writes_nothing(history: list[Fleet]) -> None:
    kernel = FakeKernel()
    for fleet in history:
        bring(fleet, kernel)
        again = plan_for(fleet, kernel)
        assert not again.changed
        assert again.before == again.after


@given(fleets(), fleets())
def test_outline_tells_all_but_the_content_of_rings(held: Fleet, fleet: Fleet) -> None:
    kernel = FakeKernel()
    bring(held, kernel)
    down = {(pool.name, b.address) for pool in fleet.pools for b in pool.backends[:1]}
    args = kernel.named_by_flows, NOW, down
    whole = _plan.make(fleet, kernel.actual(), kernel.ring, *args)
    outline = _plan.outline(fleet, kernel.actual(), kernel.named_by_flows, down)
    assert {**outline.writes, "rings": whole.rings} == {**whole.writes, "rings": whole.rings}
    assert set(whole.rings) <= set(outline.pools)


@given(st.lists(fleets(), max_size=3), fleets())
def test_history_does_not_matter(history: list[Fleet], fleet: Fleet) -> None:
    old, new = FakeKernel(), FakeKernel()
    for each in history:
        bring(each, old)
    bring(fleet, old)
    bring(fleet, new)
    assert old.current() == new.current()
    assert {k: s.name for k, s in old.services.items()} == {
        k: s.name for k, s in new.services.items()
    }


@given(fleets(), fleets(), fleets(), st.integers(0, 60))
def test_death_at_any_write_leaves_old_or_new_and_any_next_run_converges(
    first: Fleet, second: Fleet, third: Fleet, dies_at: int
) -> None:
    kernel = FakeKernel()
    bring(first, kernel)
    before = copy.deepcopy(kernel)
    finished = copy.deepcopy(kernel)
    bring(second, finished)
    kernel.writes, kernel.dies_at = 0, dies_at
    try:
        bring(second, kernel)
    except Killed:
        for index, slots in kernel.rings.items():
            assert slots in (before.rings.get(index), finished.rings.get(index))
        for service in kernel.services.values():
            assert service.pool in kernel.rings
    kernel.dies_at = None
    for fleet in (second, first, third):
        # The next run may ask for something else: what was there before, for one.
        next_kernel, fresh = copy.deepcopy(kernel), FakeKernel()
        bring(fleet, next_kernel)
        bring(fleet, fresh)
        assert next_kernel.current() == fresh.current()
        assert not plan_for(fleet, next_kernel).changed


@given(st.lists(fleets(), min_size=2, max_size=4))
def test_index_of_a_backend_is_stable_and_names_one_address(history: list[Fleet]) -> None:
    kernel = FakeKernel(Sizes(ring=53, services=16, pools=6, backends=200, flows=8))
    named: dict[int, str] = {}
    for fleet in history:
        bring(fleet, kernel)
        for index, backend in kernel.backends.items():
            assert named.setdefault(index, backend.address) == backend.address


@given(st.lists(fleets(), min_size=1, max_size=3))
def test_addresses_are_those_of_the_services(history: list[Fleet]) -> None:
    """FakeKernel refuses a service before its address, and an address's end before its last."""
    kernel = FakeKernel()
    for fleet in history:
        bring(fleet, kernel)
        firsts = {s.address: s for s in reversed(fleet.services)}
        keys = {a: ServiceKey(a, s.port, s.protocol) for a, s in firsts.items()}
        entries = {a: kernel.services[key] for a, key in keys.items()}
        assert kernel.addresses == {a: (entry.id, entry.pool) for a, entry in entries.items()}


def test_freed_index_is_reused_only_when_no_flow_names_it() -> None:
    kernel = FakeKernel(Sizes(ring=53, services=4, pools=2, backends=3, flows=8))
    bring(fleet_of({"web": members("10.0.0.1", "10.0.0.2")}), kernel)
    held = {backend.address: index for index, backend in kernel.backends.items()}
    kernel.flows = {held["10.0.0.1"]}
    swapped = fleet_of({"web": members("10.0.0.2", "10.0.0.3")})
    full = r"map full: backend 10\.0\.0\.3 of pool web.*l4lb_max_backends"
    with pytest.raises(PlanError, match=full):
        bring(swapped, kernel)
    bring(fleet_of({"web": members("10.0.0.2")}), kernel)
    with pytest.raises(PlanError, match="map full"):
        bring(swapped, kernel)
    kernel.flows = set()
    bring(swapped, kernel)
    assert kernel.backends[held["10.0.0.1"]].address == "10.0.0.3"


@pytest.mark.parametrize(
    ("pools", "services", "message"),
    [
        ({"a": [], "b": [], "c": []}, [], "pool c.*l4lb_max_pools"),
        ({"a": []}, ["x a 1", "y a 2", "z a 3"], "service z.*l4lb_max_services"),
    ],
)
def test_full_map_is_refused_before_anything_is_written(
    pools: dict[str, Any], services: list[str], message: str
) -> None:
    kernel = FakeKernel(Sizes(ring=53, services=2, pools=2, backends=3, flows=8))
    with pytest.raises(PlanError, match=message):
        bring(fleet_of(pools, *services), kernel)
    assert kernel.writes == 0


def test_prediction_of_an_added_backend() -> None:
    kernel = FakeKernel(Sizes(ring=10007, services=4, pools=2, backends=8, flows=8))
    bring(fleet_of({"web": members("10.0.0.1", "10.0.0.2")}), kernel)
    plan = bring(fleet_of({"web": members("10.0.0.1", "10.0.0.2", "10.0.0.3")}), kernel)
    share = plan.pool_shares["web"].percent()
    assert share["unavoidable"] == pytest.approx(33.3, abs=0.1)
    assert share["moved"] == pytest.approx(share["unavoidable"] + share["collateral"], abs=0.02)
    assert share["collateral"] < 10
    assert share["broken"] == 0


def test_prediction_of_a_removed_backend_says_what_breaks() -> None:
    kernel = FakeKernel(Sizes(ring=10007, services=4, pools=2, backends=8, flows=8))
    bring(fleet_of({"web": members("10.0.0.1", "10.0.0.2")}), kernel)
    plan = plan_for(fleet_of({"web": members("10.0.0.1")}), kernel)
    assert plan.pool_shares["web"].percent()["broken"] == pytest.approx(50, abs=0.1)
    drained = fleet_of({"web": members("10.0.0.1") + members("10.0.0.2", state="draining")})
    assert plan_for(drained, kernel).pool_shares["web"].percent()["broken"] == 0


def test_diff_of_one_change_is_one_line() -> None:
    kernel = FakeKernel()
    bring(fleet_of({"web": members("10.0.0.1", "10.0.0.2")}, "www web 80"), kernel)
    changed = members("10.0.0.1") + members("10.0.0.2", weight=50)
    plan = plan_for(fleet_of({"web": changed}, "www web 80"), kernel)
    gone, new = set(plan.before) - set(plan.after), set(plan.after) - set(plan.before)
    assert gone == {"pool web backend 10.0.0.2: weight 100 active"}
    assert new == {"pool web backend 10.0.0.2: weight 50 active"}


def test_never_tracked_pool_keeps_settled_slots() -> None:
    kernel = FakeKernel()
    for addresses in (ADDRESSES[:2], ADDRESSES[:3]):
        pools = {"web": {"tracking": "never", "backends": members(*addresses)}}
        bring(parse(pools, []), kernel)
    assert kernel.rings[0].tracked_count() == 0


def test_read_back_notices_another_writer() -> None:
    kernel = FakeKernel()
    fleet = fleet_of({"web": members("10.0.0.1")}, "www web 80")
    plan = bring(fleet, kernel)
    _plan.verify(plan, fleet, kernel, NOW)
    kernel.services.clear()
    with pytest.raises(PlanError, match="somebody else writes"):
        _plan.verify(plan, fleet, kernel, NOW)


def test_times_survive_the_kernel() -> None:
    for duration in (1, 2, 3, 14, 15, 60, 61, 3600, 86400):
        assert _rings.seconds(_rings.ticks(duration)) == duration


def test_changed_slots_are_tracked_from_when_their_ring_is_written() -> None:
    kernel = FakeKernel()
    pools = {"a": members(*ADDRESSES[:2]), "b": members(*ADDRESSES[:2])}
    bring(fleet_of(pools), kernel)
    bring(fleet_of({**pools, "a": members(*ADDRESSES[:3])}), kernel)
    earlier = kernel.rings[0].tracked[:]
    pools = {name: members(*ADDRESSES[:4]) for name in pools}
    fleet = fleet_of(pools)
    now = NOW + 10
    plan = _plan.make(fleet, kernel.actual(), kernel.ring, kernel.named_by_flows, now)
    ticks = iter([now + 1, now + 2])
    _plan.apply(plan, kernel, lambda: next(ticks))
    for index, written in ((0, now + 1), (1, now + 2)):
        assert written in kernel.rings[index].tracked
        assert set(kernel.rings[index].tracked) <= {0, NOW, written}
    assert all(now == then for then, now in zip(earlier, kernel.rings[0].tracked) if then)
    _plan.verify(plan, fleet, kernel, now)


def test_backend_that_comes_back_keeps_its_index_from_others() -> None:
    kernel = FakeKernel(Sizes(ring=53, services=4, pools=2, backends=4, flows=8))
    bring(fleet_of({"a": members("10.0.0.1"), "b": members("10.0.0.2", "10.0.0.3")}), kernel)
    bring(fleet_of({"a": members("10.0.0.1"), "b": members("10.0.0.2")}), kernel)
    both = fleet_of({"a": members("10.0.0.1", "10.0.0.9"), "b": members("10.0.0.2", "10.0.0.3")})
    with pytest.raises(PlanError, match=r"map full: backend 10\.0\.0\.9"):
        plan_for(both, kernel)


def test_lost_ring_of_a_pool_is_written_again() -> None:
    kernel = FakeKernel()
    fleet = fleet_of({"a": members(*ADDRESSES[:2]), "empty": []}, "x a 1", "y empty 2")
    bring(fleet, kernel)
    wanted = kernel.current()
    for index in kernel.pools:
        kernel.pools[index] = replace(kernel.pools[index], ring_digest=0)
        del kernel.rings[index]
    bring(fleet, kernel)
    assert kernel.current() == wanted
