# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of backends on disk and in the rings: what is written, and death at any write."""

from __future__ import annotations

import copy
import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _backend,
    _health,
    _overrides,
    _plan,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import AppliedError
from ansible_collections.l4lb.xdp.plugins.module_utils._backend import Request
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._health import (
    Health,
    Healths,
    kept,
    known,
    load,
    save,
    set_health,
    weighed,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._overrides import Override
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import (
    FakeKernel,
    Killed,
)

A, B, C = "192.0.2.71", "192.0.2.72", "192.0.2.73"
POOLS: dict[str, Any] = {
    "api": {"backends": [{"address": A}, {"address": C, "weight": 50}]},
    "web": {"backends": [{"address": A}, {"address": B}]},
}
SERVICES = [
    {"name": name, "address": "203.0.113.10", "port": port, "protocol": "tcp", "pool": name}
    for name, port in (("api", 443), ("web", 80))
]
WHOLE = parse(POOLS, SERVICES)
LAST = WHOLE.as_dict()
NOW = 1000
DOWN = Health("down", since=7)

healths = st.dictionaries(
    st.tuples(st.sampled_from(["api", "web", "old"]), st.sampled_from([A, B, C])),
    st.builds(Health, st.sampled_from(["up", "down"]), st.integers(1, 100), st.integers(0, 9)),
)


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_backend, _health):
        monkeypatch.setattr(module, "now_tick", lambda: NOW)


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    """Holds the fleet as inventory has it."""
    kernel = FakeKernel()
    bring(kernel, tmp_path)
    kernel.writes = 0
    return kernel


def bring(kernel: FakeKernel, state_dir: Path, fleet: Fleet = WHOLE) -> None:
    """As a run of services does, or restore."""
    effective, _standing = _overrides.overridden(fleet, _overrides.load(state_dir))
    held = known(state_dir)
    plan = _plan.make(
        weighed(effective, held or {}),
        kernel.actual(),
        kernel.ring,
        kernel.named_by_flows,
        NOW,
        _health.down(held),
    )
    _plan.apply(plan, kernel, lambda: NOW)


def run(kernel: FakeKernel, state_dir: Path, wanted: Healths) -> Outcome:
    return set_health(wanted, LAST, kernel, state_dir)


def receiving(kernel: FakeKernel, pool: str) -> Counter[str | None]:
    """How many slots each backend has."""
    return Counter(kernel.current()[pool])


# --- the file ---


@given(healths)
def test_what_was_saved_is_loaded_but_for_the_usual(
    tmp_path_factory: pytest.TempPathFactory, wanted: Healths
) -> None:
    state_dir = tmp_path_factory.mktemp("state")
    assert save(state_dir, wanted)
    assert load(state_dir) == {key: health for key, health in wanted.items() if health.differs}
    assert not save(state_dir, wanted)


def test_nothing_decided_is_not_the_same_as_all_up(tmp_path: Path) -> None:
    assert (known(tmp_path), load(tmp_path)) == (None, {})
    assert save(tmp_path, {})
    assert (known(tmp_path), load(tmp_path)) == ({}, {})


