# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's harness: every repeat is a fresh packet and ends as it should, or none counts."""

from __future__ import annotations

from array import array

import pytest

from bench.cases import CASES, Case
from bench.meter import EMPTY, XDP_PASS, XDP_TX, Meter, Program, WrongVerdict

from .node import Node, interface

REAL = "192.0.2.71"
SENT = CASES[0]
FOREIGN = next(case for case in CASES if not case.steered)


@pytest.fixture
def meter(node: Node) -> Meter:
    return Meter(node.loaded.fd, interface("eth0"))


def balancer(node: Node, action: int, verdict: str) -> Program:
    return Program("balancer", action, verdict, node.tables.verdicts)


def test_every_repeat_is_encapsulated_once(node: Node, meter: Meter) -> None:
    node.serve(REAL)
    frame = SENT.frame(80)
    took, out = meter.run(balancer(node, XDP_TX, "sent"), frame, flows=1024, repeat=1000)
    assert took > 0
    assert node.tables.verdicts()["sent"] == {"packets": 1000, "bytes": 1000 * 40}
    inner = out[len(out) - len(frame) + 14 :]
    assert node.run(frame[:14] + inner) == (XDP_TX, out)


def test_flows_are_as_many_as_asked_for(node: Node, meter: Meter) -> None:
    node.serve(REAL, tracking="always")
    program = balancer(node, XDP_TX, "sent")
    meter.run(program, SENT.frame(80), flows=256, repeat=256, shuffle=False)
    assert node.flows() == {REAL: 256}
    meter.run(program, SENT.frame(80), flows=256, repeat=1000)
    assert node.flows() == {REAL: 256}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_case_ends_as_it_says(node: Node, meter: Meter, case: Case) -> None:
    near = case.forwarding == "l2"
    node.serve("192.0.2.1" if near else REAL, forwarding=case.forwarding)
    action = XDP_TX if case.steered else XDP_PASS
    meter.run(balancer(node, action, case.verdict), case.frame(80), case.flows, repeat=100)


def test_wrong_verdict_is_noticed(node: Node, meter: Meter) -> None:
    node.serve(REAL)
    with pytest.raises(WrongVerdict, match=r"\{'sent': 100\} after 100 runs, not redirected"):
        meter.run(balancer(node, XDP_TX, "redirected"), SENT.frame(80), flows=1, repeat=100)


def test_wrong_action_is_noticed(node: Node, meter: Meter) -> None:
    node.serve(REAL)
    with pytest.raises(WrongVerdict, match="XDP action 2, not 3"):
        meter.run(balancer(node, XDP_TX, "pass_foreign"), FOREIGN.frame(80), flows=1, repeat=100)


def test_one_other_verdict_among_many_is_noticed(node: Node, meter: Meter) -> None:
    """A ring with some empty slots: few of the flows find one."""
    node.serve(REAL)
    slots = node.tables.ring(0)
    assert slots is not None
    slots.current[:10] = array("H", [0] * 10)
    node.tables.put_ring(0, slots)
    with pytest.raises(WrongVerdict, match="drop_no_backend"):
        meter.run(balancer(node, XDP_TX, "sent"), SENT.frame(80), flows=1024, repeat=1024)


def test_programs_that_do_nothing_have_no_counters(node: Node, meter: Meter) -> None:
    node.serve(REAL)
    meter.run(EMPTY, SENT.frame(80), flows=1, repeat=100)
    assert node.tables.verdicts()["sent"]["packets"] == 0
