# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The promise of the ring that remembers, over random histories of a simulated node.

The model is steering_model; tests/dataplane shows that the kernel's program does the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.steering_model import (
    Flow,
    Node,
    in_turn,
    no_packets,
    ring,
)

SIZE = 13
SETTLE = 10
UDP_TRANSITION = 4
BACKENDS = st.integers(1, 5)
FLOWS = st.builds(Flow, st.integers(0, 29), st.booleans())


class History(RuleBasedStateMachine):
    """People change the pool, clients come and go, and are silent as long as they may be."""

    tracking = "adaptive"

    def __init__(self) -> None:
        super().__init__()
        self.node = Node(SIZE, SETTLE, UDP_TRANSITION, self.tracking)
        self.state: dict[int, str] = {1: "active", 2: "active"}
        self.weight: dict[int, int] = {1: 100, 2: 100}
        self.on: dict[Flow, int] = {}
        self.sent: dict[Flow, int] = {}
        self.changed_slots: set[int] = set()
        self.apply()

    def apply(self) -> None:
        """The pool as it is now reaches the node; flows of dead backends end."""
        before = self.node.slots
        weights = {b: self.weight[b] for b, state in self.state.items() if state == "active"}
        living = {b for b, state in self.state.items() if state != "disabled"}
        desired = self.node.change(weights, living)
        assert list(self.node.slots.current) == desired
        self.changed_slots |= {i for i in range(SIZE) if before.current[i] != desired[i]}
        for flow in [f for f, backend in self.on.items() if backend not in living]:
            self.close(flow)

    def close(self, flow: Flow) -> None:
        del self.on[flow], self.sent[flow]

    def send(self, flow: Flow) -> None:
        assert self.node.packet(flow) == self.on[flow], f"{flow} broke"
        self.sent[flow] = self.node.now

    @rule(backend=BACKENDS, state=st.sampled_from(["active", "active", "draining", "disabled"]))
    def set_state(self, backend: int, state: str) -> None:
        self.weight.setdefault(backend, 100)
        self.state[backend] = state
        self.apply()

    @rule(backend=BACKENDS, weight=st.integers(1, 1000))
    def set_weight(self, backend: int, weight: int) -> None:
        self.weight[backend] = weight
        self.apply()

    @rule(backend=BACKENDS)
    def remove(self, backend: int) -> None:
        self.state.pop(backend, None)
        self.apply()

    @rule(flow=FLOWS)
    def open(self, flow: Flow) -> None:
        """A flow begins, perhaps with the addresses and ports of one that ended."""
        if flow in self.on:
            return
        if backend := self.node.packet(flow, opens=not flow.udp):
            self.on[flow], self.sent[flow] = backend, self.node.now

    @rule(flows=st.sets(FLOWS, max_size=10))
    def open_many(self, flows: set[Flow]) -> None:
        for flow in sorted(flows, key=lambda f: (f.number, f.udp)):
            self.open(flow)

    @precondition(lambda self: self.on)
    @rule(data=st.data())
    def packet(self, data: st.DataObject) -> None:
        self.send(data.draw(st.sampled_from(list(self.on))))

    @precondition(lambda self: self.on)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.close(data.draw(st.sampled_from(list(self.on))))

    @precondition(lambda self: self.on)
    @rule(data=st.data())
    def end_and_begin_again_much_later(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from(list(self.on)))
        self.close(flow)
        self.wait(2 * SETTLE + 2)
        self.open(flow)

    @rule(ticks=st.integers(1, 3 * SETTLE))
    def wait(self, ticks: int) -> None:
        for _tick in range(ticks):
            self.pass_tick()
            self.settle(no_packets)

    @rule(arrivals=st.lists(st.one_of(st.tuples(FLOWS, st.booleans()), st.none()), max_size=40))
    def settle_among_packets(self, arrivals: list[tuple[Flow, bool] | None]) -> None:
        """Settling takes its time: packets arrive and ticks pass between any two of its steps."""
        self.wait(SETTLE // 2)
        arriving = iter(arrivals)
        for _tick in range(SETTLE):
            self.pass_tick()
            self.settle(lambda: self.arrive(next(arriving, None)))

    def arrive(self, what: tuple[Flow, bool] | None) -> None:
        """A packet, perhaps a stray one of a connection that is no more; None: a tick passes."""
        if what is None:
            self.pass_tick()
            return
        flow, opens = what
        if flow in self.on:
            self.send(flow)
        elif opens or flow.udp:
            self.open(flow)
        else:
            self.node.packet(flow)

    def settle(self, meanwhile: Callable[[], None]) -> None:
        self.node.settle(meanwhile)
        self.changed_slots &= {i for i in range(SIZE) if self.node.slots.tracked[i]}

    def pass_tick(self) -> None:
        """Every flow sends at the last moment that its promise allows, after the settling then."""
        for flow, last in list(self.sent.items()):
            if self.node.now - last >= (UDP_TRANSITION if flow.udp else SETTLE):
                self.send(flow)
        self.node.now += 1

    @invariant()
    def nodes_without_this_history_agree(self) -> None:
        weights = dict(sorted(self.node.weights.items(), reverse=True))
        assert list(self.node.slots.current) == ring(weights, SIZE)

    @invariant()
    def state_is_in_changed_slots_only(self) -> None:
        slots = self.node.slots
        tracked = {i for i in range(SIZE) if slots.tracked[i]}
        assert tracked <= self.changed_slots
        assert all(not slots.previous[i] for i in range(SIZE) if i not in tracked)
        assert set(slots.previous) <= self.node.living | {0}

    def teardown(self) -> None:
        """Everyone leaves and time passes: nothing is remembered."""
        for flow in list(self.on):
            self.send(flow)
            self.close(flow)
        self.wait(2 * SETTLE + 2)
        assert self.node.slots == Slots(self.node.slots.current, *empty())


class AlwaysTracked(History):
    tracking = "always"


def empty() -> tuple[Any, Any]:
    slots = Slots.empty(SIZE)
    return slots.previous, slots.tracked


TestAdaptive = History.TestCase
TestAdaptive.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAlways = AlwaysTracked.TestCase
TestAlways.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def broken_by_changes(tracking: str, changes: int = 25) -> int:
    """How many of 2,000 flows, each sending between any two changes, end on another backend."""
    draw = random.Random(2)
    node = Node(251, SETTLE, UDP_TRANSITION, tracking)
    weights = {1: 100, 2: 100, 3: 100}
    node.change(weights, set(weights))
    on = {flow: node.packet(flow, opens=True) for flow in map(Flow, range(2000))}
    broken: set[Flow] = set()
    for change in range(changes):
        weights = {**weights, draw.randrange(1, 12): draw.randrange(1, 200)}
        node.change(weights, set(weights))
        node.now += draw.randrange(1, SETTLE)
        broken |= {flow for flow, backend in on.items() if node.packet(flow) != backend}
        newcomers = map(Flow, range(2000 + 20 * change, 2020 + 20 * change))
        on |= {flow: node.packet(flow, opens=True) for flow in newcomers}
        node.settle()
    return len(broken)


def test_no_flow_breaks_with_state() -> None:
    assert broken_by_changes("adaptive") == 0
    assert broken_by_changes("always") == 0


def test_flows_break_without_state() -> None:
    assert broken_by_changes("never") > 1000


def test_silence_longer_than_the_settle_time_breaks() -> None:
    """The promise's limit is real: this flow is silent too long. One tick is a margin."""
    for silence, survives in ((SETTLE, True), (SETTLE + 2, False)):
        node, flow, backend = moved_flow()
        for _tick in range(silence):
            node.now += 1
            node.settle()
        assert (node.packet(flow) == backend) is survives


def test_drained_backend_keeps_its_flows_and_gets_no_new_ones() -> None:
    node, flow, backend = moved_flow()
    assert all(node.packet(Flow(n), opens=True) != backend for n in range(100, 200))
    assert node.packet(flow) == backend


def test_flow_of_a_disabled_backend_moves_and_stays_where_it_went() -> None:
    node, flow, backend = moved_flow()
    (other,) = {1, 2} - {backend}
    node.change({other: 100}, {other})
    assert node.packet(flow) == other
    node.change({1: 100, 2: 100}, {1, 2})
    assert node.packet(flow) == other


@pytest.mark.parametrize(
    ("wait", "expected"), [(UDP_TRANSITION, "old"), (UDP_TRANSITION + 1, "new")]
)
def test_udp_flow_unknown_within_the_transition_is_an_old_one(wait: int, expected: str) -> None:
    node, _flow, backend = moved_flow()
    flow = next(f for f in (Flow(n, udp=True) for n in range(99)) if shares_slot(f, _flow))
    node.now += wait
    assert (node.packet(flow) == backend) is (expected == "old")


def moved_flow() -> tuple[Node, Flow, int]:
    """A node just after the drain of the backend that this flow is on."""
    node = Node(SIZE, SETTLE, UDP_TRANSITION)
    node.change({1: 100, 2: 100}, {1, 2})
    flow = Flow(1)
    backend = node.packet(flow, opens=True)
    node.change({b: 100 for b in (1, 2) if b != backend}, {1, 2})
    return node, flow, backend


@pytest.mark.parametrize("records_expire", [True, False])
def test_a_record_must_not_outlive_its_flow(records_expire: bool) -> None:
    """Addresses and ports used again while the slot was settled: the old record is not theirs.

    The flow breaks, as the second case shows, if the data path believes records of any age.
    """
    node, flow, old = moved_flow()
    node.records_expire = records_expire
    assert node.packet(flow) == old
    for _tick in range(2 * SETTLE):
        node.now += 1
        node.settle()
    assert node.slots.tracked_count() == 0
    again = node.packet(flow, opens=True)
    assert again != old
    node.change({old: 100, 3: 100, 4: 100}, {1, 2, 3, 4})
    assert node.slots.tracked[flow.slot(SIZE)]
    assert (node.packet(flow) == again) is records_expire


@pytest.mark.parametrize("forgetful", [True, False])
def test_a_record_made_while_its_slot_settles_must_not_outlive_that(forgetful: bool) -> None:
    """A stray packet between the scan and the new ring is recorded on the backend before.

    When its addresses and ports are used again, and the slot changes again, all within the settle
    time, that record would be believed: the second case shows it.
    """
    node, flow, old = moved_flow()
    node.forgetful = forgetful
    node.now += SETTLE + 2
    node.settle(meanwhile=in_turn(no_packets, lambda: node.packet(flow)))  # then after the scan
    assert node.slots.tracked_count() == 0
    again = node.packet(flow, opens=True)
    assert again != old
    node.change({old: 100, 3: 100, 4: 100}, {1, 2, 3, 4})
    assert node.slots.tracked[flow.slot(SIZE)]
    assert (node.packet(flow) == again) is forgetful


@pytest.mark.parametrize("udp_transition", [UDP_TRANSITION, 2 * SETTLE])
def test_udp_flow_that_begins_while_its_slot_settles_stays(udp_transition: int) -> None:
    """While unknown ones take `previous`, a slot does not settle, however old it is."""
    node, same_slot, _backend = moved_flow()
    node.udp_transition = udp_transition
    flow = next(f for f in (Flow(n, udp=True) for n in range(99)) if shares_slot(f, same_slot))
    began: list[int] = []
    node.now += SETTLE + 2
    node.settle(meanwhile=in_turn(no_packets, lambda: began.append(node.packet(flow))))
    began = began or [node.packet(flow)]
    assert node.packet(flow) == began[0]


def shares_slot(flow: Flow, other: Flow) -> bool:
    return flow.slot(SIZE) == other.slot(SIZE)