GOOD = {"pool": "web", "address": A, "health": "down", "share": 100, "since": 7}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"backends": 7},
        {"backends": [{}]},
        *(
            {"backends": [{**GOOD, key: value}]}
            for key, value in (
                ("pool", 7),
                ("address", "192.0.2.071"),
                ("address", "web1"),
                ("health", "unknown"),
                ("health", None),
                ("share", 0),
                ("share", 101),
                ("share", True),
                ("share", "10"),
                ("since", -1),
                ("since", 1.5),
            )
        ),
    ],
)
def test_file_of_another_hand_is_named_with_the_remedy(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "health.json"
    path.write_text(json.dumps({"backends": [GOOD]}))
    assert load(tmp_path) == {("web", A): DOWN}
    path.write_text(json.dumps(content))
    with pytest.raises(AppliedError, match=r"health\.json.*remove it.*restart l4lb-agent"):
        load(tmp_path)


# --- what it makes of a fleet ---


@pytest.mark.parametrize(
    ("weight", "share", "expected"),
    [(100, 10, 10), (100, 99, 99), (50, 25, 13), (1, 10, 1), (3, 50, 2), (1000, 1, 10), (2, 1, 1)],
)
def test_share_of_the_weight_is_rounded_and_at_least_one(
    weight: int, share: int, expected: int
) -> None:
    fleet = parse({"web": {"backends": [{"address": A, "weight": weight}, {"address": B}]}}, [])
    pool = weighed(fleet, {("web", A): Health("up", share)}).pools[0]
    assert [backend.weight for backend in pool.backends] == [expected, 100]


def test_fleet_of_backends_with_all_their_weight_is_the_same() -> None:
    assert weighed(WHOLE, {("web", A): DOWN}) is WHOLE


def test_backend_that_left_is_not_kept() -> None:
    all_of_them = dict.fromkeys((("web", A), ("web", C), ("old", A), ("api", C)), DOWN)
    assert kept(all_of_them, WHOLE) == {("web", A): DOWN, ("api", C): DOWN}


# --- into the rings ---


def test_backend_that_falls_leaves_the_ring_and_no_slot_remembers_it(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    web = next(i for i, pool in kernel.pools.items() if pool.name == "web")
    dead = next(i for i, b in kernel.backends.items() if (b.pool, b.address) == (web, A))
    outcome = run(kernel, tmp_path, {("web", A): DOWN})
    assert outcome.changed
    assert set(receiving(kernel, "web")) == {B}
    assert dead not in kernel.rings[web].previous
    assert set(receiving(kernel, "api")) == {A, C}
    assert kernel.writes == 4  # the pool without and with its digest, the backend, the ring
    assert set(outcome.after) - set(outcome.before) == {
        f"pool web backend {A}: weight 100 active down"
    }
    assert outcome.data["plan"]["pools"]["web"]["moved"] > 40


def test_second_call_writes_nothing(kernel: FakeKernel, tmp_path: Path) -> None:
    wanted = {("web", A): DOWN, ("api", C): Health("up", 10, 7)}
    run(kernel, tmp_path, wanted)
    kernel.writes, written = 0, (tmp_path / "health.json").stat().st_ino
    again = run(kernel, tmp_path, wanted)
    assert (again.changed, kernel.writes) == (False, 0)
    assert (tmp_path / "health.json").stat().st_ino == written, "each write makes a new file"


def test_recovered_backend_has_its_slots_again(kernel: FakeKernel, tmp_path: Path) -> None:
    before = kernel.current()
    run(kernel, tmp_path, {("web", A): DOWN})
    run(kernel, tmp_path, {})
    assert kernel.current() == before
    assert known(tmp_path) == {}


def test_share_is_of_the_weight_that_an_override_gives(kernel: FakeKernel, tmp_path: Path) -> None:
    _overrides.save(tmp_path, {("web", A): Override(weight=50)})
    run(kernel, tmp_path, {("web", A): Health("up", 10)})
    weights = {b.weight for b in kernel.backends.values() if b.address == A}
    assert weights == {5, 100}
    assert receiving(kernel, "web")[A] in (2, 3)  # 53 slots * 5 / 105


def test_all_down_leaves_a_ring_that_points_to_nobody(kernel: FakeKernel, tmp_path: Path) -> None:
    run(kernel, tmp_path, {("web", A): DOWN, ("web", B): DOWN})
    assert set(receiving(kernel, "web")) == {None}


def test_health_of_a_backend_that_was_not_applied_is_left_out(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    run(kernel, tmp_path, {("web", C): DOWN, ("old", A): DOWN, ("web", B): DOWN})
    assert load(tmp_path) == {("web", B): DOWN}


def test_pool_that_the_kernel_lacks_is_warned_of_and_others_are_served(tmp_path: Path) -> None:
    kernel = FakeKernel()
    bring(kernel, tmp_path, parse({"web": POOLS["web"]}, SERVICES[1:]))
    outcome = run(kernel, tmp_path, {("web", A): DOWN, ("api", A): DOWN})
    assert "api; run l4lb.xdp.services" in outcome.warnings[0]
    assert set(receiving(kernel, "web")) == {B}
    bring(kernel, tmp_path)
    assert set(receiving(kernel, "api")) == {C}


@pytest.mark.parametrize("broken", [{"pools": {"web": {"backends": [{"address": A}]}}}, {}])
def test_file_of_services_of_another_hand_is_named(tmp_path: Path, broken: dict[str, Any]) -> None:
    with pytest.raises(AppliedError, match=r"services\.json: remove it"):
        set_health({}, broken, FakeKernel(), tmp_path)
    assert known(tmp_path) is None


def test_rings_are_built_a_few_at_a_time_and_those_first_that_somebody_leaves(
    tmp_path: Path,
) -> None:
    pools = {f"p{i}": {"backends": [{"address": A}, {"address": B}]} for i in range(4)}
    pools["p3"]["backends"][0]["weight"] = 7
    last = parse(pools, []).as_dict()
    kernel = FakeKernel()
    bring(kernel, tmp_path, parse(pools, []))
    slow, falls = Health("up", 10), {(f"p{i}", A): DOWN for i in (1, 2, 3)}
    wanted: Healths = {("p0", B): slow, **falls}
    left = []
    for alike in ({"p1", "p2"}, {"p3"}, {"p0"}, set()):
        before = kernel.current()
        outcome = set_health(wanted, last, kernel, tmp_path, most=1)
        left.append(outcome.data["left"])
        assert {name for name in pools if kernel.current()[name] != before[name]} == alike
        assert outcome.changed == bool(alike)
        assert load(tmp_path) == wanted
    assert left == [2, 1, 0, 0]


# --- the other writers honour it ---


def test_backend_that_is_down_gets_nothing_by_a_run_of_services(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    run(kernel, tmp_path, {("web", A): DOWN, ("api", C): Health("up", 10)})
    before = copy.deepcopy(kernel)
    kernel.writes = 0
    bring(kernel, tmp_path)
    assert kernel.writes == 0
    fresh = FakeKernel()
    bring(fresh, tmp_path)  # a reboot
    assert fresh.current() == before.current()


def test_override_and_health_are_judged_each_on_its_own(kernel: FakeKernel, tmp_path: Path) -> None:
    def set_state(state: str) -> Outcome:
        request = Request(B, pool="web", state=state)
        fleet, udp = _backend.concerned(LAST, request, tmp_path)
        return _backend.set_backend(request, fleet, udp, kernel, tmp_path)[0]

    run(kernel, tmp_path, {("web", A): DOWN})
    assert "no backend is left that gets new flows" in set_state("draining").warnings[0]
    assert set(receiving(kernel, "web")) == {None}
    run(kernel, tmp_path, {})
    assert set(receiving(kernel, "web")) == {A}
    run(kernel, tmp_path, {("web", B): DOWN})
    set_state("active")
    assert set(receiving(kernel, "web")) == {A}
    run(kernel, tmp_path, {})
    assert set(receiving(kernel, "web")) == {A, B}


def test_without_a_file_health_is_what_the_kernel_holds(kernel: FakeKernel, tmp_path: Path) -> None:
    index = next(i for i, b in kernel.backends.items() if b.address == B)
    kernel.backends[index] = replace(kernel.backends[index], health="down")
    bring(kernel, tmp_path)
    assert set(receiving(kernel, "web")) == {A}
    run(kernel, tmp_path, {})
    assert set(receiving(kernel, "web")) == {A, B}


# --- death at any write ---

STEP: dict[str, tuple[Healths, Healths]] = {
    "falls": ({}, {("web", A): DOWN}),
    "returns": ({("web", A): DOWN}, {}),
    "has its weight": ({("web", A): Health("up", 75)}, {}),
    "all down": (
        {("api", C): DOWN},
        dict.fromkeys(itertools.product(POOLS, (A, B, C)), DOWN),
    ),
}


@pytest.mark.parametrize("successor", ["the same", "the way back", "services"])
@pytest.mark.parametrize("step", STEP)
def test_killed_run_leaves_old_or_new_and_any_next_run_converges(
    tmp_path: Path, step: str, successor: str
) -> None:
    before, after = STEP[step]
    old, new = FakeKernel(), FakeKernel()
    for each, name, wanted in ((old, "old", before), (new, "new", after)):
        bring(each, tmp_path / name)
        run(each, tmp_path / name, wanted)
    for dies_at in itertools.count():
        state_dir = tmp_path / str(dies_at)
        kernel = FakeKernel()
        bring(kernel, state_dir)
        run(kernel, state_dir, before)
        kernel.writes, kernel.dies_at = 0, dies_at
        try:
            run(kernel, state_dir, after)
            break
        except Killed:
            pass
        for pool, ring in kernel.current().items():
            assert ring in (old.current()[pool], new.current()[pool])
        kernel.dies_at = None
        if successor == "services":
            bring(kernel, state_dir)
        else:
            run(kernel, state_dir, before if successor == "the way back" else after)
        expected = old if successor == "the way back" else new
        assert kernel.current() == expected.current()
        assert {(b.address, b.health, b.weight) for b in kernel.backends.values()} == {
            (b.address, b.health, b.weight) for b in expected.backends.values()
        }
        kernel.writes = 0
        bring(kernel, state_dir)
        assert kernel.writes == 0
    assert dies_at >= 4
