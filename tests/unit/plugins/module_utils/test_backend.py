# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backend's state and weight: what is refused, what is set, and death at any write."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _backend, _overrides, _plan
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import AppliedError
from ansible_collections.l4lb.xdp.plugins.module_utils._backend import (
    BackendError,
    Request,
    checked,
    concerned,
    decide,
    set_backend,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError, Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._overrides import Override
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import (
    FakeKernel,
    Killed,
)

A, B, C = "192.0.2.71", "192.0.2.72", "192.0.2.73"
POOLS = {
    "api": {"backends": [{"address": A}, {"address": C, "weight": 50}]},
    "dns": {"backends": [{"address": B}], "udp_transition": 30},
    "web": {"backends": [{"address": A, "weight": 20}, {"address": B, "state": "draining"}]},
}
SERVICES = [
    {"name": name, "address": "203.0.113.10", "port": port, "protocol": protocol, "pool": name}
    for name, port, protocol in (("api", 443, "tcp"), ("dns", 53, "udp"), ("web", 80, "tcp"))
]
WHOLE = parse(POOLS, SERVICES)
LAST = WHOLE.as_dict()
NOW = 1000


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "now_tick", lambda: NOW)


@pytest.fixture
def kernel() -> FakeKernel:
    """Holds the fleet as inventory has it."""
    kernel = FakeKernel()
    bring(WHOLE, kernel)
    kernel.writes = 0
    return kernel


def bring(fleet: Fleet, kernel: FakeKernel) -> None:
    """As a run of services does, or restore."""
    plan = _plan.make(fleet, kernel.actual(), kernel.ring, kernel.named_by_flows, NOW)
    _plan.apply(plan, kernel, lambda: NOW)


def run(
    kernel: FakeKernel, state_dir: Path, address: str = A, dry: bool = False, **fields: Any
) -> Outcome:
    request = checked(Request(address, **fields))
    fleet, udp = concerned(LAST, request, state_dir)
    return set_backend(request, fleet, udp, kernel, state_dir, dry)[0]


def states(kernel: FakeKernel, address: str) -> dict[str, str]:
    return {
        kernel.pools[b.pool].name: b.state for b in kernel.backends.values() if b.address == address
    }


