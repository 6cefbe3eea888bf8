# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A marked socket reaches exactly its backend, the way a client's packet does; and what would fail
a client fails it.
"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils import _probe, _program
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted

from .hosts import Host
from .node import NODE4, NODE6, VIP4, VIP6
from .probing import BACKENDS, PORT, Fleet, sniffed

SERVICES = (VIP4, VIP6)
SILENCE = 0.5
"""Seconds after which no answer will come: one takes a millisecond."""
PATIENCE = 10
"""Seconds for an answer that must come, on a machine that does other things, too."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet.made(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@contextmanager
def probing(
    fleet: Fleet, service: str, mark: int, kind: socket.SocketKind, wait: float
) -> Iterator[socket.socket]:
    """A socket of the node that is connected to the service's address."""
    with fleet.node.inside():
        probe = socket.socket(socket.AF_INET6 if ":" in service else socket.AF_INET, kind)
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        probe.settimeout(wait)
        probe.connect((service, PORT))
        yield probe


def converse(probe: socket.socket, send: bytes = b"who?") -> str:
    """Who answers."""
    probe.sendall(send)
    if probe.type == socket.SOCK_STREAM:
        probe.shutdown(socket.SHUT_WR)
    return probe.recv(100).decode()


def sent_again(probe: socket.socket) -> int:
    """Segments of a connection. Where packets of several segments are dropped, TCP sends each of
    them again, alone. tcpi_total_retrans in linux/tcp.h.
    """
    told = probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(told[100:104], sys.byteorder)


def ask(
    fleet: Fleet,
    service: str,
    backend: str,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    wait: float = PATIENCE,
) -> str:
    """Who answers a probe of that backend; OSError when nobody does."""
    with probing(fleet, service, fleet.mark(backend), kind, wait) as probe:
        return converse(probe)


def assert_silent(fleet: Fleet, service: str, backend: str) -> None:
    with pytest.raises(TimeoutError):
        ask(fleet, service, backend, wait=SILENCE)


@contextmanager
def without(do: Callable[[], object], undo: Callable[[], object]) -> Iterator[None]:
    do()
    try:
        yield
    finally:
        undo()


def offload(host: Host, interface: str, state: str) -> None:
    """Checksums and segments by the device, or by the kernel."""
    with host.inside():
        subprocess.run(["ethtool", "-K", interface, "tx", state], check=True, capture_output=True)


def single_segments(fleet: Fleet) -> AbstractContextManager[None]:
    """Frames leave the node as they would on a wire: no segments in one, checksums filled in."""
    return without(
        lambda: offload(fleet.node, "eth0", "off"), lambda: offload(fleet.node, "eth0", "on")
    )


# --- what works ---


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("service", SERVICES)
def test_marked_probe_is_answered_by_its_backend_alone(
    fleet: Fleet, service: str, backend: str, kind: socket.SocketKind
) -> None:
    before = {name: server.asked for name, server in fleet.servers.items()}
    assert ask(fleet, service, backend, kind) == BACKENDS[backend]
    asked = {name: server.asked - before[name] for name, server in fleet.servers.items()}
    assert asked == {name: int(name == BACKENDS[backend]) for name in asked}


@pytest.mark.parametrize("state", ["draining", "disabled"])
def test_backend_without_new_flows_is_probed_all_the_same(fleet: Fleet, state: str) -> None:
    first, *others = BACKENDS
    with without(
        lambda: fleet.serve({"address": first, "state": state}, *others),
        lambda: fleet.serve(*BACKENDS),
    ):
        assert ask(fleet, VIP4, first) == BACKENDS[first]


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_asked_where_no_source_of_its_family_is_set(fleet: Fleet, service: str) -> None:
    with fleet.node.inside():
        fleet.probes.sync(SERVICES, None, None)
    try:
        for backend, name in BACKENDS.items():
            assert ask(fleet, service, backend) == name
    finally:
        with fleet.node.inside():
            fleet.probes.sync(SERVICES, NODE4, NODE6)


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_answer_passes_the_nodes_reverse_path_check(fleet: Fleet, rp_filter: int) -> None:
    """Though the service's address is unreachable in the main table, the guard against loops."""
    with without(
        lambda: fleet.node.reverse_path("eth0", rp_filter),
        lambda: fleet.node.reverse_path("eth0", 2),
    ):
        assert ask(fleet, VIP4, "192.0.2.71") == "one"


