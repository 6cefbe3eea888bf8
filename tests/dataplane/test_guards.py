# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards in the real program: who is denied, not allowed, too many; and what they never touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Dot1Q
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _rates
from ansible_collections.l4lb.xdp.plugins.module_utils._guard_tables import GuardTables
from ansible_collections.l4lb.xdp.plugins.module_utils._guards import PROOF
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey

from .expect import REAL4, dropped, judge, passed, sent
from .flows import A, B, ack, syn, udp
from .node import CLIENT4, CLIENT6, VIP4, VIP6, XDP_DROP, XDP_TX, Node, from_client

OTHERS = "198.51.100.128/25", "2001:db8:3:8000::/49"
DENIED = "198.51.100.0/25", "2001:db8:3::/64"
"""Prefixes without and with the clients of the tests."""

POOLS = {"web": {"backends": [{"address": REAL4}]}}


def serve(node: Node, deny: tuple[str, ...] = (), port: int = 80, **guards: Any) -> None:
    """TCP, UDP and SCTP of both addresses; the guards are those of TCP and SCTP."""
    services = [
        {"name": f"{protocol}{i}", "address": vip, "port": port, "protocol": protocol}
        | {"pool": "web"}
        | ({k: v[i] if k == "allow" else v for k, v in guards.items()} if protocol != "udp" else {})
        for protocol in ("tcp", "udp", "sctp")
        for i, vip in enumerate((VIP4, VIP6))
    ]
    node.apply(POOLS, services, deny)


# --- deny ---

OURS = {
    "TCP": from_client(TCP(sport=4000, dport=80)),
    "UDP, IPv6": from_client(UDP(sport=4000, dport=80), ipv6=True),
    "SCTP": from_client(SCTP(sport=4000, dport=80) / SCTPChunkInit()),
    "another port": from_client(TCP(sport=4000, dport=81)),
    "another protocol, IPv6": from_client(Raw(bytes(40)), ipv6=True, nh=47),
    "options": from_client(TCP(sport=4000, dport=80), options=b"\x01\x01\x01\x00"),
    "echo": from_client(ICMP()),
    "echo, IPv6": from_client(ICMPv6EchoRequest(), ipv6=True),
    "a first fragment": from_client(UDP(sport=4000, dport=80) / bytes(16), flags="MF"),
    "a later fragment": from_client(Raw(bytes(40)), frag=3, proto=17),
    "a later fragment, IPv6": from_client(
        IPv6ExtHdrFragment(offset=3, nh=17) / Raw(bytes(40)), ipv6=True
    ),
    "an error from it": from_client(
        ICMP(type=3, code=1) / IP(src=VIP4, dst="192.0.2.250") / UDP(sport=80, dport=4000)
    ),
    "an error about it, IPv6": from_client(
        ICMPv6DestUnreach() / IPv6(src=VIP6, dst=CLIENT6) / UDP(sport=80, dport=4000),
        ipv6=True,
        src="2001:db8:9::1",
        nh=58,
    ),
    "a lying length": from_client(Raw(bytes(8)), len=19, proto=6),
}


@pytest.mark.parametrize("packet", OURS.values(), ids=OURS.keys())
def test_whatever_comes_from_a_denied_source_is_dropped(node: Node, packet: Packet) -> None:
    serve(node, DENIED)
    assert judge(node, packet) == dropped(packet, "drop_denied")


@pytest.mark.parametrize("packet", OURS.values(), ids=OURS.keys())
def test_other_sources_are_as_without_a_deny_list(node: Node, packet: Packet) -> None:
    serve(node)
    before = judge(node, packet)
    serve(node, OTHERS)
    assert judge(node, packet) == before


FOREIGN = {
    "TCP": from_client(TCP(dport=80), dst="203.0.113.99"),
    "UDP, IPv6": from_client(UDP(dport=80), ipv6=True, dst="2001:db8:100::99"),
    "echo": from_client(ICMP(), dst="203.0.113.99"),
    "a later fragment": from_client(Raw(bytes(40)), frag=3, dst="203.0.113.99"),
    "neighbour solicitation": from_client(ICMPv6ND_NS(tgt=VIP6), ipv6=True),
    "a lying length": from_client(Raw(bytes(8)), len=19, proto=6, dst="203.0.113.99"),
}