# --- what is refused ---


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"address": "web1"}, r"address: 'web1' is not an IPv4 or IPv6 address"),
        ({"weight": 0}, r"weight: 0 is not an integer from 1 to 1000 \(to stop.*draining\)"),
        ({"weight": 1001}, r"weight: 1001 is not"),
        ({"timeout": 0}, r"timeout: 0 is not an integer from 1 to 86400 \(seconds\)"),
        ({"idle": 0}, r"idle: 0 is not"),
        ({"wait": "flows", "timeout": 59}, r"timeout: 59 is below idle \(60\)"),
        ({"wait": "flows", "state": "active"}, r"wait: needs state draining or disabled"),
    ],
)
def test_mistake_is_named_with_what_is_allowed(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        checked(Request(**{"address": A, "state": "draining", **fields}))


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        checked(Request("web1", weight=0, timeout=0))
    assert len(caught.value.mistakes) == 3


def test_address_may_be_written_in_any_way() -> None:
    assert checked(Request("2001:DB8::0:71")).address == "2001:db8::71"


@pytest.mark.parametrize(
    ("last", "fields", "text"),
    [
        (None, {}, r"services\.json.*run l4lb\.xdp\.services first"),
        (LAST, {"address": "192.0.2.99"}, r"192\.0\.2\.99 is not a backend of any pool.*api, dns"),
        (
            LAST,
            {"pool": "wbe"},
            r"pool: wbe is not one of.*api, dns, web; name one of them, or add",
        ),
        (LAST, {"pool": "dns"}, rf"{A} is not a backend of pool dns, which has {B}; name one"),
        ({"pools": {}, "services": []}, {}, r"there are none"),
    ],
)
def test_unknown_backend_is_named_with_those_that_exist(
    tmp_path: Path, last: Any, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(BackendError, match=text):
        concerned(last, Request(**{"address": A, **fields}), tmp_path)


def test_list_of_those_that_exist_is_short(tmp_path: Path) -> None:
    last = {"pools": {f"p{i:03}": {"backends": []} for i in range(300)}, "services": []}
    with pytest.raises(BackendError, match=r"\(p000, .*p009, \.\.\.\)"):
        concerned(last, Request(A), tmp_path)


@pytest.mark.parametrize("last", [7, [], {}, {"pools": 7}, {"pools": {"web": 7}, "services": []}])
def test_file_of_another_hand_is_named_with_the_remedy(tmp_path: Path, last: Any) -> None:
    with pytest.raises(AppliedError, match=r"services\.json: remove it"):
        concerned(last, Request(A), tmp_path)


def test_waiting_for_an_active_backend_is_refused_before_a_write(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"wait: .*backend {A} of pool api is active"):
        run(kernel, tmp_path, weight=5, wait="flows")
    assert (kernel.writes, _overrides.load(tmp_path)) == (0, {})


def test_pool_that_the_kernel_lacks_is_refused_before_a_write(tmp_path: Path) -> None:
    kernel = FakeKernel()
    with pytest.raises(BackendError, match=r"run l4lb\.xdp\.services, then this again"):
        run(kernel, tmp_path, state="draining")
    assert (kernel.writes, _overrides.load(tmp_path)) == (0, {})


# --- what is set ---


def test_every_pool_with_the_address_is_meant_unless_one_is_named(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    run(kernel, tmp_path, state="draining", pool="web")
    assert states(kernel, A) == {"api": "active", "web": "draining"}
    run(kernel, tmp_path, state="draining")
    assert states(kernel, A) == {"api": "draining", "web": "draining"}


def test_only_what_concerns_the_pool_is_written(kernel: FakeKernel, tmp_path: Path) -> None:
    before = copy.deepcopy(kernel)
    outcome = run(kernel, tmp_path, state="draining", pool="web")
    assert list(outcome.data["plan"]["pools"]) == ["web"]
    assert kernel.writes == 4  # the backend, the pool without and with its digest, the ring
    for index, pool in kernel.pools.items():
        if pool.name != "web":
            assert kernel.rings[index] == before.rings[index]
            assert pool == before.pools[index]


def test_second_run_changes_nothing(kernel: FakeKernel, tmp_path: Path) -> None:
    for fields in ({"state": "draining"}, {"state": "draining", "weight": 20}, {"weight": 20}):
        run(kernel, tmp_path, **fields)
        kernel.writes = 0
        again = run(kernel, tmp_path, **fields)
        assert (again.changed, kernel.writes) == (False, 0)
        assert again.before == again.after


def test_result_tells_both_what_is_and_what_inventory_has(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    outcome = run(kernel, tmp_path, state="draining", weight=50)
    assert outcome.changed
    assert outcome.data["backend"] == [
        {
            "pool": pool,
            "address": A,
            "state": "draining",
            "weight": 50,
            "overridden": True,
            "inventory": {"state": "active", "weight": weight},
        }
        for pool, weight in (("api", 100), ("web", 20))
    ]
    assert set(outcome.after) - set(outcome.before) == {
        f"pool api backend {A}: weight 50 draining",
        f"pool api backend {A}: state draining weight 50 (inventory is overridden)",
        f"pool web backend {A}: weight 50 draining",
        f"pool web backend {A}: state draining weight 50 (inventory is overridden)",
    }


def test_dry_run_predicts_the_same_and_writes_nothing(kernel: FakeKernel, tmp_path: Path) -> None:
    dry = run(kernel, tmp_path, dry=True, state="disabled")
    assert (kernel.writes, list(tmp_path.iterdir())) == (0, [])
    wet = run(kernel, tmp_path, state="disabled")
    assert (dry.changed, dry.data, dry.after) == (wet.changed, wet.data, wet.after)


def test_state_that_inventory_has_leaves_no_override(kernel: FakeKernel, tmp_path: Path) -> None:
    run(kernel, tmp_path, state="draining")
    given_back = run(kernel, tmp_path, state="active")
    assert given_back.changed
    assert not any(backend["overridden"] for backend in given_back.data["backend"])
    assert _overrides.load(tmp_path) == {}


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"state": "inventory"}, None),
        ({"state": "inventory", "weight": 7}, Override(None, 7)),
        ({"weight": 20}, Override("disabled")),
        ({"state": "active"}, Override(None, 5)),
    ],
)
def test_what_is_given_back_and_what_stays(fields: dict[str, Any], left: Override | None) -> None:
    fleet, _udp = concerned(LAST, Request(A, pool="web"), Path())
    held = {("web", A): Override("disabled", 5), ("dns", B): Override("disabled")}
    _effective, standing = decide(Request(A, **fields), fleet, held, NOW)
    expected = {} if left is None else {("web", A): replace(left, since=NOW)}
    assert standing == {("dns", B): Override("disabled"), **expected}