def captured(fleet: Fleet, service: str, backend: str) -> list[Packet]:
    """What the router gets of a probe with 5,000 bytes, each segment a frame of its own."""
    mark, kind = fleet.mark(backend), socket.SOCK_STREAM
    with (
        single_segments(fleet),
        sniffed(fleet) as frames,
        probing(fleet, service, mark, kind, PATIENCE) as probe,
    ):
        port = probe.getsockname()[1]
        assert converse(probe, bytes(5000)) == BACKENDS[backend]
        assert sent_again(probe) <= 1
    found = [
        frame
        for frame in frames
        if (inner := frame.payload.payload).haslayer(TCP) and inner[TCP].sport == port
    ]
    tunnelled = [frame for frame in found if isinstance(frame.payload.payload, (IP, IPv6))]
    assert len(tunnelled) >= 6, "SYN, ACK and 5,000 bytes"
    return tunnelled


@pytest.mark.parametrize("backend", ["192.0.2.71", "2001:db8:2::71"])
@pytest.mark.parametrize("service", SERVICES)
def test_header_is_the_balancers_and_the_inner_packet_whole(
    fleet: Fleet, service: str, backend: str
) -> None:
    frames = captured(fleet, service, backend)
    protocol = 41 if ":" in service else 4
    for frame in frames:
        outer = frame.payload
        assert (outer.src, outer.dst) == (NODE6 if ":" in backend else NODE4, backend)
        if isinstance(outer, IP):
            assert (outer.tos, outer.ttl, outer.proto) == (0, 64, protocol)
            assert outer.flags == "DF"
        else:
            assert (outer.tc, outer.hlim, outer.nh) == (0, 64, protocol)
        again = outer.copy()
        for layer in (again, again.payload, again[TCP]):
            for computed in {"chksum", "len", "plen"} & set(layer.fields):
                delattr(layer, computed)
        assert bytes(again) == bytes(outer), "lengths and checksums, outer and inner"
        assert len(outer) <= _probe.MTU + 40


# --- what fails ---


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("backend", ["192.0.2.71", "2001:db8:2::71"])
def test_source_is_spread_where_clients_are(fleet: Fleet, service: str, backend: str) -> None:
    """So that a real server which refuses such packets is down. The kernel sends from them."""
    prefixes = {4: ip_network("198.18.16.0/20"), 6: ip_network("2001:db8:9::/96")}
    wanted = fleet.balancer.wanted(
        source_prefix_ipv4=str(prefixes[4]), source_prefix_ipv6=str(prefixes[6])
    )
    settings = fleet.balancer.loaded.compiled[b"settings"]

    def spread(wish: Wanted) -> None:
        _program._configure_balancer(fleet.balancer.loaded.compiled, wish, dry=False)

    before = bytes(settings[0])
    with without(lambda: spread(wanted), lambda: spread(fleet.wanted)):
        sources = {ip_address(frame.payload.src) for frame in captured(fleet, service, backend)}
    version = 6 if ":" in backend else 4
    assert len(sources) == 1, "of one connection"
    assert sources.pop() in prefixes[version]
    assert bytes(settings[0]) == before


def test_process_dead_is_refused(fleet: Fleet) -> None:
    with without(lambda: fleet.stop("one"), lambda: fleet.start("one")):
        for service in SERVICES:
            for backend in ("192.0.2.71", "2001:db8:2::71"):
                with pytest.raises(ConnectionRefusedError):
                    ask(fleet, service, backend)
                with pytest.raises(ConnectionRefusedError):
                    ask(fleet, service, backend, socket.SOCK_DGRAM)
        assert ask(fleet, VIP4, "192.0.2.135") == "two"
    assert ask(fleet, VIP4, "192.0.2.71") == "one"


def all_fail(fleet: Fleet, name: str) -> None:
    """Every probe of that real server runs out of time; the other answers."""
    for service in SERVICES:
        for backend, host in BACKENDS.items():
            if host == name:
                assert_silent(fleet, service, backend)
            else:
                assert ask(fleet, service, backend) == host


