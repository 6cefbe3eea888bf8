# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trace tells of packets, that it changes nothing, and that it ends with its reader."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import flow_hash, slot
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import schema
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import now_tick
from ansible_collections.l4lb.xdp.plugins.module_utils._trace import (
    Event,
    Filter,
    Trace,
    TraceError,
    meanings,
)

from .corpus import CORPUS, fleet
from .expect import REAL4
from .fuzz import fuzz
from .node import (
    CLIENT4,
    CLIENT6,
    ROUTER_MAC,
    SIZES,
    SOURCE,
    VIP4,
    VIP6,
    Node,
    from_client,
)

UDP4 = from_client(UDP(sport=4000, dport=80) / Raw(b"payload"))


@pytest.fixture
def served(node: Node) -> Iterator[Node]:
    node.serve(REAL4)
    yield node
    assert node.tables.table("tracing")[0].until == 0, "a trace was left on"


def told(node: Node, *packets: bytes | Packet, **wish: object) -> list[Event]:
    """What a trace tells of these packets."""
    with Trace(node.tables, Filter(**wish)) as trace:
        for packet in packets:
            node.run(packet)
        return list(trace.events(0))


def expected(node: Node, **fields: object) -> Event:
    """What is told of UDP4, but for these fields; time is that of the answer."""
    hashed = flow_hash(node.hash_seed, CLIENT4, VIP4, 17, 4000, 80)
    usual = {
        "time": 0.0,
        "verdict": "sent",
        "service": "udp0",
        "source": CLIENT4,
        "source_port": 4000,
        "destination": VIP4,
        "destination_port": 80,
        "protocol": "udp",
        "slot": slot(hashed, SIZES.ring),
        "backend": REAL4,
        "length": 35,
        "reason": "to the backend, out of the interface it came in",
    }
    return Event(**{**usual, **fields})


def timeless(event: Event) -> Event:
    return Event(**{**vars(event), "time": 0.0})


# --- what is told ---


def test_packet_is_told_with_all_that_was_decided(served: Node) -> None:
    before = time.time()
    (event,) = told(served, UDP4)
    assert before - 0.1 <= event.time <= time.time() + 0.1
    assert timeless(event) == expected(served)


def test_ipv6_packet(served: Node) -> None:
    packet = from_client(TCP(sport=4000, dport=80, flags="S"), ipv6=True)
    (event,) = told(served, packet)
    number = slot(flow_hash(served.hash_seed, CLIENT6, VIP6, 6, 4000, 80), SIZES.ring)
    assert timeless(event) == expected(
        served,
        service="tcp1",
        source=CLIENT6,
        destination=VIP6,
        protocol="tcp",
        slot=number,
        length=60,
    )


def test_icmp_error_is_told_by_its_flow(served: Node) -> None:
    packet = from_client(ICMP(type=11) / IP(src=VIP4, dst=CLIENT4) / UDP(sport=80, dport=4000))
    (event,) = told(served, packet)
    reason = "ICMP error about this flow: to the backend, out of the interface it came in"
    assert timeless(event) == expected(served, length=56, reason=reason)


def test_fragments_have_no_ports_and_no_slot_of_their_own(served: Node) -> None:
    first = from_client(UDP(sport=4000, dport=80) / Raw(bytes(16)), id=7, flags="MF")
    later = from_client(Raw(bytes(8)), id=7, frag=3, proto=17)
    one, other = told(served, first, later)
    assert timeless(one) == expected(served, length=44)
    assert timeless(other) == expected(
        served, source_port=0, destination_port=0, slot=None, length=28
    )


NOT_SENT = {
    "no service of this port": (
        from_client(UDP(sport=4000, dport=81)),
        {"verdict": "drop_unserved", "destination_port": 81, "length": 28},
    ),
    "echo": (
        from_client(ICMP()),
        {"verdict": "answered_echo", "source_port": 0, "destination_port": 0, "length": 28}
        | {"protocol": "icmp"},
    ),
    "foreign": (
        from_client(UDP(sport=4000, dport=80), dst="192.0.2.11"),
        {"verdict": "pass_foreign", "destination": "192.0.2.11", "length": 28},
    ),
    "no IP": (
        Ether(dst="ff:ff:ff:ff:ff:ff", src=ROUTER_MAC) / ARP(pdst=VIP4),
        {"verdict": "pass_foreign", "source": "", "destination": "", "protocol": "0"}
        | {"source_port": 0, "destination_port": 0, "length": 0},
    ),
}


