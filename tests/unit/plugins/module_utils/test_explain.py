# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a packet goes where it goes: the decision against the model of the rule, and the words."""

from __future__ import annotations

import dataclasses
import re
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _explain, _nexthop, _rings, _steer
from ansible_collections.l4lb.xdp.plugins.module_utils._explain import Explanation
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import BackendEntry, PoolEntry
from ansible_collections.l4lb.xdp.plugins.module_utils._lookup import CachedHop
from ansible_collections.l4lb.xdp.plugins.module_utils._nexthop import Hop
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import Packet, PacketError, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._steer import Slot
from ansible_collections.l4lb.xdp.plugins.modules import explain as module
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.steering_model import (
    Flow,
    Node,
    Record,
)

A, B, C = "192.0.2.71", "192.0.2.72", "192.0.2.73"
NOW = _rings.ticks(100_000)
TCP = Packet("198.51.100.2", "203.0.113.10", "tcp", 40000, 80)
UDP = dataclasses.replace(TCP, protocol="udp")
SYN = dataclasses.replace(TCP, opens=True)


def pool(tracking: str = "adaptive", settle: int = 3600, udp_transition: int = 60) -> PoolEntry:
    times = {"settle": _rings.ticks(settle), "udp_transition": _rings.ticks(udp_transition)}
    return PoolEntry("web", "maglev", "ipip", tracking, **times)


def ago(seconds: int) -> int:
    """The tick of that many seconds before now."""
    return NOW - _rings.ticks(seconds)


# --- the decision ---


@given(
    tracking=st.sampled_from(["adaptive", "always", "never"]),
    current=st.integers(0, 3),
    previous=st.integers(0, 3),
    tracked=st.none() | st.integers(0, 9),
    record=st.none() | st.tuples(st.integers(1, 3), st.integers(0, 9)),
    living=st.sets(st.integers(1, 3)),
    kind=st.sampled_from([TCP, UDP, SYN]),
)
def test_decision_is_the_rule(
    tracking: str,
    current: int,
    previous: int,
    tracked: int | None,
    record: tuple[int, int] | None,
    living: set[int],
    kind: Packet,
) -> None:
    """Ages in ticks, around a settle time of 6 and a transition of 3."""
    now = 100
    model = Node(1, settle_ticks=6, udp_transition=3, tracking=tracking, now=now, living=living)
    since = 0 if tracked is None else now - tracked
    model.slots = _rings.Slots(array("H", [current]), array("H", [previous]), array("I", [since]))
    flow = Flow(0, udp=kind is UDP)
    known = _steer.Flow(record[0], now - record[1]) if record else None
    if known:
        model.flows[flow] = Record(known.backend, known.seen)
    backends = {
        i: BackendEntry(0, f"192.0.2.{i}", 1, "active" if i in living else "disabled")
        for i in (1, 2, 3)
    }
    entry = dataclasses.replace(pool(tracking), settle=6, udp_transition=3)
    answer = _steer.decide(kind, entry, Slot(0, current, previous, since), known, backends, now)
    assert answer.backend == model.packet(flow, opens=kind is SYN)
    assert not answer.believed or (known and answer.backend == known.backend)


def test_record_of_an_index_beyond_the_map_is_not_followed() -> None:
    backends = {1: BackendEntry(0, A, 1, "active")}
    record = _steer.Flow(2, ago(1))
    answer = _steer.decide(TCP, pool(), Slot(0, 1, 0, ago(9)), record, backends, NOW)
    assert answer.backend == 1


# --- its words ---

BACKENDS = {
    1: BackendEntry(0, A, 100, "draining"),
    2: BackendEntry(0, B, 100, "disabled"),
    3: BackendEntry(0, C, 100, "active"),
    4: BackendEntry(0, "192.0.2.74", 100, "active", "down"),
}


def why(
    packet: Packet, slot: tuple[int, int, int], record: tuple[int, int] | None = None, **of: Any
) -> list[str]:
    """slot: current, previous, tracked; record: backend, seconds since it was seen."""
    flow = _steer.Flow(record[0], ago(record[1])) if record else None
    return _steer.decide(packet, pool(**of), Slot(4711, *slot), flow, BACKENDS, NOW).why


def test_settled_slot() -> None:
    assert why(TCP, (3, 0, 0)) == [
        f"slot 4711 is settled: it points to {C}, the flow table is not asked"
    ]


def test_record_in_a_settled_slot_plays_no_part() -> None:
    assert why(TCP, (3, 0, 0), (1, 900))[1] == (
        f"the flow is recorded on {A}, seen 900 s (15 min) ago, and that plays no part"
    )


