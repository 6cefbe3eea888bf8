# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backend's state and weight on a node: what packets see, who wins, and waiting for flows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _apply, _overrides, _program
from ansible_collections.l4lb.xdp.plugins.module_utils._backend import (
    BackendError,
    Request,
    apply_backend,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._overrides import Override
from ansible_collections.l4lb.xdp.plugins.module_utils._quiet import Clock
from ansible_collections.l4lb.xdp.plugins.module_utils._restore import restore
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import SchemaError
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import now_seconds

from .flows import PORTS, A, B, C, ack, syn
from .node import SOURCE, XDP_DROP, Node


def set_to(
    node: Node,
    address: str = A,
    dry: bool = False,
    clock: Clock | None = None,
    **fields: Any,
) -> Outcome:
    """As l4lb.xdp.backend does."""
    request = Request(address, **fields)
    return apply_backend(request, node.pins, SOURCE, node.state_dir, dry, clock)


def begin(node: Node, address: str) -> int:
    """A port whose connection began on that backend."""
    return next(port for port in PORTS if node.backend_of(syn(port)) == address)


def states(node: Node) -> dict[str, str]:
    backends = node.tables.actual().backends.values()
    return {b.address: b.state for b in backends if b.state != "removed"}


def clock_that(act: Callable[[float], object]) -> Clock:
    """Sleeping takes no time and is over at once; `act` is called with the seconds slept so far."""
    slept = 0.0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds
        act(slept)

    return Clock(lambda: now_seconds() + slept, sleep)


# --- what packets see ---


def test_connections_of_a_draining_backend_stay_and_new_ones_go_elsewhere(node: Node) -> None:
    node.serve(A, B)
    port = begin(node, A)
    outcome = set_to(node, state="draining")
    assert outcome.changed
    assert node.backend_of(ack(port)) == A
    assert {node.backend_of(syn(other)) for other in PORTS} == {B}
    share = outcome.data["plan"]["pools"]["web"]
    assert (share["moved"], share["unavoidable"]) == (50.2, 50.2)
    assert share["broken"] == 0


def test_connections_of_a_disabled_backend_go_elsewhere_at_once(node: Node) -> None:
    node.serve(A, B)
    port = begin(node, A)
    set_to(node, state="disabled")
    assert node.backend_of(ack(port)) == B


def test_weight_changes_the_share_of_new_connections(node: Node) -> None:
    node.serve(A, B)
    outcome = set_to(node, weight=10)
    assert outcome.data["backend"][0]["weight"] == 10
    slots = Counter(node.tables.ring(0).current)
    assert slots.total() == node.sizes.ring
    assert min(slots.values()) == round(node.sizes.ring * 10 / 110)


def test_drained_last_backend_keeps_its_connections_and_new_ones_are_dropped(node: Node) -> None:
    node.serve(A)
    port = begin(node, A)
    outcome = set_to(node, state="draining")
    assert "no backend is left that gets new flows" in outcome.warnings[0]
    assert node.backend_of(ack(port)) == A
    assert node.run(syn(port + 1))[0] == XDP_DROP
    assert node.tables.verdicts()["drop_no_backend"]["packets"] == 1


def test_dry_run_predicts_and_changes_nothing(node: Node) -> None:
    node.serve(A, B)
    dry = set_to(node, dry=True, state="draining", wait="flows")
    assert states(node) == {A: "active", B: "active"}
    assert _overrides.load(node.state_dir) == {}
    assert "wait" not in dry.data
    wet = set_to(node, state="draining")
    assert (dry.changed, dry.data, dry.before, dry.after) == (
        wet.changed,
        wet.data,
        wet.before,
        wet.after,
    )


def test_second_run_changes_nothing(node: Node) -> None:
    node.serve(A, B)
    set_to(node, state="draining")
    again = set_to(node, state="draining")
    assert not again.changed
    assert again.before == again.after


# --- who wins ---


def test_override_wins_over_later_runs_of_services(node: Node) -> None:
    node.serve(A, B)
    port = begin(node, A)
    set_to(node, state="draining")
    assert not node.serve(A, B).changed
    node.serve(A, B, C)
    assert states(node) == {A: "draining", B: "active", C: "active"}
    assert node.backend_of(ack(port)) == A
    assert A not in {node.backend_of(syn(other)) for other in PORTS}


def test_backend_given_back_is_as_inventory_says_now(node: Node) -> None:
    node.serve(A, B)
    set_to(node, state="draining", weight=7)
    node.serve({"address": A, "weight": 30}, B)
    outcome = set_to(node, state="inventory")
    assert outcome.data["backend"][0] == {
        "pool": "web",
        "address": A,
        "state": "active",
        "weight": 30,
        "overridden": False,
        "inventory": {"state": "active", "weight": 30},
    }
    assert _overrides.load(node.state_dir) == {}
    assert A in {node.backend_of(syn(other)) for other in PORTS}


def test_override_ends_with_its_backend(node: Node) -> None:
    node.serve(A, B)
    set_to(node, state="draining")
    node.serve(B)
    assert _overrides.load(node.state_dir) == {}
    node.serve(A, B)
    assert states(node) == {A: "active", B: "active"}


def test_override_ends_when_inventory_says_the_same(node: Node) -> None:
    node.serve(A, B)
    set_to(node, state="draining", weight=5)
    node.serve({"address": A, "state": "draining"}, B)
    left = next(iter(_overrides.load(node.state_dir).values()))
    assert (left.state, left.weight) == (None, 5)
    node.serve(A, B)
    assert states(node)[A] == "active"


@pytest.fixture
def attached(make_node: Callable[..., Node]) -> Iterator[Node]:
    """A node that runs its program on its interface."""
    node = make_node()
    _apply.attach_program(node.wanted(), node.state_dir)
    yield node
    _apply.detach_program(node.wanted(), node.state_dir)


def test_override_outlives_a_reboot(attached: Node) -> None:
    attached.serve(A, B)
    set_to(attached, state="draining", weight=5)
    _program.detach(attached.wanted())  # all that memory held is gone, what is on disk stays
    restore(attached.state_dir)
    again = set_to(attached, state="draining", weight=5)
    assert not again.changed
    (backend,) = again.data["backend"]
    assert (backend["state"], backend["weight"], backend["overridden"]) == ("draining", 5, True)
    assert set_to(attached, state="inventory").changed


# --- a node that is not ready ---


def test_node_without_maps_is_told_and_a_dry_run_goes_on(pins: Path, tmp_path: Path) -> None:
    request = Request(A, state="draining")
    dry = apply_backend(request, pins, SOURCE, tmp_path / "state", dry=True)
    assert (dry.changed, len(dry.warnings)) == (True, 1)
    assert not (tmp_path / "state").exists()
    with pytest.raises(SchemaError, match=r"run l4lb\.xdp\.program first"):
        apply_backend(request, pins, SOURCE, tmp_path / "state")


def test_maps_made_anew_are_told_before_a_write(node: Node) -> None:
    node.serve(A, B)
    applied = (node.state_dir / "services.json").read_text()
    node.reset()
    (node.state_dir / "services.json").write_text(applied)
    with pytest.raises(BackendError, match=r"run l4lb\.xdp\.services, then this again"):
        set_to(node, state="draining")
    assert _overrides.load(node.state_dir) == {}


# --- waiting ---


def test_connection_without_a_record_is_waited_for(node: Node) -> None:
    """It was in a settled slot: its first packet after the drain records it."""
    node.serve(A, B, udp_transition=0)
    port = begin(node, A)

    def act(at: float) -> None:
        if at == 5:
            assert node.flows() == {}
        if at in (5, 12):
            assert node.backend_of(ack(port)) == A

    outcome = set_to(node, state="draining", wait="flows", idle=10, clock=clock_that(act))
    wait = outcome.data["wait"]
    assert (wait["reached"], wait["flows"], wait["packets"]) == (True, 0, 2)
    assert 22 <= wait["waited_seconds"] < 24
    assert outcome.warnings == []


def test_deadline_is_a_warning_that_tells_what_is_left(node: Node) -> None:
    node.serve(A, B)
    port = begin(node, A)

    def send(seconds: float) -> None:
        node.backend_of(ack(port))
        time.sleep(min(seconds, 0.1))

    clock = Clock(sleep=send)
    outcome = set_to(node, state="draining", wait="flows", timeout=1, idle=1, clock=clock)
    wait = outcome.data["wait"]
    assert (wait["reached"], wait["flows"]) == (False, 1)
    assert wait["packets"] >= 2
    assert f"backend {A} of pool web has flows seen within the last 1 s: 1" in outcome.warnings[0]
    assert states(node)[A] == "draining"


def test_deadline_is_a_failure_when_asked_and_has_the_same_data(node: Node) -> None:
    node.serve(A, B)
    port = begin(node, A)
    clock = clock_that(lambda _at: node.backend_of(ack(port)))
    with pytest.raises(BackendError, match=r"still in use after 20 s: .*Wait longer") as caught:
        set_to(
            node,
            state="draining",
            wait="flows",
            timeout=20,
            idle=10,
            fail_on_timeout=True,
            clock=clock,
        )
    assert not caught.value.data["wait"]["reached"]
    assert caught.value.data["backend"][0]["state"] == "draining"
    assert caught.value.data["changed"]


def test_udp_is_waited_for_until_unknown_flows_go_elsewhere(node: Node) -> None:
    node.serve(A, B, udp_transition=30)
    clock = clock_that(lambda _at: None)
    outcome = set_to(node, state="draining", wait="flows", idle=10, clock=clock)
    assert 28 <= outcome.data["wait"]["waited_seconds"] < 33


def test_disabled_backend_is_not_waited_for(node: Node) -> None:
    node.serve(A, B)
    outcome = set_to(node, state="disabled", wait="flows", clock=clock_that(pytest.fail))
    assert outcome.data["wait"] == {
        "reached": True,
        "waited_seconds": 0.0,
        "flows": 0,
        "packets": 0,
    }


def test_seconds_are_waited_whatever_flows_do(node: Node) -> None:
    node.serve(A, B)
    port = begin(node, A)
    clock = clock_that(lambda _at: node.backend_of(ack(port)))
    outcome = set_to(node, state="draining", wait="seconds", timeout=42, clock=clock)
    wait = outcome.data["wait"]
    assert (wait["reached"], wait["packets"]) == (True, 1)
    assert 42 <= wait["waited_seconds"] < 44


def test_others_may_write_while_it_waits_and_what_they_do_is_seen(node: Node) -> None:
    node.serve(A, B)

    def act(at: float) -> None:
        if at == 3:
            with writer(node.state_dir, "another", patience=0):
                pass
            set_to(node, state="active")

    clock = clock_that(act)
    outcome = set_to(node, state="draining", wait="flows", timeout=20, idle=10, clock=clock)
    assert not outcome.data["wait"]["reached"]
    assert "is active: somebody else made it so" in outcome.warnings[0]
    assert _overrides.load(node.state_dir) == {}


def test_override_is_remembered_with_the_time_for_people(node: Node) -> None:
    node.serve(A, B)
    before = int(time.time())
    set_to(node, state="draining")
    override = next(iter(_overrides.load(node.state_dir).values()))
    assert override == Override("draining", None, override.since)
    assert before <= override.since <= time.time()
