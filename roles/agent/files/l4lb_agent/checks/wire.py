# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A probe's socket: marked, bound, never blocking, and gone by its deadline.

Neither asyncio's streams nor its own sock_connect: they cannot mark a socket before it connects,
and cost several times as much. All sockets are in one epoll set per loop, edge-triggered: entered
once, and left by closing. Edges are not lost, because whoever waits has just tried in vain, and
the set is looked at only between the steps of coroutines.

Every stream ends by RST, unless the backend has ended it (SO_LINGER 0). A FIN from here would leave
TIME_WAIT on the node for a minute: at 5,000 probes a second 300,000 of them, while all backends of
a service share one address and port to connect to, thus 28,000 ports.

The ACK that ends the handshake is held back (TCP_QUICKACK off): it leaves with the first data, or
never.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
import struct
from asyncio import AbstractEventLoop, Future
from typing import Union
from weakref import WeakKeyDictionary

from l4lb_agent.checks.subject import CannotAsk, Target

SO_MARK = getattr(socket, "SO_MARK", 36)
IP_BIND_ADDRESS_NO_PORT = 24
_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_BUSY = 0.25
"""Seconds: a deadline noticed later than that tells of the node, not of the backend: what came in
time may not have been read, nor what was to be sent have left.
"""
_RESET = struct.pack("ii", 1, 0)

_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH)
_AGAIN = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
AnySocket = Union[socket.socket, ssl.SSLSocket]


class _Set:
    """The sockets of a loop that are waited for, by file descriptor."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.epoll = select.epoll()
        self.wires: dict[int, Wire] = {}
        loop.add_reader(self.epoll.fileno(), self._look)

    def _look(self) -> None:
        """All that have something to tell: none must wait until its deadline has passed."""
        for fd, _events in self.epoll.poll(0, len(self.wires) + 1):
            wire = self.wires.get(fd)
            if wire is not None:
                wire.wake(True)


_sets: WeakKeyDictionary[AbstractEventLoop, _Set] = WeakKeyDictionary()


def _set_of(loop: AbstractEventLoop) -> _Set:
    found = _sets.get(loop)
    if found is None:
        found = _sets[loop] = _Set(loop)
    return found


class Wire:
    """A socket to a target. What is done with it raises TimeoutError when it would wait longer than
    `seconds` since this was made, OSError for what the network says, CannotAsk for what the node
    lacks, time included. What has come in time is taken, however late the loop gets to it.
    """

    def __init__(self, target: Target, kind: socket.SocketKind, seconds: float) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._set = _set_of(self._loop)
        self._waiter: Future[bool] | None = None
        self._late = self._busy = False
        self.socket: AnySocket = _open(target, kind)
        self._fd = self.socket.fileno()
        self._datagrams = kind == socket.SOCK_DGRAM
        self._deadline = self._loop.call_later(seconds, self._expire)

    def close(self) -> None:
        """At once; nothing is left behind."""
        self._deadline.cancel()
        self._set.wires.pop(self._fd, None)
        self.socket.close()

    def wake(self, in_time: bool) -> None:
        """Something has happened to the socket, or nothing until its deadline."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(in_time)

    def _expire(self) -> None:
        self._late = True
        self._busy = self._loop.time() - self._deadline.when() > _BUSY
        self.wake(False)

    async def _event(self) -> None:
        if not self._late:
            self._waiter = self._loop.create_future()
            if await self._waiter:
                return
        raise CannotAsk("this node is too busy to listen") if self._busy else TimeoutError

    async def connect(self) -> None:
        """A connected socket; for a stream, its peer has answered."""
        address = self._target.address, self._target.port
        code = self.socket.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise self._not_sent(code)
        self._set.wires[self._fd] = self
        self._set.epoll.register(self._fd, _EDGES)
        while code in (errno.EINPROGRESS, errno.EALREADY):
            await self._event()
            code = self.socket.connect_ex(address)  # tells what became of the first
        if code:
            raise OSError(code, os.strerror(code))

    def _not_sent(self, code: int) -> Exception:
        """What is said at once is the node's own, but for a peer so near that it has answered
        already, and for a backend that no route leads to. A marked socket's route is one that we
        have to see to, whatever becomes of the backend.
        """
        error = OSError(code, os.strerror(code))
        direct = not self._target.mark
        if code in (errno.ECONNREFUSED, errno.ECONNRESET) or (direct and code in _NO_ROUTE):
            return error
        if code in (errno.EADDRNOTAVAIL, errno.EAGAIN):
            return CannotAsk("no free port of this node")
        if code in _NO_ROUTE and not self._target.source:
            version = 6 if ":" in self._target.address else 4
            return CannotAsk(f"this node has no IPv{version} address to ask from ({reason(error)})")
        return CannotAsk(reason(error))

    async def write(self, data: bytes) -> None:
        """All of it; a datagram may be empty."""
        while True:
            try:
                data = data[self.socket.send(data) :]
            except _AGAIN:
                await self._event()
                continue
            except OSError as error:
                raise self._not_sent(error.errno or 0) if self._datagrams else error from None
            if not data:
                return

    async def read(self, size: int) -> bytes:
        """What has come, up to that many bytes; of a stream, nothing at its end."""
        while True:
            try:
                return self.socket.recv(size)
            except _AGAIN:
                await self._event()

    async def encrypt(self, context: ssl.SSLContext, name: str | None) -> None:
        """TLS from here on. name: for SNI, and for the certificate where that is verified."""
        secure = context.wrap_socket(
            self.socket, server_hostname=name, do_handshake_on_connect=False
        )
        self.socket = secure
        while True:
            try:
                return secure.do_handshake()
            except _AGAIN:
                await self._event()


def _open(target: Target, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    try:
        opened = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise CannotAsk(f"socket: {reason(error)}") from None
    try:
        if target.mark:
            opened.setsockopt(socket.SOL_SOCKET, SO_MARK, target.mark)
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        if target.source:
            # The port is chosen when it connects: unique for one target, not for all of them.
            opened.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            opened.bind((target.source, 0))
    except OSError as error:
        opened.close()
        raise CannotAsk(f"mark or bind to {target.source}: {reason(error)}") from None
    return opened


def reason(error: OSError) -> str:
    """An error in a few words of lower case: connection refused."""
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