@pytest.mark.parametrize(("packet", "fields"), NOT_SENT.values(), ids=NOT_SENT.keys())
def test_what_is_not_sent_is_told_as_far_as_it_got(
    served: Node, packet: Packet, fields: dict[str, object]
) -> None:
    (event,) = told(served, packet)
    reason = meanings(SOURCE)[str(fields["verdict"])]
    nobody = {"service": None, "slot": None, "backend": None, "reason": reason}
    assert timeless(event) == expected(served, **nobody, **fields)


def test_nobody_in_the_slot(node: Node) -> None:
    node.serve()
    (event,) = told(node, UDP4)
    fields = {"verdict": "drop_no_backend", "backend": None, "reason": "nobody in the slot"}
    assert timeless(event) == expected(node, **fields)


def test_every_verdict_has_a_meaning() -> None:
    assert set(meanings(SOURCE)) == set(schema(SOURCE).enums["verdict"][:-1])


# --- which packets ---


def test_nothing_is_told_when_nobody_asks(served: Node) -> None:
    served.run(UDP4)
    with Trace(served.tables, Filter()) as trace:
        assert list(trace.events(0)) == []
    served.run(UDP4)
    with Trace(served.tables, Filter()) as trace:
        assert list(trace.events(0)) == []


def test_of_one_service(served: Node) -> None:
    tcp = from_client(TCP(sport=4000, dport=80))
    events = told(served, UDP4, tcp, from_client(ICMP()), service="tcp0")
    assert [event.protocol for event in events] == ["tcp"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (CLIENT4, [CLIENT4]),
        ("198.51.100.3/31", [CLIENT4]),
        ("198.51.100.0/31", []),
        ("198.51.100.130/24", [CLIENT4, "198.51.100.200"]),
        ("0.0.0.0/0", [CLIENT4, "198.51.100.200", "0.0.0.1"]),
        (CLIENT6, [CLIENT6]),
        ("2001:db8:3::/65", [CLIENT6]),
        ("2001:db8:3:0:8000::/65", []),
        ("::/0", [CLIENT6]),
    ],
)
def test_of_one_source(served: Node, source: str, found: list[str]) -> None:
    sources = (CLIENT4, "198.51.100.200", "0.0.0.1", CLIENT6)
    packets = [
        from_client(UDP(sport=4000, dport=80), ipv6=":" in source, src=source) for source in sources
    ]
    assert [event.source for event in told(served, *packets, source=source)] == found


def test_of_one_verdict(served: Node) -> None:
    packets = UDP4, from_client(UDP(dport=81)), from_client(ICMP())
    for verdict in ("sent", "drop_unserved", "answered_echo", "pass_foreign"):
        events = told(served, *packets, verdict=verdict)
        assert [event.verdict for event in events] == [verdict] * (verdict != "pass_foreign")


def test_filters_hold_together(served: Node) -> None:
    wish = {"service": "udp0", "verdict": "sent", "source": CLIENT4}
    assert len(told(served, UDP4, **wish)) == 1
    assert told(served, UDP4, **{**wish, "service": "tcp0"}) == []
    assert told(served, UDP4, **{**wish, "source": "198.51.100.3"}) == []
    assert told(served, UDP4, **{**wish, "verdict": "redirected"}) == []