def test_flow_that_stays_where_it_is_recorded() -> None:
    assert why(TCP, (3, 1, ago(12)), (1, 3)) == [
        f"slot 4711 is tracked for 12 s: it points to {C}, before that to {A}",
        f"the flow is recorded on {A}, seen 3 s ago: it stays there",
        f"a connection that opens now (SYN) goes to {C}",
    ]


def test_unknown_tcp_flow_is_older_than_the_change() -> None:
    assert why(TCP, (3, 1, ago(12)))[1:] == [
        "the flow is not recorded",
        f"it did not open here since the change, so it is older: it takes {A} and is recorded "
        "there",
        f"a connection that opens now (SYN) goes to {C}",
    ]


def test_syn_takes_current_whatever_is_recorded() -> None:
    assert why(SYN, (3, 1, ago(12)), (1, 3))[1:] == [
        f"the packet opens a connection (SYN): the old record on {A} does not count",
        f"it takes the current backend, {C}, and is recorded there",
    ]


def test_record_that_is_too_old() -> None:
    assert why(TCP, (3, 0, ago(9000)), (1, 4000))[1:] == [
        f"the flow is recorded on {A}, seen 4000 s (66 min) ago: older than the pool's settle time "
        "of 3600 s (60 min), it is not believed",
        f"it takes the current backend, {C}, and is recorded there",
    ]


def test_times_of_a_cpu_that_is_a_tick_ahead_are_young() -> None:
    seen, tracked = _steer.Flow(1, NOW + 1), Slot(4711, 3, 1, NOW + 1)
    known = _steer.decide(TCP, pool(), tracked, seen, BACKENDS, NOW)
    assert (known.backend, known.believed) == (1, True)
    assert f"the flow is recorded on {A}, seen less than 1 s ago: it stays there" in known.why
    assert _steer.decide(UDP, pool(udp_transition=0), tracked, None, BACKENDS, NOW).backend == 1
    assert _explain._slot(tracked, BACKENDS, NOW)["tracked_seconds"] == 0


@pytest.mark.parametrize(("index", "condition"), [(2, "disabled"), (4, "down")])
def test_record_on_a_backend_that_does_not_live(index: int, condition: str) -> None:
    assert why(TCP, (3, 1, ago(12)), (index, 3))[1] == (
        f"the flow is recorded on {BACKENDS[index].address}, seen 3 s ago, but that backend is "
        f"{condition}: it has to move"
    )


def test_previous_that_does_not_live() -> None:
    assert why(TCP, (3, 2, ago(12)))[2] == (
        f"{B} is disabled: the flow takes the current backend, {C}, and is recorded there"
    )


def test_unknown_udp_flow_in_and_after_the_transition() -> None:
    assert why(UDP, (3, 1, ago(12)))[2] == (
        "within the pool's udp_transition of 60 s it counts as older than the change: it takes "
        f"{A} and is recorded there"
    )
    assert why(UDP, (3, 1, ago(100)))[2] == (
        "the change is longer ago than the pool's udp_transition of 60 s, so an unknown UDP flow "
        f"counts as new: it takes the current backend, {C}, and is recorded there"
    )


def test_pool_that_always_tracks() -> None:
    assert why(TCP, (3, 0, 0), tracking="always") == [
        f"slot 4711 is settled: it points to {C}, but the pool always tracks, so the flow table is "
        "asked",
        "the flow is not recorded",
        f"it takes the current backend, {C}, and is recorded there",
    ]


def test_pool_that_never_tracks() -> None:
    assert why(TCP, (3, 1, ago(12)), tracking="never") == [
        f"slot 4711 points to {C}; the pool never tracks, so that decides"
    ]


def test_slot_without_backend() -> None:
    assert why(TCP, (0, 0, ago(12)))[0] == (
        "slot 4711 is tracked for 12 s: it points to nobody, and the backend before that is gone"
    )
    assert why(TCP, (0, 0, 0))[-1] == "no backend of pool web is active: the packet is dropped"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than 1 s"),
        (599, "599 s"),
        (3600, "3600 s (60 min)"),
        (12_000, "12000 s (3 h 20 min)"),
        (200_000, "200000 s (2 d 7 h)"),
    ],
)
def test_times_are_read_in_seconds_and_more(seconds: int, text: str) -> None:
    assert _steer.span(_rings.ticks(seconds)) == text


# --- the next hop ---

FOUND = Hop("success", "eth0", "192.0.2.1", "02:00:00:00:00:01")