def test_since_is_when_the_override_last_changed() -> None:
    fleet, _udp = concerned(LAST, Request(A, pool="web"), Path())
    held = {("web", A): Override("draining", None, since=5)}
    for request in (Request(A, state="draining"), Request(A, state="draining", weight=20)):
        assert decide(request, fleet, held, NOW)[1] == held


@pytest.mark.parametrize(
    ("address", "fields", "warned"),
    [
        (A, {"state": "draining", "pool": "api"}, []),
        (A, {"state": "draining"}, ["pool web: no backend is left that gets new flows"]),
        (B, {"state": "disabled"}, ["pool dns: no backend is left that gets new flows"]),
        (B, {"state": "active"}, []),
    ],
)
def test_pool_left_without_a_backend_for_new_flows_is_warned_of(
    kernel: FakeKernel, tmp_path: Path, address: str, fields: dict[str, Any], warned: list[str]
) -> None:
    outcome = run(kernel, tmp_path, address, **fields)
    assert [text.partition(":")[0] for text in outcome.warnings] == [
        w.partition(":")[0] for w in warned
    ]
    for pool in ("web", "dns"):
        index = next(i for i, p in kernel.pools.items() if p.name == pool)
        empty = not any(kernel.rings[index].current)
        assert empty == any(pool in text for text in warned), "the warning tells what the ring does"


def test_backends_that_are_down_get_no_new_flows(kernel: FakeKernel, tmp_path: Path) -> None:
    index = next(i for i, b in kernel.backends.items() if b.address == C)
    kernel.backends[index] = replace(kernel.backends[index], health="down")
    outcome = run(kernel, tmp_path, pool="api", state="draining")
    assert outcome.warnings[0].startswith("pool api: no backend is left")


def test_pool_without_tracking_is_warned_of(tmp_path: Path) -> None:
    fleet = parse({"web": {**POOLS["api"], "tracking": "never"}}, [])
    kernel = FakeKernel()
    bring(fleet, kernel)
    request = Request(A, state="draining")
    outcome, _targets = set_backend(request, fleet, frozenset(), kernel, tmp_path)
    assert "tracking: never" in outcome.warnings[0]


def test_draining_backends_are_waited_for_and_disabled_ones_are_not(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    def targets(**fields: Any) -> list[tuple[str, int]]:
        request = Request(B, wait="flows", **fields)
        fleet, udp = concerned(LAST, request, tmp_path)
        found = set_backend(request, fleet, udp, kernel, tmp_path)[1]
        assert all(kernel.backends[target.index].address == B for target in found)
        return [(target.pool, target.udp_transition) for target in found]

    assert targets(state="draining") == [("dns", 30), ("web", 0)]
    assert targets(state="disabled", pool="web") == []


# --- who wins, and death at any write ---


def test_override_outlives_a_later_run_and_the_loss_of_all_maps(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    run(kernel, tmp_path, state="draining")
    fresh = FakeKernel()
    for each in (kernel, fresh):
        bring(_overrides.overridden(WHOLE, _overrides.load(tmp_path))[0], each)
        assert states(each, A) == {"api": "draining", "web": "draining"}


@pytest.mark.parametrize("dies_at", range(7))
@pytest.mark.parametrize("state", ["draining", "inventory"])
def test_killed_run_leaves_old_or_new_and_any_next_run_converges(
    tmp_path: Path, dies_at: int, state: str
) -> None:
    kernel, finished = FakeKernel(), FakeKernel()
    for each, state_dir in ((kernel, tmp_path), (finished, tmp_path / "finished")):
        bring(WHOLE, each)
        run(each, state_dir, state="disabled")
    before = copy.deepcopy(kernel)
    run(finished, tmp_path / "finished", state=state)
    kernel.writes, kernel.dies_at = 0, dies_at
    try:
        run(kernel, tmp_path, state=state)
    except Killed:
        for index, slots in kernel.rings.items():
            assert slots in (before.rings[index], finished.rings[index])
    kernel.dies_at = None
    bring(_overrides.overridden(WHOLE, _overrides.load(tmp_path))[0], kernel)
    assert kernel.current() == finished.current()
    assert states(kernel, A) == states(finished, A)
