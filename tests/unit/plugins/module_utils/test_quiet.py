# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a backend counts as quiet, on a clock that only its own sleep moves."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._quiet import (
    Clock,
    Target,
    Waited,
    closed_at,
    for_seconds,
    until_quiet,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots

IDLE = 10
START = 1000.0
A = Target("web", "192.0.2.71", 0, 1)
B = Target("api", "192.0.2.71", 1, 2)

Story = Callable[[float], float]
"""Something by the seconds since the start."""


@dataclass
class FakeNode:
    """Whose counters, flows and state follow stories; it notes when all flows were read."""

    sent: Story = lambda _at: 0
    recorded: Story = lambda _at: 0
    open_until: float = 0
    active: Story = lambda _at: False
    at: float = 0
    scans: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            assert seconds > 0
            self.at += seconds

        return Clock(lambda: START + self.at, sleep)

    def packets(self, target: Target) -> int:
        return int(self.sent(self.at)) if target is A else 0

    def takes_new_flows(self, target: Target) -> bool:
        return target is A and bool(self.active(self.at))

    def closed_at(self, target: Target) -> float:
        return START + self.open_until if target is A else 0

    def living(self, idle: int) -> Mapping[int, int]:
        assert idle == IDLE
        self.scans.append(self.at)
        return {A.index: int(self.recorded(self.at)), 99: 5}

    def wait(self, *targets: Target, timeout: int = 300) -> Waited:
        return until_quiet(targets or (A,), self, IDLE, timeout, self.clock())


def until(end: float, before: float = 1, after: float = 0) -> Story:
    return lambda at: before if at < end else after


def test_no_record_and_no_packet_mean_nothing_before_the_idle_time_is_over() -> None:
    """The flow of a settled slot is recorded only when its next packet comes."""
    assert FakeNode().wait() == Waited(True, IDLE)


def test_every_packet_begins_the_idle_time_anew() -> None:
    node = FakeNode(sent=lambda at: min(at, 25) // 5)  # the last at 25
    assert node.wait() == Waited(True, 25 + IDLE, packets=5)


def test_flow_with_pauses_shorter_than_idle_is_waited_for_until_the_deadline() -> None:
    node = FakeNode(sent=lambda at: at // (IDLE - 1), recorded=lambda _at: 1)
    waited = node.wait(timeout=60)
    assert (waited.reached, waited.seconds, waited.flows, waited.packets) == (False, 60, 1, 6)
    assert waited.why == (
        "backend 192.0.2.71 of pool web was sent packets within the last 10 s",
        "backend 192.0.2.71 of pool web has flows seen within the last 10 s: 1",
    )


def test_packets_of_flows_that_no_record_names_count() -> None:
    """The table evicts the least used flows when it is full."""
    waited = FakeNode(sent=lambda at: at, recorded=lambda _at: 0).wait(timeout=30)
    assert (waited.reached, waited.flows) == (False, 0)
    assert len(waited.why) == 1


def test_recorded_flow_is_waited_for_though_the_counter_stands_still() -> None:
    assert FakeNode(recorded=until(17)).wait() == Waited(True, 17)


def test_all_flows_are_read_only_when_nothing_else_says_no() -> None:
    node = FakeNode(sent=until(40, 1, 2), open_until=55)
    assert node.wait() == Waited(True, 55, packets=1)
    assert node.scans == [55]


def test_new_udp_flows_come_until_the_transition_is_over() -> None:
    assert FakeNode(open_until=60).wait() == Waited(True, 60)
    waited = FakeNode(open_until=60).wait(timeout=20)
    assert waited.why == (
        "backend 192.0.2.71 of pool web may get new UDP flows for another 40 s (udp_transition)",
    )


def test_backend_that_somebody_made_active_again_is_not_quiet() -> None:
    waited = FakeNode(active=lambda at: at > 3).wait(timeout=20)
    assert not waited.reached
    assert waited.why[0].endswith("is active: somebody else made it so meanwhile")


def test_all_have_to_be_quiet_at_the_same_time() -> None:
    node = FakeNode(sent=lambda at: min(at, 30))
    assert node.wait(A, B) == Waited(True, 30 + IDLE, packets=30)


def test_counter_that_began_anew_has_moved_and_counts_nothing() -> None:
    assert FakeNode(sent=until(5, 100, 0)).wait() == Waited(True, 5 + IDLE, packets=0)


def test_deadline_equal_to_idle_can_be_met() -> None:
    assert FakeNode().wait(timeout=IDLE).reached


def test_some_seconds_are_waited_whatever_the_flows_do() -> None:
    node = FakeNode(sent=lambda at: at, recorded=lambda _at: 3)
    waited = for_seconds((A,), node, IDLE, 42, node.clock())
    assert waited == Waited(True, 42, flows=3, packets=42)


def test_previous_gets_unknown_udp_flows_until_a_transition_after_the_newest_change() -> None:
    slots = Slots(array("H", [2, 2, 1]), array("H", [1, 1, 2]), array("I", [500, 700, 900]))
    now = _rings.tick(round(closed_at(slots, 1, 60) * 1e9))
    assert now - 700 == _rings.ticks(60) + 1  # steer.h: in the transition up to ticks(60)


def test_backend_that_is_nobodys_previous_gets_no_udp_flows() -> None:
    assert closed_at(Slots.empty(5), 1, 60) == 0
