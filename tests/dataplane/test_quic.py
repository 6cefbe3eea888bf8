# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""QUIC by connection id, through the real program: exact bytes, counts, and who explains them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _info
from ansible_collections.l4lb.xdp.plugins.module_utils._trace import Filter, Trace

from .expect import judge, label_of, sent
from .flows import age, ring
from .node import CLIENT4, SOURCE, VIP4, VIP6, Node, from_client
from .test_explain import explainer
from .test_explain import parse as packet_of

A, B, C = "192.0.2.71", "192.0.2.72", "2001:db8:2::73"
SERVERS = {A: 0x0A0B, B: 0x0102, C: 0xFFFF}
V1, V2, OTHER = 1, 0x6B3343CF, 0xFACEB00C
NONCE = bytes(range(1, 7))
REST = Raw(bytes(40))


def connection_id(number: int, config: int = 0, length: int = 2, first: int = 0) -> bytes:
    return bytes([config << 5 | first]) + number.to_bytes(length, "big") + NONCE


def short(cid: bytes, first: int = 0x40) -> bytes:
    return bytes([first]) + cid + bytes(REST)


def long(kind: int, cid: bytes, version: int = V1) -> bytes:
    """kind: its two bits, as that version has them."""
    head = bytes([0xC0 | kind << 4]) + version.to_bytes(4, "big")
    return head + bytes([len(cid)]) + cid + b"\x04abcd" + bytes(REST)


def datagram(payload: bytes, port: int = 4000, ipv6: bool = False, **fields: Any) -> Packet:
    return from_client(UDP(sport=port, dport=80) / Raw(payload), ipv6=ipv6, **fields)


def serve(node: Node, quic: dict[str, int] | None = None, **states: str) -> None:
    """Backends by letter; a state for those that are not active."""
    letters = {A: "a", B: "b", C: "c"}
    node.serve(
        *(
            {
                "address": address,
                "server_id": number,
                "state": states.get(letters[address], "active"),
            }
            for address, number in SERVERS.items()
        ),
        quic=quic or {"server_id_length": 2},
    )


@pytest.fixture
def quic(node: Node) -> Node:
    serve(node)
    return node


def counted(node: Node, packet: Packet) -> tuple[str, str]:
    """What became of it as QUIC, and its backend."""
    before = node.tables.quic_counter(0)
    out = Ether(judge(node, packet).frame).payload
    after = node.tables.quic_counter(0)
    more = {word: after[word] - before[word] for word in after}
    (word,) = (word for word, count in more.items() if count)
    assert more[word] == 1
    return word, str(out.dst)


def by_hash(node: Node, port: int = 4000) -> str:
    """Where the flow goes without QUIC: as a datagram that is none."""
    word, backend = counted(node, datagram(b"", port))
    assert word == "by_hash"
    return backend


@pytest.mark.parametrize("backend", SERVERS)
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "packet",
    [
        short,
        lambda cid: long(2, cid),
        lambda cid: long(3, cid, V2),
    ],
    ids=["short", "Handshake", "Handshake of version 2"],
)
def test_packet_goes_where_its_connection_id_says(
    quic: Node, backend: str, ipv6: bool, packet: Callable[[bytes], bytes]
) -> None:
    for port in range(4000, 4008):
        made = datagram(packet(connection_id(SERVERS[backend])), port, ipv6)
        expected = sent(made, backend, label_of(quic, made))
        assert judge(quic, made) == expected
        assert counted(quic, made) == ("by_id", backend)


@pytest.mark.parametrize(
    "payload",
    [
        long(0, connection_id(SERVERS[A])),
        long(1, connection_id(SERVERS[A])),
        long(3, connection_id(SERVERS[A])),
        long(1, connection_id(SERVERS[A]), V2),
        long(2, connection_id(SERVERS[A]), V2),
        long(2, connection_id(SERVERS[A]), OTHER),
        long(2, connection_id(SERVERS[A]), 0),
        short(connection_id(SERVERS[A]), first=0x00),
        b"",
        short(connection_id(SERVERS[A]))[:14],
        b"\xff" * 60,
    ],
    ids=[
        "Initial",
        "0-RTT",
        "Retry",
        "Initial of version 2",
        "0-RTT of version 2",
        "another version",
        "version negotiation",
        "fixed bit greased",
        "empty",
        "too short for QUIC",
        "noise",
    ],
)
def test_what_has_no_id_of_a_server_goes_by_hash(quic: Node, payload: bytes) -> None:
    for port in range(4000, 4010):
        assert counted(quic, datagram(payload, port)) == ("by_hash", by_hash(quic, port))


