# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of counters: less what the node itself has sent, and never going back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from l4lb_agent.counters import Counted, Ledger, Traffic


def told(ledger: Ledger, raw: int, own: int = 0) -> Traffic:
    """Of a service; 100 bytes a packet, each of which opens a connection."""
    counted = Counted(services={"web": Traffic(raw, raw * 100, raw)})
    net = ledger.net(counted, Counted(services={"web": Traffic(own, own * 100, own)}))
    return net.services["web"]


def test_proofs_are_taken_off() -> None:
    assert told(Ledger(), 100, 40) == (60, 6000, 60)


def test_proof_between_the_two_readings_takes_nothing_back() -> None:
    """It is in our account already, and not yet in the reading of the kernel's counter."""
    ledger = Ledger()
    assert told(ledger, 100, 40) == (60, 6000, 60)
    assert told(ledger, 100, 41) == (60, 6000, 60)
    assert told(ledger, 101, 41) == (60, 6000, 60)
    assert told(ledger, 102, 41) == (61, 6100, 61)


def test_counter_that_began_anew_is_told_as_it_is() -> None:
    """A service that went and came back: our account of it goes on, the kernel's does not."""
    ledger = Ledger()
    told(ledger, 1000, 40)
    assert told(ledger, 5, 41) == (5, 500, 5)
    assert told(ledger, 8, 42) == (7, 700, 7)


def test_account_that_began_anew_gives_nothing_back() -> None:
    """The prover was made anew, the kernel's counter was not: what was taken off stays off."""
    ledger = Ledger()
    assert told(ledger, 100, 40).packets == 60
    assert told(ledger, 101, 1).packets == 60
    assert told(ledger, 110, 2).packets == 68


def test_counter_seen_for_the_first_time_holds_no_more_of_ours_than_it_holds() -> None:
    assert told(Ledger(), 5, 40) == (5, 500, 5)


def test_series_that_is_gone_is_forgotten() -> None:
    ledger = Ledger()
    told(ledger, 1000)
    assert ledger.net(Counted(), Counted()).services == {}
    assert told(ledger, 3) == (3, 300, 3)


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 5), st.integers(-3, 3)),
        min_size=2,
        max_size=30,
    )
)
def test_nothing_goes_back_while_the_counter_does_not(
    steps: list[tuple[int, int, int]],
) -> None:
    """Packets and proofs come in any order; the two readings are apart by up to three proofs."""
    ledger, packets, proofs, own, last = Ledger(), 10, 10, 0, 0
    for more, proven, apart in steps:
        packets, proofs = packets + more, proofs + proven
        own = max(own, proofs + apart)
        now = told(ledger, packets + proofs, own).packets
        assert now >= last
        assert abs(now - packets) <= 6
        last = now
