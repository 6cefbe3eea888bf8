# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the checks' tests ask: real servers, bad ones, and a network namespace to be short of things
in.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute

from ansible_collections.l4lb.xdp.plugins.module_utils._config import parse
from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import HealthCheck
from l4lb_agent.checks import Answer, Subject, Target, ask, command

CLONE_NEWNET = 0x40000000
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
T = TypeVar("T")


def check_of(**check: Any) -> HealthCheck:
    """As inventory writes it."""
    return parse({"web": {"health_check": check}}, []).pools[0].health_check


def subject_of(check: HealthCheck, *targets: Target, backend: str = "192.0.2.71") -> Subject:
    return Subject("web", backend, check, targets)


async def asked(check: HealthCheck, target: Target) -> Answer:
    answer = await ask(subject_of(check, target), target)
    # A program that was killed is reaped by the loop that asked, which may end with this.
    loop = asyncio.get_running_loop()
    gone = [run.gone for who, run in command._killed.items() if who[0] is loop]
    if gone:
        await asyncio.wait(gone, timeout=10)
    return answer


def answer_of(check: HealthCheck, target: Target) -> Answer:
    return asyncio.run(asked(check, target))


@contextmanager
def listening(
    address: str = "127.0.0.1", backlog: int = 16, port: int = 0
) -> Iterator[tuple[socket.socket, int]]:
    """A TCP socket that listens, and its port; nobody accepts unless the test does."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, port))
        listener.listen(backlog)
        listener.setblocking(False)
        yield listener, listener.getsockname()[1]


def answer_from(serve: Serve, check: HealthCheck) -> Answer:
    """The answer to a check of a TCP server that does this with each connection."""

    async def main() -> Answer:
        async def whatever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(whatever, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            return await asked(check, Target("127.0.0.1", port))
        finally:
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    return asyncio.run(main())


def answer_from_datagrams(
    reply: Callable[[bytes], list[bytes]], check: HealthCheck
) -> tuple[Answer, list[bytes]]:
    """The answer to a check of a UDP server that replies so to each datagram; and what it got."""
    got: list[bytes] = []

    class Protocol(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            got.append(data)
            for each in reply(data):
                self.transport.sendto(each, addr)

    async def main() -> Answer:
        loop = asyncio.get_running_loop()
        transport, _any = await loop.create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
        try:
            port = transport.get_extra_info("sockname")[1]
            return await asked(check, Target("127.0.0.1", port))
        finally:
            transport.close()

    return asyncio.run(main()), got


def in_namespace(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs this in a thread that has a network of its own, with a loopback interface."""
    result: list[Any] = []

    def run() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "needs root: unshare failed")
            with IPRoute() as ip:
                ip.link("set", index=1, state="up")
            result.append(asyncio.run(work()))
        except BaseException as error:  # for the thread that waits
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]  # type: ignore[no-any-return]


def time_wait(port: int) -> int:
    """How many sockets of this machine in TIME_WAIT have this port at either end."""
    count = 0
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            ports = {int(words[i].split(":")[1], 16) for i in (1, 2)}
            count += words[3] == "06" and port in ports
    return count


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def eventually(holds: Callable[[], T], seconds: float = 10) -> T:
    """Waits until this holds."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "does not come true"
        time.sleep(0.01)
    return found


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program, until the end of the block."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