@pytest.mark.parametrize(
    "payload",
    [
        short(connection_id(0x0A0C)),
        short(connection_id(SERVERS[A], config=1)),
        short(connection_id(SERVERS[A], config=7)),
        long(2, connection_id(0x0A0C)),
        long(2, connection_id(SERVERS[A])[:2]),
        long(2, b""),
    ],
    ids=[
        "no server's",
        "another configuration",
        "server without configuration",
        "no server's, Handshake",
        "shorter than an id",
        "empty",
    ],
)
def test_unknown_id_falls_back_and_is_counted(quic: Node, payload: bytes) -> None:
    for port in range(4000, 4010):
        assert counted(quic, datagram(payload, port)) == ("unknown_id", by_hash(quic, port))


@pytest.mark.parametrize("length", range(1, 9))
def test_id_has_as_many_bytes_as_configured(node: Node, length: int) -> None:
    number = 0xF1E2D3C4B5A69788 >> 8 * (8 - length)
    backends = [{"address": A, "server_id": number}, {"address": B, "server_id": number ^ 1}]
    node.serve(*backends, quic={"server_id_length": length, "config_id": 5})
    for backend, own in ((A, number), (B, number ^ 1)):
        cid = connection_id(own, 5, length, first=0x1F)
        assert counted(node, datagram(short(cid))) == ("by_id", backend)
        exact = datagram(long(2, cid[: 1 + length]))
        assert counted(node, exact) == ("by_id", backend)
    cut = datagram(long(2, connection_id(number, 5, length)[:length]))
    assert counted(node, cut)[0] == "unknown_id"


def test_the_five_low_bits_are_the_servers(quic: Node) -> None:
    for first in range(32):
        cid = connection_id(SERVERS[B], first=first)
        assert counted(quic, datagram(short(cid))) == ("by_id", B)


@pytest.mark.parametrize("state", ["draining", "disabled"])
def test_draining_backend_keeps_its_connections_and_a_disabled_one_does_not(
    node: Node, state: str
) -> None:
    serve(node, a=state)
    word, backend = counted(node, datagram(short(connection_id(SERVERS[A]))))
    if state == "draining":
        assert (word, backend) == ("by_id", A)
    else:
        assert word == "lost_backend"
        assert backend == by_hash(node) != A


def test_backend_that_is_down_loses_its_connections(quic: Node) -> None:
    index = next(i for i, b in quic.tables.actual().backends.items() if b.address == A)
    table = quic.tables.table("backends")
    leaf = table[index]
    leaf.health = quic.tables.words.value("health", "down")
    table[index] = leaf
    assert counted(quic, datagram(short(connection_id(SERVERS[A]))))[0] == "lost_backend"
    leaf.health = quic.tables.words.value("health", "up")
    table[index] = leaf
    assert counted(quic, datagram(short(connection_id(SERVERS[A])))) == ("by_id", A)


def test_id_is_heard_in_tracked_slots_and_records_nothing(quic: Node) -> None:
    """The flow table knows five-tuples, and a connection may change its own."""
    serve(quic, b="draining")
    assert ring(quic).tracked_count()
    age(quic, 10)
    for port in range(4000, 4050):
        assert counted(quic, datagram(short(connection_id(SERVERS[B])), port)) == ("by_id", B)
    assert quic.flows() == {}


def test_other_frames_are_read_as_well(quic: Node) -> None:
    """Tags, options, extension headers, a first fragment; and its later ones follow it."""
    payload = short(connection_id(SERVERS[B]))
    plain = datagram(payload)
    tagged = Ether(src=plain.src, dst=plain.dst) / Dot1Q(vlan=7) / plain.payload
    options = datagram(payload, options=b"\x94\x04\x00\x00")
    first = datagram(payload[: 8 * 5], id=9, flags="MF")
    extension = from_client(IPv6ExtHdrDestOpt() / UDP(sport=1, dport=80) / Raw(payload), ipv6=True)
    for packet in (tagged, options, first, extension):
        before = quic.tables.quic_counter(0)["by_id"]
        out = Ether(judge(quic, packet).frame)
        assert out[IP].dst == B
        assert quic.tables.quic_counter(0)["by_id"] == before + 1
    later = from_client(Raw(bytes(24)), id=9, frag=6, proto=17)
    assert Ether(judge(quic, later).frame)[IP].dst == B


def test_errors_and_other_protocols_are_not_quic(quic: Node) -> None:
    before = quic.tables.quic_counter(0)
    back = IP(src=VIP4, dst=CLIENT4) / UDP(sport=80, dport=4000) / Raw(bytes(30))
    for packet in (from_client(ICMP(type=3, code=3) / back), from_client(TCP(dport=80))):
        assert judge(quic, packet).verdict == "sent"
    assert quic.tables.quic_counter(0) == before


