# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small fleet for probes: a node that balances, a router, two real servers, packets on wires.

node eth0 --- node [router] one --- eth0 one
                            one' -- eth1 one
                            two --- eth0 two
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scapy.layers.l2 import Ether
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils import _program
from ansible_collections.l4lb.xdp.plugins.module_utils._probe import Probes, mark
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted

from .hosts import Host, Server, connect
from .node import NODE4, NODE6, SIZES, SOURCE, VIP4, VIP6, Node, bpffs

PORT = 80
BACKENDS = {
    "192.0.2.71": "one",
    "2001:db8:2::71": "one",
    "192.0.2.135": "two",
    "2001:db8:4::135": "two",
}
"""Backends by address, and which host they are on."""

DEFAULTS = ("0.0.0.0/0", "::/0")


@dataclass
class Fleet:
    """All up, the balancer attached, decapsulation at the real servers, probes synced."""

    directory: Path
    node: Host = field(default_factory=Host)
    router: Host = field(default_factory=Host)
    reals: dict[str, Host] = field(default_factory=lambda: {"one": Host(), "two": Host()})
    servers: dict[str, Server] = field(default_factory=dict)
    decaps: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def made(cls, directory: Path) -> Iterator[Fleet]:
        fleet = cls(directory)
        with ExitStack() as stack:
            stack.callback(fleet.close)
            fleet.wire()
            for name in fleet.reals:
                pins = stack.enter_context(bpffs(directory / f"bpf_{name}"))
                fleet.prepare_real(name, pins)
            fleet.prepare_node(stack.enter_context(bpffs(directory / "bpf")))
            yield fleet

    def wire(self) -> None:
        one, two = self.reals.values()
        for name, host, interface in (
            ("node", self.node, "eth0"),
            ("one", one, "eth0"),
            ("back", one, "eth1"),
            ("two", two, "eth0"),
        ):
            host.quiet()
            connect(self.router, name, host, interface)
        self.router.quiet()
        self.router.address("node", "192.0.2.1/26", "2001:db8:1::1/64")
        self.router.address("one", "192.0.2.65/26", "2001:db8:2::1/64")
        self.router.address("two", "192.0.2.129/26", "2001:db8:4::1/64")
        self.router.address("back", "192.0.2.193/26")
        self.node.address("eth0", f"{NODE4}/26", f"{NODE6}/64")
        one.address("eth0", "192.0.2.71/26", "2001:db8:2::71/64")
        one.address("eth1", "192.0.2.200/26")
        two.address("eth0", "192.0.2.135/26", "2001:db8:4::135/64")
        for host, gateways in (
            (self.node, ("192.0.2.1", "2001:db8:1::1")),
            (one, ("192.0.2.65", "2001:db8:2::1")),
            (two, ("192.0.2.129", "2001:db8:4::1")),
        ):
            for dst, gateway in zip(DEFAULTS, gateways):
                host.route(dst, gateway=gateway)
        for service, node in ((f"{VIP4}/32", NODE4), (f"{VIP6}/128", NODE6)):
            self.router.route(service, gateway=node)
            self.node.route(service, type="unreachable")  # the guard against loops
        for host in (self.node, self.router):
            host.sysctl("ipv4/ip_forward", 1)
            host.sysctl("ipv6/conf/all/forwarding", 1)
        for host in (self.node, *self.reals.values()):
            host.reverse_path("eth0", 2)

    def prepare_real(self, name: str, pins: Path) -> None:
        host = self.reals[name]
        host.address("lo", VIP4, VIP6)
        ends = tuple(address for address, real in BACKENDS.items() if real == name)
        wanted = Wanted("decap", ("eth0",), source=SOURCE, pins=pins, addresses=ends)
        with host.inside():
            self.decaps[name] = _program.prepare(wanted)
        self.attach(name)
        self.start(name)

    def prepare_node(self, pins: Path) -> None:
        with self.node.inside():
            self.balancer = Node(pins, self.directory / "state")
            self.serve(*BACKENDS)
            self.attach_balancer()
            self.probes = Probes(pins, SOURCE, SIZES)
            self.probes.sync((VIP4, VIP6), NODE4, NODE6)
        self.pins = pins

    @property
    def wanted(self) -> Wanted:
        return self.balancer.wanted()

    def serve(self, *backends: str | dict[str, Any], **pool: Any) -> None:
        self.balancer.serve(*backends, **pool)
        actual = self.balancer.tables.actual().backends
        self.indexes = {backend.address: index for index, backend in actual.items()}

    def mark(self, backend: str) -> int:
        return mark(self.indexes[backend])

    def attach(self, name: str) -> None:
        with self.reals[name].inside():
            _program.attach(self.decaps[name])

    def release(self, name: str) -> None:
        with self.reals[name].inside():
            assert _program.release(self.decaps[name].wanted, ["eth0"]) == ["eth0"]

    def attach_balancer(self) -> None:
        with self.node.inside():
            _program.attach(self.balancer.loaded)

    def release_balancer(self) -> None:
        with self.node.inside():
            assert _program.release(self.wanted, ["eth0"]) == ["eth0"]

    def start(self, name: str) -> None:
        self.servers[name] = Server(self.reals[name], name, (VIP4, VIP6), PORT)

    def stop(self, name: str) -> None:
        self.servers[name].close()

    @staticmethod
    def until_answered(name: str, ask: Callable[[], str]) -> None:
        """Neighbours that were lost are found again within seconds."""
        deadline = time.monotonic() + 10
        while True:
            try:
                assert ask() == name
                return
            except OSError:
                assert time.monotonic() < deadline

    def close(self) -> None:
        for name in self.servers:
            self.stop(name)
        for host in (self.node, self.router, *self.reals.values()):
            host.close()


@contextmanager
def sniffed(fleet: Fleet) -> Iterator[list[Packet]]:
    """The frames that the router gets of the node in the body; filled in when it ends."""
    frames: list[Packet] = []
    with fleet.router.inside():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    with tap:
        tap.bind(("node", 0))
        tap.setblocking(False)
        yield frames
        while True:
            try:
                frame, (_interface, _protocol, direction, *_rest) = tap.recvfrom(65536)
            except BlockingIOError:
                break
            if direction != socket.PACKET_OUTGOING:
                frames.append(Ether(frame))
