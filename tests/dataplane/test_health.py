# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backends that fall and return: what packets see, who honours it, and death at any write."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _apply,
    _health,
    _info,
    _program,
    _rings,
    _settle,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._backend import Request, apply_backend
from ansible_collections.l4lb.xdp.plugins.module_utils._health import Health, apply_health
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import LockError, writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._restore import restore

from .flows import PORTS, A, B, C, ack, syn, udp
from .mortal import dies
from .node import SOURCE, XDP_DROP, Node

DOWN = Health("down", since=7)

Flow = tuple[Callable[..., Packet], int, bool]
"""What a later packet of it looks like, the client's port, and whether it is IPv6."""

KINDS = [(syn, ack, False), (syn, ack, True), (udp, udp, False), (udp, udp, True)]


@pytest.fixture(autouse=True)
def nothing_decided(node: Node) -> Iterator[None]:
    """Before and after each test: health is not a thing of the others."""
    (node.state_dir / _health.HEALTH_FILE).unlink(missing_ok=True)
    yield
    (node.state_dir / _health.HEALTH_FILE).unlink(missing_ok=True)


def fall(node: Node, *addresses: str, **slow: int) -> Outcome:
    """These are down, all others up; slow: shares by the letter of the backend."""
    wanted = {("web", address): DOWN for address in addresses}
    for letter, share in slow.items():
        wanted["web", {"a": A, "b": B, "c": C}[letter]] = Health("up", share, 7)
    return apply_health(wanted, node.tables, node.state_dir)


def begin(node: Node, ports: range | list[int]) -> dict[Flow, str]:
    """Flows of all kinds begin at these ports; where each went."""
    return {
        (then, port, ipv6): node.backend_of(first(port, ipv6))
        for port in ports
        for first, then, ipv6 in KINDS
    }


def sent(node: Node, flow: Flow) -> str:
    """Where its next packet goes."""
    then, port, ipv6 = flow
    return node.backend_of(then(port, ipv6))


def receiving(node: Node) -> set[str]:
    """Who gets new connections."""
    return {node.backend_of(syn(port)) for port in range(30000, 30060)}


def share(node: Node, address: str) -> float:
    """Which share of the slots the backend has, in per cent."""
    actual, slots = node.tables.actual(), node.tables.ring(0)
    return 100 * Counter(actual.backends[i].address for i in slots.current)[address] / len(slots)


# --- what packets see ---


def test_flows_of_a_backend_that_falls_move_at_once_and_others_stay(node: Node) -> None:
    node.serve(A, B, C)
    flows = begin(node, PORTS)
    outcome = fall(node, A)
    assert outcome.data["plan"]["pools"]["web"]["broken"] == pytest.approx(33.3, abs=1)
    for flow, backend in flows.items():
        now = sent(node, flow)
        assert now in (B, C) if backend == A else now == backend
    assert receiving(node) == {B, C}


def test_slots_tracked_before_forget_a_backend_that_falls_and_others_stay(node: Node) -> None:
    """It is `previous` of slots that others have now, others are `previous` of its own, and records
    name all of them.
    """
    flows = {}
    for i, change in enumerate(((100, 100, 0), (100, 100, 100), (20, 100, 100), (200, 90, 100))):
        weights = zip((A, B, C), change)
        node.serve(*({"address": a, "weight": w} for a, w in weights if w))
        flows |= begin(node, PORTS[30 * i : 30 * i + 30])
    for flow in list(flows)[::2]:
        assert sent(node, flow) == flows[flow]
    assert {A, B, C} == set(node.flows())
    indices = {b.address: i for i, b in node.tables.actual().backends.items()}
    slots = node.tables.ring(0)
    ways = set(zip(slots.previous, slots.current))
    assert any(old == indices[A] != new for old, new in ways)
    assert any(old not in (0, indices[A]) and new == indices[A] for old, new in ways)
    fall(node, A)
    assert indices[A] not in {*node.tables.ring(0).current, *node.tables.ring(0).previous}
    for flow, backend in flows.items():
        now = sent(node, flow)
        assert now in (B, C) if backend == A else now == backend


def test_backend_that_returns_breaks_no_flow_of_others(node: Node) -> None:
    node.serve(A, B, C)
    flows = begin(node, PORTS[:60])
    silent = begin(node, PORTS[60:90])
    fall(node, A)
    moved = {flow: sent(node, flow) for flow in flows}
    meanwhile = begin(node, PORTS[90:])
    fall(node)
    for flow, backend in {**moved, **meanwhile}.items():
        assert sent(node, flow) == backend
    for flow, backend in silent.items():
        assert sent(node, flow) == backend, "who sent nothing meanwhile has not moved at all"
    assert receiving(node) == {A, B, C}


