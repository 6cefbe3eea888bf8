# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who wins: an override stands until it is given back, its backend leaves, or inventory agrees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils._applied import AppliedError
from ansible_collections.l4lb.xdp.plugins.module_utils._config import STATES, Backend, Fleet, Pool
from ansible_collections.l4lb.xdp.plugins.module_utils._overrides import (
    Override,
    Overrides,
    lines,
    load,
    overridden,
    save,
)

A, B = "192.0.2.71", "192.0.2.72"
FLEET = Fleet((Pool("api", (Backend(A),)), Pool("web", (Backend(A), Backend(B, weight=50)))))

fleets = st.lists(
    st.builds(
        Pool,
        st.sampled_from(["api", "web", "old"]),
        st.lists(
            st.builds(Backend, st.sampled_from([A, B]), st.integers(1, 3), st.sampled_from(STATES)),
            unique_by=lambda backend: backend.address,
        ).map(tuple),
    ),
    unique_by=lambda pool: pool.name,
).map(lambda pools: Fleet(tuple(pools)))
all_overrides = st.dictionaries(
    st.tuples(st.sampled_from(["api", "web", "new"]), st.sampled_from([A, B, "192.0.2.99"])),
    st.builds(
        Override,
        st.none() | st.sampled_from(STATES),
        st.none() | st.integers(1, 3),
        st.integers(0, 5),
    ),
)


def backend_of(fleet: Fleet, pool: str, address: str) -> Backend:
    members = next(p for p in fleet.pools if p.name == pool).backends
    return next(b for b in members if b.address == address)


def test_override_wins_over_inventory_in_its_pool_only() -> None:
    effective, standing = overridden(FLEET, {("web", A): Override("draining", 7)})
    assert backend_of(effective, "web", A) == Backend(A, 7, "draining")
    assert backend_of(effective, "web", B) == Backend(B, 50)
    assert backend_of(effective, "api", A) == Backend(A)
    assert standing == {("web", A): Override("draining", 7)}


def test_state_and_weight_are_judged_each_on_its_own() -> None:
    effective, standing = overridden(FLEET, {("web", B): Override("draining", 50, since=3)})
    assert standing == {("web", B): Override("draining", None, since=3)}
    inventory = replace(FLEET, pools=(Pool("web", (Backend(B, 60, "draining"),)),))
    effective, standing = overridden(inventory, {("web", B): Override("draining", 50, since=3)})
    assert backend_of(effective, "web", B) == Backend(B, 50, "draining")
    assert standing == {("web", B): Override(None, 50, since=3)}


@pytest.mark.parametrize("key", [("web", "192.0.2.99"), ("gone", A)])
def test_override_goes_with_its_backend(key: tuple[str, str]) -> None:
    assert overridden(FLEET, {key: Override("draining")}) == (FLEET, {})


def test_what_inventory_says_too_is_no_override() -> None:
    assert overridden(FLEET, {("web", B): Override("active", 50)}) == (FLEET, {})


@given(fleets, all_overrides)
def test_inventory_that_agrees_takes_the_overrides_in(fleet: Fleet, overrides: Overrides) -> None:
    effective, _standing = overridden(fleet, overrides)
    assert overridden(effective, overrides) == (effective, {})


@given(fleets, all_overrides)
def test_what_stands_says_all_that_differs(fleet: Fleet, overrides: Overrides) -> None:
    effective, standing = overridden(fleet, overrides)
    assert overridden(fleet, standing) == (effective, standing)
    differing = {
        (pool.name, backend.address)
        for pool in fleet.pools
        for backend in pool.backends
        if backend != backend_of(effective, pool.name, backend.address)
    }
    assert set(standing) == differing <= set(overrides)


@given(all_overrides)
def test_file_brings_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, overrides: Overrides
) -> None:
    directory = tmp_path_factory.mktemp("state")
    assert save(directory, overrides) == bool(overrides)
    assert load(directory) == overrides
    assert not save(directory, overrides)


def test_no_override_is_no_file(tmp_path: Path) -> None:
    assert load(tmp_path) == {}
    save(tmp_path, {("web", A): Override("draining")})
    assert save(tmp_path, {})
    assert list(tmp_path.iterdir()) == []


ENTRY = {"pool": "web", "address": A, "state": "draining", "since": 1}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "7",
        "{}",
        json.dumps({"backends": [7]}),
        json.dumps({"backends": {"web": 7}}),
        *(
            json.dumps({"backends": [{**ENTRY, **wrong}]})
            for wrong in (
                {"state": "asleep"},
                {"state": ["draining"]},
                {"weight": 0},
                {"weight": 1001},
                {"weight": True},
                {"weight": "5"},
                {"since": None},
                {"pool": 7},
                {"address": ["192.0.2.71"]},
            )
        ),
    ],
)
def test_file_of_another_hand_is_refused_by_name_with_the_remedy(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "overrides.json").write_text(content)
    with pytest.raises(AppliedError, match=r"overrides\.json.*remove it.*"):
        load(tmp_path)


def test_lines_tell_a_person_what_is_overridden() -> None:
    assert lines({("web", B): Override(weight=5), ("web", A): Override("draining", 7)}) == [
        f"pool web backend {A}: state draining weight 7 (inventory is overridden)",
        f"pool web backend {B}: weight 5 (inventory is overridden)",
    ]