def test_one_in_so_many(served: Node) -> None:
    """Within six standard deviations: this fails by chance once in 500 million runs."""
    packet, count, sample = bytes(UDP4), 12_000, 8
    got = len(told(served, *[packet] * count, sample=sample))
    assert abs(got - count / sample) <= 6 * (count / sample * (1 - 1 / sample)) ** 0.5


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"sample": 0}, "sample 0 is not from 1"),
        ({"service": "web"}, r"service 'web' is not on this node; there are: tcp0, tcp1, udp0"),
        ({"verdict": "lost"}, "verdict 'lost' is not one of: answered_echo, .*sent, to_kernel"),
        ({"source": "10.0.0"}, "source '10.0.0' is neither an address nor a prefix"),
        ({"source": "10.0.0.0/33"}, "source '10.0.0.0/33' is neither"),
        ({"source": "10.0.0.0/"}, "source '10.0.0.0/' is neither"),
    ],
)
def test_impossible_filter_is_named(served: Node, wish: dict[str, object], text: str) -> None:
    with pytest.raises(TraceError, match=text):
        Trace(served.tables, Filter(**wish))


# --- nothing else changes ---


def test_packets_fare_the_same(node: Node) -> None:
    """All of the corpus: bytes, actions and counters, from equal beginnings."""
    results = []
    for traced in (False, True):
        node.reset()
        node.apply(*fleet())
        before = counts(node)
        if traced:
            with Trace(node.tables, Filter(verdict="sent")):
                ran = [node.run(frame) for frame in CORPUS]
        else:
            ran = [node.run(frame) for frame in CORPUS]
        after = counts(node)
        results.append((ran, [more - less for more, less in zip(after, before)], node.flows()))
    assert results[0] == results[1]


def counts(node: Node) -> list[int]:
    """All counters of packets and bytes, in one order."""
    tables = node.tables
    counters = [*tables.verdicts().values(), *tables.service_counters()]
    return [count for each in counters for count in each.values()]


def test_nothing_wrong_goes_out_meanwhile(node: Node) -> None:
    node.apply(*fleet())
    with Trace(node.tables, Filter(sample=100)) as trace:
        until = trace.events(0)
        assert list(until) == []
        fuzz(node, 5000, seed=3)


# --- its end ---


def test_trace_is_off_after_an_error(served: Node) -> None:
    with pytest.raises(KeyError), Trace(served.tables, Filter()):
        raise KeyError
    assert told(served, UDP4)


def test_one_at_a_time(served: Node) -> None:
    with Trace(served.tables, Filter()) as first:
        with pytest.raises(TraceError, match="another trace is running"):
            Trace(served.tables, Filter()).__enter__()
        served.run(UDP4)
        assert len(list(first.events(0))) == 1


def test_killed_reader_leaves_a_trace_that_ends(served: Node) -> None:
    """The lease is put into the past, as if time went by."""
    pid = os.fork()
    if not pid:
        try:
            Trace(served.tables, Filter()).__enter__()
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    entry = served.tables.table("tracing")[0]
    assert 0 < entry.until - now_tick() <= 8
    served.run(UDP4)  # an event that nobody fetches
    _write(served, until=now_tick() - 1)
    served.run(UDP4)
    assert served.tables.table("tracing")[0].until == 0
    assert len(told(served, UDP4)) == 1


def _write(node: Node, **fields: int) -> None:
    table = node.tables.table("tracing")
    entry = table[0]
    for name, value in fields.items():
        setattr(entry, name, value)
    table[0] = entry


def test_reader_puts_the_end_off(served: Node) -> None:
    with Trace(served.tables, Filter()) as trace:
        _write(served, until=now_tick() - 1)
        served.run(UDP4)
        assert list(trace.events(1.2)) == []
        served.run(UDP4)
        assert len(list(trace.events(0))) == 1


def test_what_a_slow_reader_misses_is_counted(served: Node) -> None:
    room = 256 * 1024 // 72  # an event of 64 bytes has a header of 8
    with Trace(served.tables, Filter()) as trace:
        _write(served, until=now_tick() + 1000)  # whatever the machine does besides
        for _packet in range(room + 100):
            served.run(bytes(UDP4))
        got = len(list(trace.events(0.5)))
        assert got + trace.lost == room + 100
        assert trace.lost > 0
    with Trace(served.tables, Filter()) as trace:
        assert trace.lost == 0
