# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint: equal on nodes that balance alike, and only on those."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _info, _plan
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import (
    SMALL,
    FakeKernel,
)
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fleets import (
    fleet_of,
    fleets,
    members,
)

SOURCE = Path(__file__).parents[4] / "bpf"


@dataclass
class Tables(FakeKernel):
    """A node's maps with its settings."""

    seed: int = 7220431

    def settings(self) -> dict[str, Any]:
        return {"hash_seed": self.seed}


class Node(_info.Node):
    """A node without a kernel that runs this program."""

    def __init__(self, tables: Any, tag: str | None = "6ae9cc9f4a64a2b5") -> None:
        self.tables, self.source = tables, SOURCE
        self.__dict__["program"] = {"tag": tag}


def bring(fleet: Fleet, kernel: FakeKernel, now: int = 1000) -> FakeKernel:
    plan = _plan.make(fleet, kernel.actual(), kernel.ring, kernel.named_by_flows, now)
    _plan.apply(plan, kernel, lambda: now)
    return kernel


def fingerprint(kernel: FakeKernel, **node: Any) -> str:
    return _info._fingerprint(Node(kernel, **node))


@given(st.lists(fleets(), max_size=3), fleets(), fleets())
def test_nodes_agree_exactly_when_services_and_slots_do(
    history: list[Fleet], fleet: Fleet, other: Fleet
) -> None:
    old, new = Tables(), Tables()
    for number, each in enumerate([*history, fleet]):
        bring(each, old, now=1000 + number)
    bring(fleet, new)
    assert fingerprint(old) == fingerprint(new)
    bring(other, new)
    agree = (old.current(), services(old)) == (new.current(), services(new))
    assert (fingerprint(old) == fingerprint(new)) is agree


def services(kernel: FakeKernel) -> dict[Any, str]:
    return {key: kernel.pools[entry.pool].name for key, entry in kernel.services.items()}


FLEET = {"web": members("10.0.0.1", "10.0.0.2"), "dns": members("10.0.0.1", "10.0.0.2")}


def usual(**changed: Any) -> FakeKernel:
    fleet = fleet_of({**FLEET, **changed}, "www web 80", "ns dns 53")
    return bring(fleet, Tables())


def first_slot(kernel: FakeKernel, change: Callable[[Slots], Slots]) -> FakeKernel:
    kernel.rings[0] = change(copy.deepcopy(kernel.rings[0]))
    return kernel


def point_elsewhere(slots: Slots) -> Slots:
    current = slots.current[:]
    current[0] = next(backend for backend in current if backend != current[0])
    return replace(slots, current=current)


@pytest.mark.parametrize(
    "changed",
    [
        lambda: bring(fleet_of(FLEET, "www web 80"), Tables()),
        lambda: bring(fleet_of(FLEET, "www web 80", "ns dns 54"), Tables()),
        lambda: bring(fleet_of(FLEET, "www web 80", "ns web 53"), Tables()),
        lambda: usual(mail=members("10.0.0.1")),
        lambda: usual(web=members("10.0.0.1", "10.0.0.3")),
        lambda: usual(web=members("10.0.0.1", "10.0.0.2", weight=1)[:1]),
        lambda: first_slot(usual(), point_elsewhere),
        lambda: bring(fleet_of(FLEET, "www web 80", "ns dns 53"), Tables(seed=1)),
        lambda: bring(
            fleet_of(FLEET, "www web 80", "ns dns 53"),
            Tables(sizes=Sizes(**{**vars(SMALL), "ring": 59})),
        ),
    ],
    ids="service port pool-of-service pool address backends slot seed ring-size".split(),
)
def test_what_steers_differently_shows(changed: Callable[[], FakeKernel]) -> None:
    assert fingerprint(changed()) != fingerprint(usual())


@pytest.mark.parametrize("tag", ["0123456789abcdef", None])
def test_another_program_shows(tag: str | None) -> None:
    assert fingerprint(usual(), tag=tag) != fingerprint(usual())


@pytest.mark.parametrize(
    "same",
    [
        lambda: bring(fleet_of(FLEET, "ns dns 53", "www2 web 80"), Tables()),
        lambda: usual(web=members("10.0.0.2", "10.0.0.1")),
        lambda: usual(web=[*FLEET["web"], {"address": "10.0.0.3", "state": "disabled"}]),
        lambda: usual(web=members("10.0.0.1", "10.0.0.2", weight=50)),
        lambda: first_slot(usual(), lambda s: replace(s, tracked=array("I", range(len(s))))),
        lambda: first_slot(usual(), lambda s: replace(s, previous=s.current[:])),
    ],
    ids="names order disabled-backend equal-shares tracked previous".split(),
)
def test_what_steers_alike_does_not_show(same: Callable[[], FakeKernel]) -> None:
    assert fingerprint(same()) == fingerprint(usual())


def test_two_pools_that_change_places_show() -> None:
    swapped = usual(web=members("10.0.0.3"), dns=members("10.0.0.4"))
    assert fingerprint(swapped) != fingerprint(
        usual(web=members("10.0.0.4"), dns=members("10.0.0.3"))
    )


def test_value_is_the_same_everywhere() -> None:
    """Of another architecture, Python or release: nodes compare it."""
    content = _info._content(array("H", [0, 300, 7, 300]), usual_backends())
    assert content.hex() == "3fc272e5aa37a864c90301f41416b338"


def usual_backends() -> dict[int, Any]:
    fleet = fleet_of({"web": members("2001:db8:2::1", "10.0.0.9")})
    held = bring(fleet, Tables()).backends
    return {300: held[1], 7: held[2]}


def test_pools_count_backends_and_slots() -> None:
    kernel = usual(web=[*FLEET["web"], {"address": "10.0.0.3", "state": "draining"}])
    (slots,) = (kernel.rings[index] for index, pool in kernel.pools.items() if pool.name == "web")
    slots.tracked[3], slots.tracked[4], slots.previous[4] = 900, 900, 1
    web = _info._pools(Node(kernel))["web"]
    assert web["backends"] == {"active": 2, "draining": 1, "disabled": 0}
    assert (web["tracked_slots"], web["remembering_slots"]) == (2, 1)


def test_what_a_killed_writer_left_without_its_pool_is_reported() -> None:
    kernel = usual()
    del kernel.pools[1]
    node = Node(kernel)
    assert {service.pool for service in kernel.services.values()} == {0, 1}
    assert node.pool_name(1) == "?"
    assert _info._fingerprint(node) != fingerprint(usual())