@pytest.mark.parametrize(
    ("hop", "verdict", "text"),
    [
        (
            FOUND,
            "sent",
            f"{A} is reached by eth0 through 192.0.2.1 (02:00:00:00:00:01, stale): the packet is "
            "sent out of the interface it came in by",
        ),
        (
            Hop("success", "eth1", A, "02:00:00:00:00:02"),
            "redirected",
            f"{A} is reached directly by eth1 (02:00:00:00:00:02, stale): the packet is redirected "
            "there from eth0",
        ),
        (
            Hop("no_neighbour", "eth1", A),
            "to_kernel",
            f"{A} is reached directly by eth1, whose link address the kernel does not know "
            "(neighbour: stale): the packet, encapsulated, is left to the kernel, which has to "
            "find it",
        ),
        (
            Hop("prohibit"),
            "drop_no_route",
            f"the route to {A} is of type prohibit: the packet is dropped",
        ),
        (
            Hop("forwarding_off"),
            "to_kernel",
            "forwarding is off on eth0 (sysctl net.ipv4.conf.eth0.forwarding), so XDP is told no "
            "next hop: the packet, encapsulated, is left to the kernel, which does not forward it "
            "either",
        ),
        (
            Hop("encapsulated"),
            "to_kernel",
            f"the route to {A} has an encapsulation of its own: the packet, encapsulated, is left "
            "to the kernel",
        ),
        (
            Hop("error"),
            "to_kernel",
            f"the route to {A} is not for XDP: the packet, encapsulated, is left to the kernel",
        ),
    ],
)
def test_next_hop_and_verdict(hop: Hop, verdict: str, text: str) -> None:
    assert _nexthop.verdict(hop, "eth0") == verdict
    assert _nexthop.explain(hop, A, "eth0", "stale") == text


def test_cpus_that_still_send_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nexthop, "interface_name", {2: "eth0", 3: "eth1"}.__getitem__)
    in_use = [
        CachedHop(0, NOW, 2, "02:00:00:00:00:01"),  # the same
        CachedHop(1, NOW, 2, "02:00:00:00:00:09"),
        CachedHop(3, NOW, 2, "02:00:00:00:00:09"),
    ]
    assert _nexthop.stale(FOUND, in_use) == [
        "for about a second more, some CPUs (1, 3) still send to 02:00:00:00:00:09 by eth0, as "
        "found before"
    ]


# --- the packet ---

GIVEN = {
    "source_address": "198.51.100.2",
    "destination_address": "203.0.113.10",
    "protocol": "tcp",
    "source_port": 40000,
    "destination_port": 80,
}


def test_packet_in_canonical_form() -> None:
    assert parse(**GIVEN) == TCP
    assert parse(**{**GIVEN, "protocol": "17"}) == UDP
    assert parse(**{**GIVEN, "protocol": "TCP", "opens": True}) == SYN
    six = {"source_address": "2001:DB8:0::2", "destination_address": "2001:db8:100::10"}
    assert parse(**{**GIVEN, **six}).source == "2001:db8::2"


def test_other_protocols_need_no_ports() -> None:
    packet = parse("198.51.100.2", "203.0.113.10", "icmp")
    assert not packet.is_balanced
    assert str(packet) == "icmp 198.51.100.2 -> 203.0.113.10"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"source_address": "198.51.100"}, "source_address '198.51.100' is not an IPv4 or IPv6"),
        (
            {"destination_address": "203.0.113.10/32"},
            "destination_address '203.0.113.10/32' is not",
        ),
        ({"source_address": "2001:db8::1"}, "are of different families"),
        ({"source_port": 65536}, "source_port 65536 is not from 0 to 65535"),
        ({"destination_port": None}, "destination_port is missing: a tcp packet has one"),
        ({"protocol": " "}, "protocol is empty"),
        ({"protocol": "udp", "opens": True}, "opens: no udp packet opens a connection"),
    ],
)
def test_mistakes_name_the_argument(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(PacketError) as caught:
        parse(**{**GIVEN, **wrong})
    assert text in str(caught.value)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(PacketError) as caught:
        parse("x", "y", "tcp", -1, None)
    for name in ("source_address", "destination_address", "source_port", "destination_port"):
        assert name in str(caught.value)


def test_every_returned_value_is_documented_with_a_sample() -> None:
    documented = re.findall(r"^(\w+):", module.RETURN, re.MULTILINE)
    assert set(documented) == {field.name for field in dataclasses.fields(Explanation)}
    assert module.RETURN.count("\n  sample:") == len(documented)
