# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The balancer on two interfaces of a node, with real frames on real links, and one of them lost.

    router a --- eth0 [node]
    router b --- eth1 [node]

Backends are behind the router by both, by eth0 rather.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _links, _program

from .expect import REAL4, REAL6
from .hosts import Host, connect
from .node import NODE4, NODE6, Node, bpffs, from_client

LINKS = (("a", "eth0"), ("b", "eth1"))
PATIENCE = 30.0  # seconds, of a slow machine
WAYS = pytest.mark.parametrize("backend", [REAL4, REAL6], ids=["by IPv4", "by IPv6"])


class Wire:
    """The router's end of a link: sends client's packets, and sees what comes back."""

    def __init__(self, router: Host, name: str, node_mac: str) -> None:
        self.mac = node_mac
        with router.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((name, 0))
        self.socket.setblocking(False)

    def send(self, port: int, ipv6: bool) -> bytes:
        """A datagram to the service; returns it without its Ethernet header."""
        packet = from_client(UDP(sport=port, dport=80) / Raw(b"by any link"), ipv6=ipv6)
        packet.dst = self.mac
        with contextlib.suppress(OSError):  # while the link is down
            self.socket.send(bytes(packet))
        return bytes(packet.payload)

    def frames(self) -> list[bytes]:
        """What has come in since; a link that is down says so once."""
        found = []
        with contextlib.suppress(OSError):
            while True:
                frame, (_name, _protocol, direction, *_rest) = self.socket.recvfrom(65536)
                if direction != socket.PACKET_OUTGOING:
                    found.append(frame)
        return found


class Bench:
    """Router and node, the balancer attached to both of its interfaces."""

    def __init__(self, directory: Path, pins: Path) -> None:
        self.router, self.host = Host(), Host()
        for host in (self.router, self.host):
            host.quiet()
        for name, peer in LINKS:
            connect(self.router, name, self.host, peer)
        self._address()
        self._let_the_router_take_redirected_frames()
        with self.host.inside():
            self.node = Node(pins, directory / "state")
            self.wanted = self.node.wanted(interfaces=("eth0", "eth1"))
            self.node.loaded = replace(self.node.loaded, wanted=self.wanted)
            macs = {name: _links.interface(peer).address or "" for name, peer in LINKS}
            _program.attach(self.node.loaded)
        self.wires = {name: Wire(self.router, name, mac) for name, mac in macs.items()}

    def _address(self) -> None:
        host, router = self.host, self.router
        host.address("eth0", f"{NODE4}/26", f"{NODE6}/64")
        host.address("eth1", "192.0.2.139/26", "2001:db8:4::139/64")
        router.address("a", "192.0.2.1/26", "2001:db8:1::1/64")
        router.address("b", "192.0.2.129/26", "2001:db8:4::1/64")
        host.sysctl("ipv4/ip_forward", 1)
        host.sysctl("ipv6/conf/all/forwarding", 1)
        for _name, peer in LINKS:  # as the role does
            for family in ("ipv4", "ipv6"):
                host.sysctl(f"{family}/conf/{peer}/ignore_routes_with_linkdown", 1)
        for dst, gateways in (
            ("192.0.2.64/26", ("192.0.2.1", "192.0.2.129")),
            ("2001:db8:2::/64", ("2001:db8:1::1", "2001:db8:4::1")),
        ):
            for metric, (gateway, (name, peer)) in enumerate(zip(gateways, LINKS), 100):
                host.route(dst, gateway=gateway, priority=metric, oif=host.index(peer))
                mac = self._mac(name)
                with host.netlink() as ip:
                    index = host.index(peer)
                    ip.neigh("add", dst=gateway, lladdr=mac, ifindex=index, state="permanent")

    def _mac(self, name: str) -> str:
        with self.router.inside():
            return str(_links.interface(name).address)

    def _let_the_router_take_redirected_frames(self) -> None:
        """A veth's end takes them while it has a program."""
        compiled = _bpf.BPF(text=b"int taker(struct xdp_md *ctx) { return XDP_PASS; }")
        taker = compiled.load_func(b"taker", _bpf.BPF.XDP)
        for name, _peer in LINKS:
            _bpf_attach(self.router, name, taker.fd)

    def way(self, came_in: str, port: int, ipv6: bool) -> str | None:
        """The router's end at which a packet that goes in there comes out, in an outer header;
        None when it does not.
        """
        for wire in self.wires.values():
            wire.frames()
        sent = self.wires[came_in].send(port, ipv6)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            for name, wire in self.wires.items():
                for frame in wire.frames():
                    if frame.endswith(sent) and len(frame) > 14 + len(sent):
                        assert Ether(frame).src == wire.mac
                        return name
            time.sleep(0.01)
        return None

    def until(self, came_in: str, ipv6: bool, way: str) -> None:
        """Sends until packets that go in there come out that way, as they must soon."""
        deadline = time.monotonic() + PATIENCE
        for port in range(20000, 60000):
            if self.way(came_in, port, ipv6) == way:
                return
            assert time.monotonic() < deadline, f"in by {came_in}, never out by {way}"

    def close(self) -> None:
        for wire in self.wires.values():
            wire.socket.close()
        self.node.close()
        for host in (self.router, self.host):
            host.close()


def _bpf_attach(host: Host, name: str, fd: int) -> None:
    index = host.index(name)
    with host.inside():
        _bpf.attach_xdp(index, fd, "native", None)


@contextmanager
def bench_of(directory: Path) -> Iterator[Bench]:
    with bpffs(directory / "bpf") as pins:
        bench = Bench(directory, pins)
        try:
            yield bench
        finally:
            bench.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of(tmp_path_factory.mktemp("two")) as bench:
        yield bench


def verdicts(bench: Bench) -> dict[str, int]:
    return {word: count["packets"] for word, count in bench.node.tables.verdicts().items()}


@WAYS
@pytest.mark.parametrize(("came_in", "verdict"), [("a", "sent"), ("b", "redirected")])
def test_packet_leaves_by_the_interface_of_its_route(
    two: Bench, backend: str, came_in: str, verdict: str
) -> None:
    two.node.serve(backend)
    two.until(came_in, False, "a")
    before = verdicts(two)
    assert two.way(came_in, 4000, ipv6=True) == "a"
    after = verdicts(two)
    assert after[verdict] > before[verdict]


@WAYS
def test_link_that_is_lost_leaves_the_other_and_returns(two: Bench, backend: str) -> None:
    two.node.serve(backend)
    for came_in, _peer in LINKS:
        two.until(came_in, False, "a")
    two.router.up("a", "down")
    try:
        two.until("b", False, "b")
        two.until("b", True, "b")
        with two.host.inside():
            assert _program.differs(two.node.loaded) == [], "the program stays on both"
            assert _program.attach(two.node.loaded) == []
    finally:
        two.router.up("a")
    for came_in, _peer in LINKS:
        two.until(came_in, True, "a")


def test_interface_that_is_gone_leaves_the_other(tmp_path: Path) -> None:
    """As when a NIC is pulled out; a new one of its name comes without a program."""
    with bench_of(tmp_path) as two:
        two.node.serve(REAL4)
        two.until("b", False, "a")
        with two.host.netlink() as ip:
            ip.link("del", index=two.host.index("eth0"))
        two.until("b", False, "b")
        with two.host.inside(), pytest.raises(_links.NoSuchInterface, match="eth0"):
            _program.attach(two.node.loaded)
        connect(two.router, "a", two.host, "eth0")
        with two.host.inside():
            assert _program.attach(two.node.loaded) == ["eth0"]
        two.until("b", True, "b")