@pytest.mark.parametrize("seed", range(3))
def test_only_flows_of_fallen_backends_break_through_random_changes(node: Node, seed: int) -> None:
    """Falls, returns, slow starts, drains and weights; most flows are silent most of the time."""
    rng = random.Random(seed)
    members = {A: ("active", 100), B: ("active", 100), C: ("active", 50)}
    flows: dict[Flow, str] = {}
    dead: set[str] = set()
    fallen = 0
    node.serve(*({"address": a, "weight": weight} for a, (_state, weight) in members.items()))
    for _step in range(14):
        flows |= begin(node, rng.sample(PORTS, 4))
        kind = rng.choice(("fall", "return", "slow", "drain", "weight"))
        chosen = rng.choice(sorted(members))
        slow = {}
        if kind == "fall" and len(dead) < 2:
            dead.add(chosen)
            fallen += chosen in flows.values()
            flows = {flow: backend for flow, backend in flows.items() if backend != chosen}
        elif kind == "return" and dead:
            dead.discard(min(dead))
        elif kind == "slow" and chosen not in dead:
            slow = {{A: "a", B: "b", C: "c"}[chosen]: rng.choice((10, 25, 50, 75))}
        elif kind == "weight":
            members[chosen] = members[chosen][0], rng.randrange(1, 200)
        elif kind == "drain":
            others = [a for a in members if a != chosen and a not in dead]
            draining = members[chosen][0] == "active" and any(
                members[a][0] == "active" for a in others
            )
            members[chosen] = "draining" if draining else "active", members[chosen][1]
        if not any(members[a][0] == "active" for a in set(members) - dead):
            living = min(set(members) - dead)
            members[living] = "active", members[living][1]
        node.serve(*({"address": a, "state": s, "weight": w} for a, (s, w) in members.items()))
        fall(node, *dead, **slow)
        for flow in rng.sample(list(flows), len(flows) // 3):
            assert sent(node, flow) == flows[flow]
    for flow, backend in flows.items():
        assert sent(node, flow) == backend
    assert fallen


def test_one_that_falls_while_it_starts_slowly_leaves_at_once(node: Node) -> None:
    node.serve(A, B)
    fall(node, A)
    fall(node, a=10)
    assert share(node, A) == pytest.approx(100 * 10 / 110, abs=0.5)
    fall(node, a=50)
    assert share(node, A) == pytest.approx(100 / 3, abs=0.5)
    fall(node, A)
    assert receiving(node) == {B}


def test_all_down_drops_and_counts_and_draining_ones_keep_their_flows(node: Node) -> None:
    node.serve(A, B, C)
    flows = begin(node, PORTS)
    node.serve(A, B, {"address": C, "state": "draining"})
    fall(node, A, B)
    before = node.tables.verdicts()["drop_no_backend"]["packets"]
    dropped = 0
    for (then, port, ipv6), backend in flows.items():
        if backend == C:
            assert node.backend_of(then(port, ipv6)) == C
        else:
            dropped += 1
            assert node.run(then(port, ipv6))[0] == XDP_DROP
    assert node.tables.verdicts()["drop_no_backend"]["packets"] == before + dropped
    fall(node, A)
    assert receiving(node) == {B}
    for flow, backend in flows.items():
        assert sent(node, flow) == (C if backend == C else B)


@pytest.mark.parametrize("tracking", ["always", "never"])
def test_other_ways_of_tracking_know_it_too(node: Node, tracking: str) -> None:
    node.serve(A, B, tracking=tracking)
    flows = begin(node, PORTS[:40])
    fall(node, A)
    assert {sent(node, flow) for flow in flows} == {B}
    fall(node)
    back = {sent(node, flow) for flow in flows}
    assert back == ({B} if tracking == "always" else {A, B})


def test_change_that_health_does_not_concern_keeps_slots_settled(node: Node) -> None:
    node.serve(A, {"address": B, "state": "disabled"})
    assert fall(node, B).changed
    assert node.tables.ring(0).tracked_count() == 0
    assert receiving(node) == {A}


# --- who honours it ---


def test_second_call_changes_nothing(node: Node) -> None:
    node.serve(A, B)
    assert fall(node, A).changed
    again = fall(node, A)
    assert (again.changed, again.before) == (False, again.after)
    assert not dies(lambda: fall(node, A), 0)


def test_run_of_services_honours_it_and_forgets_who_left(node: Node) -> None:
    node.serve(A, B, C)
    fall(node, A, B)
    assert not node.serve(A, B, C).changed
    node.serve(A, {"address": B, "weight": 7}, C)
    assert receiving(node) == {C}
    node.serve(A, C)
    assert _health.load(node.state_dir) == {("web", A): DOWN}
    node.serve(A, B, C)
    assert receiving(node) == {B, C}


def test_module_backend_honours_it(node: Node) -> None:
    node.serve(A, B, C)
    fall(node, A, b=10)
    for state in ("draining", "active"):
        request = Request(C, state=state)
        outcome = apply_backend(request, node.pins, SOURCE, node.state_dir)
        assert outcome.warnings == []
    assert receiving(node) <= {B, C}
    assert share(node, B) == pytest.approx(100 * 10 / 110, abs=0.5)
    request = Request(A, state="draining")
    apply_backend(request, node.pins, SOURCE, node.state_dir)
    fall(node)
    assert receiving(node) == {B, C}, "its state and its health are two things"
    told = {b["address"]: b["health"] for b in info(node, "backends")}
    assert told == {A: "up", B: "up", C: "up"}


def info(node: Node, part: str) -> Any:
    return _info.info(node.pins, SOURCE, [part])[part]


def test_nothing_applied_is_nothing_to_do(make_node: Callable[..., Node]) -> None:
    node = make_node()
    assert not fall(node, A).changed
    assert _health.known(node.state_dir) is None


def test_backend_that_is_down_is_out_of_the_ring_after_a_reboot(
    make_node: Callable[..., Node],
) -> None:
    node = make_node()
    _apply.attach_program(node.wanted(), node.state_dir)
    try:
        node.serve(A, B, C)
        fall(node, A, b=10)
        _program.detach(node.wanted())  # all that memory held is gone, what is on disk stays
        restore(node.state_dir)
        told = {b["address"]: (b["health"], b["weight"]) for b in info(node, "backends")}
        assert told == {A: ("down", 100), B: ("up", 10), C: ("up", 100)}
        assert info(node, "pools")["web"]["tracked_slots"] == 0
    finally:
        _apply.detach_program(node.wanted(), node.state_dir)


def test_another_writer_is_not_waited_for_long(node: Node) -> None:
    node.serve(A, B)
    with writer(node.state_dir, "l4lb.xdp.services"):
        for act in (
            lambda: fall(node, A),
            lambda: _settle.settle_tables(node.tables, node.state_dir),
        ):
            with pytest.raises(LockError, match=r"l4lb\.xdp\.services"):
                act()
    assert _health.known(node.state_dir) is None


def test_slots_of_a_change_that_is_over_settle_on_open_tables(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.serve(A, B, settle=10, udp_transition=5)
    fall(node, A)
    assert not _settle.settle_tables(node.tables, node.state_dir).changed
    later = _settle.now_tick() + _rings.ticks(13)
    monkeypatch.setattr(_settle, "now_tick", lambda: later)
    assert _settle.settle_tables(node.tables, node.state_dir).changed
    assert node.tables.ring(0).tracked_count() == 0
    assert receiving(node) == {B}


# --- death at any write ---


def test_death_at_every_write_leaves_old_or_new_and_any_next_run_converges(node: Node) -> None:
    def steer() -> tuple[Any, ...]:
        actual = node.tables.actual()
        slots = node.tables.ring(0)
        return tuple(actual.backends[i].address if i else "" for i in slots.current)

    node.serve(A, B, C)
    steps = [((A,), {}), ((A, C), {}), ((), {"a": 10}), ((), {})]
    rings = []
    for addresses, slow in steps:
        fall(node, *addresses, **slow)
        rings.append(steer())
    successors = {
        "the same": lambda i: fall(node, *steps[i][0], **steps[i][1]),
        "the way back": lambda i: fall(node, *steps[i - 1][0], **steps[i - 1][1]),
        "services": lambda _i: node.serve(A, B, C),
    }
    for i, (addresses, slow) in enumerate(steps):
        old, new = rings[i - 1], rings[i]
        for name, successor in successors.items():
            for dies_at in itertools.count():
                successors["the way back"](i)
                assert steer() == old
                before = _health.load(node.state_dir)
                died = dies(
                    lambda given=(addresses, slow): fall(node, *given[0], **given[1]), dies_at
                )
                assert steer() in (old, new)
                written = _health.load(node.state_dir) != before
                successor(i)
                converged = {"the way back": old, "services": new if written else old}
                assert steer() == converged.get(name, new)
                assert not node.serve(A, B, C).changed
                if not died:
                    break
            assert dies_at >= 5
