# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts to send real packets between: a network namespace each, gone with the process.

A socket belongs to the namespace in which it was made, whatever its thread does later.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from .node import CLONE_NEWNET

IFA_F_TENTATIVE = 0x40  # linux/if_addr.h
LIBC = ctypes.CDLL(None, use_errno=True)


class Host:
    """A network namespace."""

    def __init__(self) -> None:
        with _back():
            if LIBC.unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare failed")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            self.up("lo")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread on this host."""
        with _back():
            _set(self.fd)
            yield

    @contextmanager
    def netlink(self) -> Iterator[Any]:
        with self.inside(), IPRoute() as ip:
            yield ip

    def index(self, name: str) -> int:
        with self.netlink() as ip:
            return int(ip.link_lookup(ifname=name)[0])

    def up(self, name: str, state: str = "up") -> None:
        with self.netlink() as ip:
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state=state)

    def address(self, name: str, *prefixes: str) -> None:
        """Adds addresses; without a length, a host's."""
        for prefix in prefixes:
            self._address("add", name, prefix)

    def unaddress(self, name: str, prefix: str) -> None:
        self._address("del", name, prefix)

    def _address(self, command: str, name: str, prefix: str) -> None:
        address, _slash, length = prefix.partition("/")
        with self.netlink() as ip:
            ip.addr(
                command,
                index=ip.link_lookup(ifname=name)[0],
                address=address,
                prefixlen=int(length or (128 if ":" in address else 32)),
            )
        if command == "add":
            self._until_usable(address)

    def _until_usable(self, address: str) -> None:
        """A link that has just come up takes part in IPv6 a moment later; until then the address
        is tentative, and no route may have it as its source.
        """
        deadline = time.monotonic() + 10
        while self._tentative(address):
            assert time.monotonic() < deadline, f"{address} stays tentative"
            time.sleep(0.01)

    def _tentative(self, address: str) -> bool:
        with self.netlink() as ip:
            return any(
                one["flags"] & IFA_F_TENTATIVE and one.get_attr("IFA_ADDRESS") == address
                for one in ip.get_addr()
            )

    def route(self, dst: str, **how: Any) -> None:
        with self.netlink() as ip:
            ip.route("add", dst=dst, **how)

    def unroute(self, dst: str, **how: Any) -> None:
        with self.netlink() as ip:
            ip.route("del", dst=dst, **how)

    def sysctl(self, name: str, value: int) -> None:
        with self.inside():
            Path("/proc/sys/net", name).write_text(str(value))

    def reverse_path(self, interface: str, rp_filter: int) -> None:
        self.sysctl(f"ipv4/conf/{interface}/rp_filter", rp_filter)

    def quiet(self) -> None:
        """For interfaces to come: IPv6 addresses are usable at once, and stay when a link goes."""
        for name in ("all", "default"):
            self.sysctl(f"ipv6/conf/{name}/accept_dad", 0)
            self.sysctl(f"ipv6/conf/{name}/keep_addr_on_down", 1)

    def close(self) -> None:
        os.close(self.fd)


def _set(fd: int) -> None:
    if LIBC.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns failed")


@contextmanager
def _back() -> Iterator[None]:
    """Returns this thread to the namespace that it was in."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        yield
    finally:
        _set(before)
        os.close(before)


def connect(one: Host, name: str, other: Host, peer: str) -> None:
    """A veth pair between two hosts, up."""
    with one.netlink() as ip:
        ip.link("add", ifname=name, kind="veth", peer=peer)
        ip.link("set", index=ip.link_lookup(ifname=peer)[0], net_ns_fd=other.fd)
    one.up(name)
    other.up(peer)


class Server:
    """Says `name` to whoever connects or sends a datagram, at these addresses and a port of a host;
    counts both.
    """

    def __init__(self, host: Host, name: str, addresses: tuple[str, ...], port: int) -> None:
        self.name = name.encode()
        self.asked = 0
        self._stop, self._stopped = socket.socketpair()
        self._sockets = []
        with host.inside():
            for address in addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                self._sockets.append(socket.create_server((address, port), family=family))
                datagrams = socket.socket(family, socket.SOCK_DGRAM)
                datagrams.bind((address, port))
                self._sockets.append(datagrams)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        ready = selectors.DefaultSelector()
        for one in (self._stopped, *self._sockets):
            ready.register(one, selectors.EVENT_READ)
        with ready:
            self._answer(ready)

    def _answer(self, ready: selectors.BaseSelector) -> None:
        while True:
            for one in (key.fileobj for key, _events in ready.select()):
                assert isinstance(one, socket.socket)
                if one is self._stopped:
                    return
                self.asked += 1
                if one.type == socket.SOCK_STREAM:
                    threading.Thread(target=self._converse, args=one.accept()[:1]).start()
                else:
                    one.sendto(self.name, one.recvfrom(4096)[1])

    def _converse(self, client: socket.socket) -> None:
        """Takes all that comes, then answers."""
        with client, contextlib.suppress(OSError):
            client.settimeout(5)
            while client.recv(65536):
                pass
            client.sendall(self.name)

    def close(self) -> None:
        self._stop.send(b"x")
        self._thread.join()
        for one in (*self._sockets, self._stop, self._stopped):
            one.close()