def test_host_dead_times_out(fleet: Fleet) -> None:
    with without(lambda: fleet.router.up("one", "down"), lambda: fleet.router.up("one")):
        all_fail(fleet, "one")
    fleet.until_answered("one", lambda: ask(fleet, VIP4, "192.0.2.71", wait=SILENCE))
    fleet.until_answered("one", lambda: ask(fleet, VIP6, "2001:db8:2::71", wait=SILENCE))


@pytest.mark.parametrize("service", SERVICES)
def test_missing_address_at_the_real_server_times_out(fleet: Fleet, service: str) -> None:
    (other,) = set(SERVICES) - {service}
    real = fleet.reals["one"]
    with without(lambda: real.unaddress("lo", service), lambda: real.address("lo", service)):
        for backend in ("192.0.2.71", "2001:db8:2::71"):
            assert_silent(fleet, service, backend)
            assert ask(fleet, other, backend) == "one"
    fleet.until_answered("one", lambda: ask(fleet, service, "192.0.2.71", wait=SILENCE))


def test_dead_decapsulation_times_out(fleet: Fleet) -> None:
    with without(lambda: fleet.release("one"), lambda: fleet.attach("one")):
        all_fail(fleet, "one")
    assert ask(fleet, VIP4, "192.0.2.71") == "one"


def test_strict_reverse_path_check_at_the_real_server_times_out(fleet: Fleet) -> None:
    """Its way back to the node is not the way that tunnels come in by. Loose, it answers."""
    real = fleet.reals["one"]
    route = {"dst": f"{NODE4}/32", "gateway": "192.0.2.193"}
    with without(lambda: real.route(**route), lambda: real.unroute(**route)):
        assert ask(fleet, VIP4, "192.0.2.71") == "one"
        with without(lambda: real.reverse_path("eth0", 1), lambda: real.reverse_path("eth0", 2)):
            assert_silent(fleet, VIP4, "192.0.2.71")
    assert ask(fleet, VIP4, "192.0.2.71") == "one"


# --- what must not pass ---


@pytest.mark.parametrize(
    "mark", [0, 1, _probe.MARK, _probe.mark(0xFFFF), _probe.mark(1000), 0x4C350001]
)
def test_without_a_backends_mark_nothing_leaves(fleet: Fleet, mark: int) -> None:
    """No mark, somebody else's, or that of a backend that is not."""
    for service in SERVICES:
        with pytest.raises(TimeoutError):
            probing(fleet, service, mark, socket.SOCK_STREAM, SILENCE).__enter__()
        with (
            probing(fleet, service, mark, socket.SOCK_DGRAM, SILENCE) as probe,
            pytest.raises(PermissionError),
        ):
            probe.send(b"who?")


def test_tunnels_packet_has_no_mark(fleet: Fleet) -> None:
    """So it is dropped, not wrapped without end, if a backend's address is a service's."""
    rule = {
        "priority": 100,
        "fwmark": _probe.MARK,
        "fwmask": 0xFFFF0000,
        "dst": "192.0.2.64",
        "dst_len": 26,
        "action": "unreachable",
    }
    with (
        fleet.node.netlink() as ip,
        without(lambda: ip.rule("add", **rule), lambda: ip.rule("del", **rule)),
    ):
        assert ask(fleet, VIP6, "192.0.2.71") == "one"


@pytest.mark.parametrize("service", SERVICES)
def test_forwarded_packets_still_meet_the_guard(fleet: Fleet, service: str) -> None:
    """A client's packet when no XDP is attached: refused, not sent back, not to a backend."""
    before = {name: server.asked for name, server in fleet.servers.items()}
    family = socket.AF_INET6 if ":" in service else socket.AF_INET
    with without(fleet.release_balancer, fleet.attach_balancer):
        with fleet.router.inside():
            client = socket.socket(family)
        with client:
            client.settimeout(5)
            with pytest.raises(OSError, match=r"unreachable|No route") as refused:
                client.connect((service, PORT))
    assert refused.value.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
    assert {name: server.asked for name, server in fleet.servers.items()} == before