def test_pool_without_quic_reads_no_ids(node: Node) -> None:
    node.serve({"address": A, "server_id": 1}, {"address": B, "server_id": 2})
    went = {
        Ether(judge(node, datagram(short(connection_id(1)), port)).frame)[IP].dst
        for port in range(4000, 4032)
    }
    assert went == {A, B}
    assert set(node.tables.quic_counter(0).values()) == {0}


def test_connection_survives_another_address_and_another_ring(quic: Node) -> None:
    packet = short(connection_id(SERVERS[A]))
    assert counted(quic, datagram(packet, 4000, src="198.51.100.7"))[1] == A
    assert counted(quic, datagram(packet, 61000, src="198.51.100.99"))[1] == A
    entries = [{"address": b, "server_id": n, "weight": 1} for b, n in SERVERS.items()]
    quic.serve(
        *entries,
        *({"address": f"192.0.2.{80 + i}", "server_id": i, "weight": 1000} for i in range(8)),
        quic={"server_id_length": 2},
    )
    for port in range(4000, 4020):
        assert counted(quic, datagram(packet, port)) == ("by_id", A)


def test_ids_are_changed_and_removed_in_the_kernel(quic: Node) -> None:
    assert len(quic.tables.actual().server_ids) == 3
    quic.serve({"address": A, "server_id": 0x0102}, quic={"server_id_length": 2})
    assert list(quic.tables.actual().server_ids) == [(0, 0x0102)]
    assert counted(quic, datagram(short(connection_id(0x0102)))) == ("by_id", A)
    assert counted(quic, datagram(short(connection_id(SERVERS[A]))))[0] == "unknown_id"
    quic.serve(A)
    assert quic.tables.actual().server_ids == {}
    assert not quic.serve(A).changed


def test_explain_says_what_the_program_does(quic: Node) -> None:
    serve(quic, b="disabled")
    ask, rng = explainer(quic), random.Random(7)
    words = {
        "which no backend": "unknown_id",
        "is not of config_id": "unknown_id",
        "which is disabled": "lost_backend",
        "it goes there": "by_id",
    }
    met = set()
    for port in range(4000, 4060):
        number = rng.choice((*SERVERS.values(), 0x0A0C))
        cid = connection_id(number, rng.choice((0, 0, 0, 1, 7)))
        for vip, ipv6 in ((VIP4, False), (VIP6, True)):
            made = datagram(short(cid), port, ipv6)
            word, backend = counted(quic, made)
            given = (made.payload.src, vip, "udp", port, 80)
            told = ask.explain(packet_of(*given, connection_id=cid.hex()))
            assert told["backend"]["address"] == backend
            (said,) = (kind for text, kind in words.items() if text in " ".join(told["why"]))
            assert said == word
            assert (told["slot"] is None) == (word == "by_id")
            met.add(word)
    assert met == {"by_id", "unknown_id", "lost_backend"}
    told = ask.explain(packet_of(CLIENT4, VIP4, "udp", 4000, 80))
    assert told["backend"]["address"] == by_hash(quic)
    assert any("Initial or 0-RTT" in line for line in told["why"])


def test_info_tells_ids_and_counts(quic: Node) -> None:
    before = quic.tables.quic_counter(0)["by_id"]
    judge(quic, datagram(short(connection_id(SERVERS[A]))))
    told = _info.info(quic.pins, SOURCE, ["pools", "backends"])
    found = told["pools"]["web"]["quic"]
    assert (found["server_id_length"], found["config_id"]) == (2, 0)
    assert found["packets"]["by_id"] == before + 1
    assert {each["address"]: each["server_id"] for each in told["backends"]} == SERVERS


def test_counts_begin_anew_with_another_pool(quic: Node) -> None:
    judge(quic, datagram(short(connection_id(SERVERS[A]))))
    assert quic.tables.quic_counter(0)["by_id"]
    quic.apply({}, [])
    assert set(quic.tables.quic_counter(0).values()) == {0}


def test_trace_shows_a_backend_and_no_slot(quic: Node) -> None:
    with Trace(quic.tables, Filter()) as trace:
        quic.run(datagram(short(connection_id(SERVERS[A]))))
        quic.run(datagram(long(0, connection_id(SERVERS[A]))))
        by_id, first = trace.events(0)
    assert (by_id.backend, by_id.slot) == (A, None)
    assert first.slot is not None
