# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proof holds when the program sends a packet as it must, and tells what is wrong when not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _program
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import Packet
from ansible_collections.l4lb.xdp.plugins.module_utils._proof import (
    Counted,
    Prover,
    encapsulated,
    inner,
)

from .expect import REAL4, REAL6
from .node import FAR_MAC, SOURCE, VIP4, VIP6, Node, interface

FAR4 = "192.0.2.130"
UNKNOWN = "192.0.2.20"
SERVICES = [ServiceKey(vip, 80, proto) for vip in (VIP4, VIP6) for proto in ("tcp", "udp")]


@pytest.fixture(scope="module")
def shared_prover(shared_node: Node) -> Iterator[Prover]:
    prover = Prover(shared_node.tables, SOURCE, shared_node.pins)
    prover.open(os.dup(shared_node.loaded.fd), "eth0", interface("eth0"))
    yield prover
    prover.close()


@pytest.fixture
def prover(shared_prover: Prover, node: Node) -> Prover:
    """Of the usual node, with nothing counted."""
    del node
    shared_prover.counted = Counted()
    return shared_prover


def reasons(prover: Prover, services: list[ServiceKey] = SERVICES) -> list[str | None]:
    return [prover.prove(service) for service in services]


# --- bytes ---


@pytest.mark.parametrize(("source", "destination"), [("192.0.2.9", VIP4), ("2001:db8::9", VIP6)])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_inner_packet_is_a_valid_one(source: str, destination: str, protocol: str) -> None:
    raw = inner(Packet(source, destination, protocol, 49152, 80, protocol != "udp"))
    read = (IPv6 if ":" in source else IP)(raw)
    transport = read[{"tcp": TCP, "udp": UDP, "sctp": SCTP}[protocol]]
    assert (read.src, read.dst, transport.sport, transport.dport) == (
        source,
        destination,
        49152,
        80,
    )
    if protocol == "tcp":
        assert read[TCP].flags == "S"
    for layer in (read, read.payload):  # scapy writes sums and lengths of its own
        for name in ("chksum", "len", "plen", "dataofs"):
            layer.fields.pop(name, None)
    assert bytes(read) == raw


@pytest.mark.parametrize("ip", [IP(dst=VIP4, tos=0xB8) / UDP(), IPv6(dst=VIP6, tc=0xB9) / UDP()])
def test_outer_header_is_as_scapy_writes_it(ip: Any) -> None:
    raw, macs = bytes(ip), bytes.fromhex("02000000000102000000000b")
    number, traffic_class = (41, 0xB9) if ip.version == 6 else (4, 0xB8)
    outer4 = IP(src="192.0.2.1", dst=REAL4, proto=number, id=0, flags="DF", tos=traffic_class)
    outer6 = IPv6(src="2001:db8::1", dst=REAL6, nh=number, tc=traffic_class, fl=0x54321)
    assert encapsulated(raw, "192.0.2.1", REAL4, 0, macs) == macs + b"\x08\x00" + bytes(
        outer4 / raw
    )
    framed = encapsulated(raw, "2001:db8::1", REAL6, 0x987654321, macs)
    assert framed == macs + b"\x86\xdd" + bytes(outer6 / raw)


# --- what holds ---


@pytest.mark.parametrize("backend", [REAL4, REAL6, FAR4, "2001:db8:4::2"])
def test_both_families_and_protocols_are_proven_by_either_family(
    node: Node, prover: Prover, backend: str
) -> None:
    node.serve(backend)
    assert reasons(prover) == [None] * 4


@pytest.mark.parametrize(("vip", "port"), [(VIP4, 81), (VIP6, 0)])
def test_service_of_sctp_is_proven(node: Node, prover: Prover, vip: str, port: int) -> None:
    service = {"name": "s", "address": vip, "port": port, "protocol": "sctp", "pool": "a"}
    node.apply({"a": {"backends": [{"address": REAL4}]}}, [service])
    assert prover.prove(ServiceKey(vip, port, "sctp")) is None
    (held,) = node.tables.actual().services.values()
    counter = node.tables.service_counters()[held.id]
    assert (counter["packets"], counter["opens"]) == (1, 1)


def test_service_of_any_port_is_proven_at_a_port_that_is_its(node: Node, prover: Prover) -> None:
    pools = {"a": {"backends": [{"address": REAL4}]}, "b": {"backends": []}}
    usual = {"address": VIP4, "protocol": "udp"}
    services = [
        {"name": "any", "port": 0, "pool": "a", **usual},
        {"name": "other", "port": 33434, "pool": "b", **usual},
    ]
    node.apply(pools, services)
    assert prover.prove(ServiceKey(VIP4, 0, "udp")) is None
    assert "no backend of pool b is active" in str(prover.prove(ServiceKey(VIP4, 33434, "udp")))


def test_one_backend_with_a_next_hop_is_enough(node: Node, prover: Prover) -> None:
    node.serve(REAL4, UNKNOWN)
    assert reasons(prover, SERVICES * 8) == [None] * 32


def test_next_hop_that_a_cpu_still_remembers_is_as_good(node: Node, prover: Prover) -> None:
    node.serve(FAR4)
    assert prover.prove(SERVICES[0]) is None
    with neighbour("eth1", FAR4, "02:00:00:00:00:77", FAR_MAC):
        assert prover.prove(SERVICES[0]) is None


# --- what does not hold ---


def test_missing_neighbour_is_named_and_looked_for(node: Node, prover: Prover) -> None:
    node.serve(UNKNOWN)
    (reason, *others) = reasons(prover)
    assert reason == others[0]
    assert f"no next hop: {UNKNOWN} is reached directly by eth0, whose link address" in str(reason)
    with IPRoute() as ip:
        (entry,) = ip.get_neighbours(dst=UNKNOWN, ifindex=interface("eth0"))
    assert entry["state"] & (0x01 | 0x20), "incomplete or failed: the kernel has asked"


