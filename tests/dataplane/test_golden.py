# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden packets, as another implementation of the protocols reads them."""

from __future__ import annotations

from array import array

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import identity_hash, slot
from ansible_collections.l4lb.xdp.plugins.module_utils._golden import KINDS, Case, Fleet, cases
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceEntry, ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_compare import (
    Answer,
    Difference,
    Expected,
    ExpectError,
)

MAC = bytes.fromhex("02000000000b")
SERVICES = {
    ServiceKey(address, port, protocol): ServiceEntry(number, 1, f"{protocol}{number}")
    for number, (address, port, protocol) in enumerate(
        [
            ("203.0.113.10", 80, "tcp"),
            ("203.0.113.10", 53, "udp"),
            ("2001:db8:100::10", 80, "tcp"),
            ("2001:db8:100::10", 0, "udp"),
            ("203.0.113.10", 80, "sctp"),
            ("2001:db8:100::10", 80, "sctp"),
        ]
    )
}


def fleet(tracked: tuple[int, ...] = (), identity: str = "five_tuple") -> Fleet:
    marks = array("I", (int(number in tracked) for number in range(251)))
    slots = Slots(array("H", [1] * 251), array("H", [0] * 251), marks)
    identities = {service.pool: identity for service in SERVICES.values()}
    guards = ("192.0.2.0/24", "2001:db8::/32"), {0}
    return Fleet(SERVICES, lambda _pool: slots, 7, MAC, 1500, identities, *guards)


def of(kind: str, found: list[Case]) -> list[Case]:
    return [case for case in found if case.kind == kind]


def test_every_kind_is_made_and_the_same_each_time() -> None:
    found = cases(fleet(), 10, 2)
    assert {case.kind for case in found} == set(KINDS)
    assert cases(fleet(), 10, 2) == found


@pytest.mark.parametrize(
    "kind", ["ack", "syn", "udp", "sctp", "init", "options", "icmp error", "echo", "fin"]
)
def test_checksums_and_lengths_are_right(kind: str) -> None:
    for case in of(kind, cases(fleet(), 10, 2)):
        for raw in case.frames:
            packet = Ether(raw)
            assert packet.dst == "02:00:00:00:00:0b"
            again = packet.copy()
            for layer in (IP, TCP, UDP, SCTP, ICMP, ICMPv6EchoRequest, ICMPv6PacketTooBig):
                if layer in again:
                    name = "cksum" if layer.__name__.startswith("ICMPv6") else "chksum"
                    again[layer].delfieldval(name)
            assert bytes(again) == raw, case


def test_clients_are_of_the_networks_for_benchmarks() -> None:
    for case in cases(fleet(), 10, 4):
        for raw in case.frames:
            packet = Ether(raw)
            for layer, prefixes in ((IP, ("198.18.", "198.19.")), (IPv6, ("2001:2::",))):
                if layer in packet and case.kind not in ("malformed", "foreign", "denied"):
                    assert packet[layer].src.startswith(prefixes), case


def test_full_size_is_what_the_interface_takes() -> None:
    for case in of("full size", cases(fleet(), 10, 1)):
        assert len(case.frames[0]) == 14 + 1500, case


def test_fragments_are_parts_of_one_datagram() -> None:
    for case in of("fragments", cases(fleet(), 10, 1)):
        first, later = (Ether(raw) for raw in case.frames)
        if IP in first:
            assert (first[IP].frag, first[IP].flags.MF) == (0, True)
            assert (later[IP].frag, later[IP].flags.MF, later[IP].id) == (3, False, first[IP].id)
            assert len(first[IP].payload) == 24


@pytest.mark.parametrize("identity", ["five_tuple", "without_source_port", "source_address"])
def test_flows_in_tracked_slots_are_looked_for(identity: str) -> None:
    settled = {case.flow for case in of("ack", cases(fleet(), 10, 2))}
    known = fleet((17, 200), identity)
    found = {case.flow for case in of("ack", cases(known, 10, 2))} - settled
    assert len(found) >= 2
    for flow in found:
        assert flow is not None
        source, destination, source_port, port, protocol = flow
        hashed = identity_hash(identity, 7, source, destination, protocol, source_port, port)
        assert slot(hashed, 251) in (17, 200)


def test_unserved_ports_are_none_of_a_service() -> None:
    for case in of("unserved port", cases(fleet(), 10, 1)):
        packet: Packet = Ether(case.frames[0])
        assert IP in packet  # the IPv6 address has a service of any port
        assert packet.dport not in (80, 53)


def test_services_are_taken_from_each_group_in_turn() -> None:
    many = {
        ServiceKey(f"203.0.113.{number}", 80, "tcp"): ServiceEntry(number, number % 2, f"s{number}")
        for number in range(20)
    }
    found = cases(Fleet(many, lambda _pool: None, 7, MAC, 1500), 4, 1)
    names = {case.text.rsplit(" ", 1)[1][:-1] for case in of("ack", found)}
    assert names == {"s0", "s1", "s2", "s3"}


# --- what may differ ---


def difference(kind: str, old: str, new: str) -> Difference:
    return Difference(Case(kind, "", (b"",)), 0, Answer(old, b""), Answer(new, b""))


@pytest.mark.parametrize("word", ["echo", "drop -> tx", "echo: drop->tx", "echo:drop -> tx"])
def test_expected_by_kind_or_verdicts_or_both(word: str) -> None:
    assert Expected((word,)).covers(difference("echo", "drop", "tx")) == word
    assert Expected((word,)).covers(difference("syn", "tx", "drop")) is None


def test_expecting_a_pair_of_a_kind_is_no_leave_for_others() -> None:
    expected = Expected(("echo: drop -> tx",))
    assert expected.covers(difference("syn", "drop", "tx")) is None
    assert expected.covers(difference("echo", "pass", "tx")) is None


def test_a_kind_with_a_comma_can_be_expected() -> None:
    assert Expected(("syn, ack: tx -> drop",)).covers(difference("syn, ack", "tx", "drop"))


@pytest.mark.parametrize("word", ["eco", "drop -> fly", "eco: drop -> tx", "echo:", ""])
def test_what_there_is_not_is_refused(word: str) -> None:
    with pytest.raises(ExpectError, match="expect: "):
        Expected((word,))


def test_bytes_are_shown_from_the_first_that_differs() -> None:
    answers = (Answer("tx", bytes(50)), Answer("tx", bytes(20) + b"\x01" + bytes(29)))
    shown = Difference(Case("echo", "", (b"",)), 0, *answers).answers()
    assert shown[0].startswith("tx, 50 bytes, from 20: 00 00")
    assert shown[1].startswith("tx, 50 bytes, from 20: 01 00")