@pytest.mark.parametrize("packet", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_packets_of_a_denied_source_are_passed(node: Node, packet: Packet) -> None:
    serve(node, DENIED)
    assert judge(node, packet) == passed(packet)


def test_denied_behind_tags(node: Node) -> None:
    serve(node, DENIED)
    plain = from_client(TCP(sport=4000, dport=80))
    tagged = plain.copy()
    inner = tagged.payload
    tagged.remove_payload()
    tagged = tagged / Dot1Q(vlan=7) / inner
    assert judge(node, tagged) == dropped(tagged, "drop_denied")


def test_service_of_any_port(node: Node) -> None:
    serve(node, DENIED, port=0)
    packet = from_client(TCP(sport=4000, dport=4711))
    assert judge(node, packet) == dropped(packet, "drop_denied")


def test_denied_ones_are_not_passed_where_others_are(make_node: Callable[..., Node]) -> None:
    node = make_node(other_ports="pass", echo="pass")
    serve(node, DENIED)
    for packet in (OURS["another port"], OURS["echo"]):
        assert judge(node, packet) == dropped(packet, "drop_denied")


def test_list_that_is_emptied_denies_nobody(node: Node) -> None:
    serve(node, DENIED)
    serve(node)
    packet = from_client(TCP(sport=4000, dport=80))
    assert judge(node, packet) == sent(packet)


@pytest.mark.parametrize(
    ("prefix", "source", "inside"),
    [
        ("198.51.100.2/32", "198.51.100.2", True),
        ("198.51.100.2/32", "198.51.100.3", False),
        ("198.51.96.0/20", "198.51.111.255", True),
        ("198.51.96.0/20", "198.51.112.0", False),
        ("128.0.0.0/1", "255.255.255.254", True),
        ("128.0.0.0/1", "127.255.255.255", False),
        ("2001:db8:2::/47", "2001:db8:3:ffff::1", True),
        ("2001:db8:3::2/128", "2001:db8:3::2", True),
        ("2001:db8:3::2/128", "2001:db8:3::3", False),
    ],
)
def test_every_bit_of_a_prefix_counts(node: Node, prefix: str, source: str, inside: bool) -> None:
    serve(node, (prefix,))
    packet = from_client(UDP(sport=4000, dport=80), ipv6=":" in source, src=source)
    assert judge(node, packet).verdict == ("drop_denied" if inside else "sent")


# --- allow ---


@pytest.mark.parametrize("ipv6", [False, True])
def test_only_allowed_sources_come_in(node: Node, ipv6: bool) -> None:
    serve(node, allow=[[prefix] for prefix in DENIED])
    inside = from_client(TCP(sport=4000, dport=80), ipv6=ipv6)
    source = "2001:db8:3:1::1" if ipv6 else "198.51.100.128"
    outside = from_client(TCP(sport=4000, dport=80), ipv6=ipv6, src=source)
    assert judge(node, inside).verdict == "sent"
    assert judge(node, outside) == dropped(outside, "drop_not_allowed")


def test_each_service_has_ranges_of_its_own(node: Node) -> None:
    usual = {"address": VIP4, "protocol": "tcp", "pool": "web"}
    services = [
        {"name": "one", "port": 80, "allow": ["198.51.100.0/24"], **usual},
        {"name": "two", "port": 81, "allow": ["192.0.2.0/24", "198.51.100.9"], **usual},
        {"name": "three", "port": 82, **usual},
    ]
    node.apply(POOLS, services)
    verdicts = {
        port: judge(node, from_client(TCP(sport=4000, dport=port))).verdict for port in (80, 81, 82)
    }
    assert verdicts == {80: "sent", 81: "drop_not_allowed", 82: "sent"}
    ids = {key.port: service.id for key, service in node.tables.actual().services.items()}
    counters = node.tables.guard_counters()
    assert {port: counters[i]["not_allowed"] for port, i in ids.items()} == {80: 0, 81: 1, 82: 0}


def test_deny_comes_before_allow(node: Node) -> None:
    serve(node, DENIED, allow=[[prefix] for prefix in DENIED])
    packet = from_client(TCP(sport=4000, dport=80))
    assert judge(node, packet) == dropped(packet, "drop_denied")


def test_errors_come_from_anywhere_about_clients_that_are_allowed(node: Node) -> None:
    serve(node, allow=[[prefix] for prefix in DENIED])
    for client, verdict in ((CLIENT4, "sent"), ("192.0.2.250", "drop_not_allowed")):
        about = IP(src=VIP4, dst=client) / TCP(sport=80, dport=4000)
        error = from_client(ICMP(type=3, code=4, nexthopmtu=1400) / about, src="203.0.113.99")
        assert judge(node, error).verdict == verdict


def test_fragments_of_those_who_are_not_allowed_find_no_first(node: Node) -> None:
    serve(node, allow=[[prefix] for prefix in OTHERS])
    first = from_client(TCP(sport=4000, dport=80) / bytes(4), id=9, flags="MF")
    later = from_client(Raw(bytes(40)), id=9, frag=3, proto=6)
    assert judge(node, first) == dropped(first, "drop_not_allowed")
    assert judge(node, later) == dropped(later, "drop_fragment")


def test_echo_is_answered_whomever_services_allow(node: Node) -> None:
    serve(node, allow=[[prefix] for prefix in OTHERS])
    assert judge(node, from_client(ICMP())).verdict == "answered_echo"


def test_echo_that_is_forwarded_asks_the_first_service(make_node: Callable[..., Node]) -> None:
    node = make_node(echo="forward")
    serve(node, allow=[[prefix] for prefix in OTHERS])
    # The first is that of SCTP, by name of its protocol.
    assert judge(node, from_client(ICMP())).verdict == "drop_not_allowed"


# --- new flows ---


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("ipv6", [False, True])
def test_second_new_flow_of_a_slow_service_is_dropped_and_connections_go_on(
    node: Node, ipv6: bool
) -> None:
    serve(node, new_flows=1)  # of each CPU one in as many seconds as there are CPUs, and the first
    assert judge(node, syn(4000, ipv6)).verdict == "sent"
    late = [judge(node, syn(port, ipv6)) for port in range(4001, 4011)]
    assert {judged.verdict for judged in late[:2]} == {"drop_limited"}
    assert {judge(node, ack(port, ipv6)).verdict for port in range(5000, 5020)} == {"sent"}
    assert judge(node, udp(4000, ipv6)).verdict == "sent"


@pytest.mark.usefixtures("one_cpu")
def test_a_second_of_flows_may_come_at_once(node: Node) -> None:
    serve(node, new_flows=50 * _rates.cpus())
    seen = [judge(node, syn(port)).verdict for port in range(4000, 4200)]
    assert seen[:50] == ["sent"] * 50
    service = node.tables.actual().services[ServiceKey(VIP4, 80, "tcp")].id
    assert node.tables.guard_counters()[service]["limited"] == seen.count("drop_limited")


@pytest.mark.usefixtures("one_cpu")
def test_bucket_fills_with_time(node: Node) -> None:
    serve(node, new_flows=1)
    service = node.tables.actual().services[ServiceKey(VIP4, 80, "tcp")].id
    assert judge(node, syn(4000)).verdict == "sent"
    assert judge(node, syn(4001)).verdict == "drop_limited"
    table = node.tables.table("guard_states")
    cpus = table[service]
    for cpu in cpus:
        cpu.due = max(0, cpu.due - _rates.cpus() * 1_000_000_000)  # as if that long ago
    table[service] = cpus
    assert judge(node, syn(4002)).verdict == "sent"


@pytest.mark.usefixtures("one_cpu")
def test_init_of_sctp_is_limited(node: Node) -> None:
    serve(node, new_flows=1)
    packets = [from_client(SCTP(sport=p, dport=80) / SCTPChunkInit()) for p in (4000, 4001)]
    assert [judge(node, packet).verdict for packet in packets] == ["sent", "drop_limited"]


# --- flow records ---


def change(node: Node) -> None:
    node.serve(A)
    node.serve(B, {"address": A, "state": "draining"})


@pytest.mark.usefixtures("one_cpu")
def test_flow_that_is_not_recorded_stays_together(make_node: Callable[..., Node]) -> None:
    node = make_node(new_records=1)
    change(node)
    assert node.backend_of(syn(4000)) == B  # the first is recorded
    assert node.backend_of(ack(4000)) == B
    # All others go on as if their slot had not changed yet, whatever their packet.
    for port in (4001, 4002):
        assert {node.backend_of(packet(port)) for packet in (syn, ack, ack)} == {A}
    assert node.flows() == {B: 1}
    assert node.tables.unrecorded() == 6


@pytest.mark.usefixtures("one_cpu")
def test_record_that_is_there_may_always_be_another(make_node: Callable[..., Node]) -> None:
    node = make_node(new_records=1)
    change(node)
    assert node.backend_of(ack(4000)) == A
    assert node.backend_of(syn(4000)) == B  # the same addresses and ports begin again
    assert node.backend_of(ack(4000)) == B
    assert node.tables.unrecorded() == 0


@pytest.mark.usefixtures("one_cpu")
def test_previous_that_died_gets_no_unrecorded_flow(make_node: Callable[..., Node]) -> None:
    node = make_node(new_records=1)
    change(node)
    node.backend_of(ack(4000))
    node.serve(B, {"address": A, "state": "disabled"})
    assert {node.backend_of(packet(4001)) for packet in (syn, ack)} == {B}


def test_settled_slots_ask_for_no_records(make_node: Callable[..., Node]) -> None:
    node = make_node(new_records=1)
    node.serve(A, B)
    for port in range(4000, 4050):
        node.backend_of(syn(port))
    assert (node.flows(), node.tables.unrecorded()) == ({}, 0)


# --- proofs ---


@pytest.mark.usefixtures("one_cpu")
def test_marked_packet_of_the_node_itself_is_refused_by_no_guard(node: Node) -> None:
    serve(node, DENIED, allow=[[prefix] for prefix in OTHERS], new_flows=1)
    for port in range(4000, 4005):
        packet = syn(port)
        marked = _bpf.run_xdp(node.loaded.fd, bytes(packet), node.ingress, PROOF)
        assert marked == (XDP_TX, sent(packet).frame)
        other = _bpf.run_xdp(node.loaded.fd, bytes(packet), node.ingress, PROOF[::-1])
        assert other == (XDP_DROP, bytes(packet))


def test_what_is_held_is_read_back(node: Node) -> None:
    serve(node, (*DENIED, *OTHERS), allow=[[prefix] for prefix in OTHERS], new_flows=77)
    held = GuardTables(node.tables).guards()
    assert held.deny == {*DENIED, *OTHERS}
    assert {prefix for _service, prefix in held.allow} == set(OTHERS)
    assert {guard.new_flows for guard in held.services.values()} == {77}
    assert held.on == {"deny", "services"}