def test_missing_route_is_named(node: Node, prover: Prover) -> None:
    node.serve("10.255.0.1")
    assert "no next hop: there is no route to 10.255.0.1" in str(prover.prove(SERVICES[0]))


def test_unreachable_route_is_named(node: Node, prover: Prover) -> None:
    node.serve("192.0.2.200")
    assert "192.0.2.200: the route there is of type unreachable" in str(prover.prove(SERVICES[0]))


def test_deleted_ring_is_named(node: Node, prover: Prover) -> None:
    node.serve(REAL4)
    (pool,) = node.tables.actual().pools
    _bpf.delete(node.tables.table("rings").map_fd, node.tables.table("rings").Key(pool), "")
    assert "no backend of pool web is active" in str(prover.prove(SERVICES[0]))


def test_service_that_the_kernel_lost_is_named(node: Node, prover: Prover) -> None:
    node.serve(REAL4)
    node.lose(SERVICES[0])
    assert "no service of this node takes tcp 203.0.113.10:80" in str(prover.prove(SERVICES[0]))


def test_node_without_a_source_address_is_named(make_node: Callable[..., Node]) -> None:
    node = make_node(source_ipv6=None)
    node.serve(REAL6)
    prover = Prover(node.tables, SOURCE, node.pins)
    prover.open(os.dup(node.loaded.fd), "eth0", interface("eth0"))
    assert "the node has no source_ipv6" in str(prover.prove(SERVICES[0]))
    prover.close()


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("encap.h", "#define TTL 64", "#define TTL 63"),
        ("encap.h", "bpf_htonl(IPV4_DONT_FRAGMENT)", "0"),
        ("forward.h", "link->macs = *(struct macs *)hop->destination;", ""),
        ("balancer.c", "return XDP_TX;", "return XDP_PASS;"),
        ("balancer.c", "choice->label = hash;", "choice->label = hash >> 8;"),
    ],
)
def test_program_that_sends_other_bytes_is_found(
    make_node: Callable[..., Node], tmp_path: Path, file: str, right: str, wrong: str
) -> None:
    node = make_node()
    node.serve(REAL6 if "label" in right else REAL4)
    source = tmp_path / "source"
    shutil.copytree(SOURCE, source)
    text = (source / file).read_text()
    assert right in text
    (source / file).write_text(text.replace(right, wrong))
    mutant = _program.prepare(replace(node.wanted(), source=source))
    prover = Prover(node.tables, SOURCE, node.pins)
    for loaded, found in ((node.loaded, False), (mutant, True)):
        prover.open(os.dup(loaded.fd), "eth0", interface("eth0"))
        told = [str(reason) for reason in reasons(prover)]
        assert ["as it must" in reason for reason in told] == [found] * 4, told
    prover.close()


# --- what a proof leaves behind ---


def test_counted_is_what_the_kernel_counted(node: Node, prover: Prover) -> None:
    node.serve(REAL4, REAL6, FAR4)
    actual = node.tables.actual()
    before = counters(node)
    assert reasons(prover, SERVICES * 5) == [None] * 20
    after, mine = counters(node), prover.counted
    expected = [
        *(mine.services[entry.name] for entry in actual.services.values()),
        *(mine.backends[str(index)] for index in actual.backends),
        *(mine.verdicts[word] for word in node.tables.verdicts()),
    ]
    assert [new - old for new, old in zip(after, before)] == [
        number for count in expected for number in (count.packets, count.bytes)
    ]
    assert [count.packets for count in mine.services.values()] == [5] * 4


def counters(node: Node) -> list[int]:
    """Packets and bytes of every service, backend and verdict."""
    actual, of_services = node.tables.actual(), node.tables.service_counters()
    counts = [
        *(of_services[entry.id] for entry in actual.services.values()),
        *(node.tables.backend_counter(index) for index in actual.backends),
        *node.tables.verdicts().values(),
    ]
    return [count[kind] for count in counts for kind in ("packets", "bytes")]


def test_counted_survives_a_restart_and_forgets_who_is_gone(prover: Prover, node: Node) -> None:
    node.serve(REAL4)
    assert reasons(prover) == [None] * 4
    again = Counted.from_dict(prover.counted.as_dict())
    assert again == prover.counted
    again.add("services", "tcp0", "another id", 40)
    assert again.services["tcp0"].packets == 1


def test_no_flow_of_a_proof_is_left(node: Node, prover: Prover) -> None:
    node.serve(REAL4)
    node.serve(REAL4, REAL6)  # now slots are tracked
    assert reasons(prover, SERVICES * 16) == [None] * 64
    node.serve(REAL4, REAL6, tracking="always")
    assert reasons(prover) == [None] * 4
    assert node.flows() == {}


def test_draining_backend_gets_no_proof(node: Node, prover: Prover) -> None:
    node.serve(REAL4, REAL6)
    node.serve({"address": REAL4, "state": "draining"}, REAL6)
    prover.counted = Counted()
    assert reasons(prover, SERVICES * 8) == [None] * 32
    assert {count.of for count in prover.counted.backends.values()} == {REAL6}


@contextmanager
def neighbour(name: str, address: str, mac: str, back: str) -> Iterator[None]:
    """The neighbour has another link address meanwhile."""
    with IPRoute() as ip:
        at = {"dst": address, "ifindex": interface(name), "state": "permanent"}
        ip.neigh("replace", lladdr=mac, **at)
        try:
            yield
        finally:
            ip.neigh("replace", lladdr=back, **at)
