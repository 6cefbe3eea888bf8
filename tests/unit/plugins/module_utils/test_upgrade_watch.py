# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When packets fare worse than before, and when that is only noise."""

from __future__ import annotations

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_watch import (
    Limits,
    Look,
    Traffic,
    between,
    traffic_of,
    worse,
)

LIMITS = Limits(drops=0.5, passed=5.0)


def traffic(seconds: float = 10, received: int = 0, **verdicts: int) -> Traffic:
    return Traffic(seconds, verdicts, received)


BEFORE = traffic(sent=100_000, drop_unserved=1_000, pass_foreign=50_000)


def test_the_same_mix_is_well_whatever_its_amount() -> None:
    assert worse(BEFORE, traffic(sent=1000, drop_unserved=10, pass_foreign=500), LIMITS) == []
    assert worse(BEFORE, traffic(sent=10_000_000, drop_unserved=100_000), LIMITS) == []


def test_a_drop_that_rises_is_told_with_its_numbers() -> None:
    found = worse(BEFORE, traffic(3, sent=10_000, drop_no_route=200), LIMITS)
    assert found == [
        "drop_no_route: 200 of 10200 packets to services (1.96 %) in 3.0 s, 0.00 % before"
    ]


def test_what_was_dropped_before_is_expected_now() -> None:
    assert worse(BEFORE, traffic(sent=10_000, drop_unserved=140), LIMITS) == []
    assert worse(BEFORE, traffic(sent=10_000, drop_unserved=200), LIMITS) != []


def test_foreign_packets_dilute_no_drops() -> None:
    after = traffic(sent=1000, drop_no_route=30, pass_foreign=1_000_000)
    assert any(line.startswith("drop_no_route") for line in worse(BEFORE, after, LIMITS))


@pytest.mark.parametrize("drops", [1, 20])
def test_a_few_packets_prove_nothing(drops: int) -> None:
    assert worse(BEFORE, traffic(sent=40, drop_no_route=drops), LIMITS) == []


def test_packets_to_services_that_are_passed_on_are_noticed() -> None:
    found = worse(BEFORE, traffic(5, sent=20_000, pass_foreign=55_000), LIMITS)
    assert found == [
        "pass_foreign: 55000 packets in 5.0 s, 30000 more than in such a time before, and 30500 "
        "fewer were to services"
    ]
    found = worse(BEFORE, traffic(sent=50_000, to_kernel=10_000), LIMITS)
    assert found[0].startswith("to_kernel: 10000 of 60000 packets to services")


def test_whatever_else_is_passed_is_held_against_packets_to_services() -> None:
    found = worse(BEFORE, traffic(sent=50_000, pass_unserved=10_000), LIMITS)
    assert found[0].startswith("pass_unserved: 10000 of 60000 packets to services")


def test_other_foreign_traffic_or_fewer_clients_are_no_fault() -> None:
    assert worse(BEFORE, traffic(sent=100_000, pass_foreign=900_000), LIMITS) == []
    assert worse(BEFORE, traffic(sent=0, pass_foreign=50_000), LIMITS) == []


def test_without_traffic_before_only_drops_count() -> None:
    assert worse(Traffic(), traffic(sent=10, pass_foreign=5_000, to_kernel=50), LIMITS) == []
    assert worse(Traffic(), traffic(sent=1_000, drop_no_route=100), LIMITS) != []


def test_silent_losses_are_noticed() -> None:
    before = traffic(10, 100_000, sent=100_000)
    assert worse(before, traffic(10, 100_000, sent=40_000), LIMITS) == [
        "60.00 % fewer packets are counted than before, and 100000 came in within 10.0 s"
    ]
    assert worse(before, traffic(10, 40_000, sent=40_000), LIMITS) == []  # fewer came
    assert worse(before, traffic(10, 0, sent=90_000), LIMITS) == []  # a driver that does not count


def test_limits_are_the_operator_s() -> None:
    after = traffic(sent=10_000, drop_no_route=1_000)
    assert worse(BEFORE, after, Limits(drops=10)) == []


def test_looks_make_traffic_and_add_up() -> None:
    first = Look(1.0, {"sent": 5, "drop_no_route": 1}, 6)
    last = Look(3.5, {"sent": 15, "drop_no_route": 1}, 16)
    found = between(first, last)
    assert found == Traffic(2.5, {"sent": 10, "drop_no_route": 0}, 10)
    both = found + found
    assert (both.seconds, both.packets, both.received) == (5.0, 20, 20)
    assert traffic_of(both.as_dict()) == Traffic(5.0, {"sent": 20}, 20)
