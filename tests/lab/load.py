# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: constant load, and every trouble it has, a line of JSON each, until SIGTERM.

  load.py --sources 198.51.100.8,2001:db8:3::8 --datagrams 203.0.113.30:9000 URL...

Long connections ask ten times a second on the same connection and are opened again when they break;
short ones are opened, ask once and close; datagrams go over tens of source ports. Each line has
`at`, a time of CLOCK_MONOTONIC, which every process of the machine shares, and `kind`:

  opened   id, url, server            a long connection has its first answer
  broken   id, url, server, why       one is over; `server` is who had answered so far
  gap      id, server, seconds        an answer on one took longer than GAP
  refused  url, why                   a short connection got no answer
  lost     number                     a datagram got no answer; `at` is when it was sent
  beat     open, asked, short, datagrams      twice a second: how many are open, and sums
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from urllib.parse import urlsplit

LONG = 200
MESSAGES = 10  # a second, on each long connection
SHORT = 50  # a second
DATAGRAMS = 100  # a second
PORTS = 40  # source ports of the datagrams
GAP = 0.2
PATIENCE = 1.0  # seconds that a short connection and a datagram have
SILENCE = 15.0  # seconds after which a long connection without an answer counts as broken
AGAIN = 0.5  # seconds until a long connection is opened again


def say(kind: str, at: float | None = None, **more: object) -> None:
    line = {"at": round(time.monotonic() if at is None else at, 4), "kind": kind, **more}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Target:
    """A service, the address to ask it from, and the one request that is sent to it."""

    url: str
    host: str
    port: int
    source: str
    request: bytes

    @classmethod
    def of(cls, url: str, sources: list[str]) -> Target:
        parts = urlsplit(url)
        host = parts.hostname or ""
        request = f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        return cls(url, host, parts.port or 80, alike(host, sources), request)

    async def connect(self, protocol: Exchange) -> None:
        opening = asyncio.get_running_loop().create_connection(
            lambda: protocol, self.host, self.port, local_addr=(self.source, 0)
        )
        await asyncio.wait_for(opening, PATIENCE)


def alike(address: str, sources: list[str]) -> str:
    """The source of the address's family."""
    return next(source for source in sources if (":" in source) == (":" in address))


class Exchange(asyncio.Protocol):
    """A connection with one request at a time. `heard` is told of an answer, `lost` of the end."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def ask(self) -> None:
        if self.transport:
            self.transport.write(self.target.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, blank, body = self.buffer.partition(b"\r\n\r\n")
        if blank and body.endswith(b"\n"):  # a real server answers with one line: its name
            self.buffer = b""
            self.heard(body.decode().strip() if b" 200 " in head[:16] else head[9:12].decode())

    def heard(self, server: str) -> None:
        raise NotImplementedError


class Long(Exchange):
    """A connection that is kept; it breaks once."""

    number = 0

    def __init__(self, target: Target, load: Load) -> None:
        super().__init__(target)
        Long.number += 1
        self.id, self.load = Long.number, load
        self.server = ""
        self.sent: float | None = None
        self.over = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.tick()

    def tick(self) -> None:
        """Ask, unless an answer is still to come."""
        now = time.monotonic()
        if self.sent is None:
            self.sent = now
            self.load.asked += 1
            self.ask()
        elif now - self.sent > SILENCE:
            self.end(f"silent for {SILENCE:.0f} s")

    def heard(self, server: str) -> None:
        now = time.monotonic()
        took = now - (self.sent or now)
        self.sent = None
        if not self.server:
            self.server = server
            say("opened", id=self.id, url=self.target.url, server=server)
        elif server != self.server:
            self.end(f"answered by {server}")
        elif took > GAP:
            say("gap", id=self.id, server=server, seconds=round(took, 3))

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(type(exc).__name__ if exc else "closed")

    def end(self, why: str) -> None:
        if self.over:
            return
        self.over = True
        if self.transport:
            self.transport.abort()
        if self.server:
            say("broken", id=self.id, url=self.target.url, server=self.server, why=why)


class Short(Exchange):
    """One question."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.ask()

    def heard(self, server: str) -> None:
        if not self.answer.done():
            self.answer.set_result(server)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionError("closed"))


class Port(asyncio.DatagramProtocol):
    """A source port; remembers what it has sent and not heard of."""

    def __init__(self, waiting: dict[int, float]) -> None:
        self.waiting = waiting

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, _source: object) -> None:
        self.waiting.pop(int(data.split()[-1]), None)

    def error_received(self, exc: OSError) -> None:
        """An ICMP error: the datagram will be counted as lost when its time is over."""


class Load:
    """All of it."""

    def __init__(self, urls: list[str], datagrams: str, sources: list[str]) -> None:
        self.targets = [Target.of(url, sources) for url in urls]
        host, _colon, port = datagrams.rpartition(":")
        self.udp = (host.strip("[]"), int(port))
        self.udp_source = (alike(host, sources), 0)
        self.long: set[Long] = set()
        self.waiting: dict[int, float] = {}
        self.asked = self.short = self.datagrams = 0
        self.running: set[asyncio.Task[None]] = set()
        self.over = False

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def every(self, seconds: float) -> AsyncIterator[None]:
        """Beats that do not drift; those that were missed are left out: a burst is no load."""
        due = time.monotonic()
        while not self.over:
            yield
            due = max(due + seconds, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def keep(self, target: Target) -> None:
        """One long connection after the other."""
        while not self.over:
            connection = Long(target, self)
            with suppress(OSError, asyncio.TimeoutError):
                await target.connect(connection)
                self.long.add(connection)
                while not (connection.over or self.over):
                    await asyncio.sleep(AGAIN)
            self.long.discard(connection)
            await asyncio.sleep(AGAIN)

    async def ask_long(self) -> None:
        """A tenth of the connections ten times as often, so that they do not all ask at once."""
        queue: deque[Long] = deque()
        async for _beat in self.every(1 / MESSAGES / 10):
            if not queue:
                queue.extend(self.long)
            for _turn in range(min(len(queue), -(-len(self.long) // 10))):
                connection = queue.popleft()
                if not connection.over:
                    connection.tick()

    async def ask_once(self, target: Target) -> None:
        connection = Short(target)
        try:
            await target.connect(connection)
            await asyncio.wait_for(connection.answer, PATIENCE)
        except (OSError, asyncio.TimeoutError) as error:
            say("refused", url=target.url, why=type(error).__name__)
        finally:
            if connection.answer.done() and not connection.answer.cancelled():
                connection.answer.exception()
            if connection.transport:
                connection.transport.close()

    async def ask_short(self) -> None:
        targets = cycle(self.targets)
        async for _beat in self.every(1 / SHORT):
            self.short += 1
            self.spawn(self.ask_once(next(targets)))

    async def send_datagrams(self) -> None:
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_datagram_endpoint(
                lambda: Port(self.waiting), local_addr=self.udp_source, remote_addr=self.udp
            )
            for _port in range(PORTS)
        ]
        ports = cycle(port for _transport, port in opened)
        async for _beat in self.every(1 / DATAGRAMS):
            now = time.monotonic()
            self.datagrams += 1
            self.waiting[self.datagrams] = now
            next(ports).transport.sendto(b"%d" % self.datagrams)
            for number, sent in list(self.waiting.items()):
                if now - sent < PATIENCE:
                    break
                del self.waiting[number]
                say("lost", sent, number=number)

    async def beat(self) -> None:
        async for _beat in self.every(0.5):
            say(
                "beat",
                open=sum(1 for each in self.long if each.server and not each.over),
                asked=self.asked,
                short=self.short,
                datagrams=self.datagrams,
            )

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        ending = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        targets = cycle(self.targets)
        for _connection in range(LONG):
            self.spawn(self.keep(next(targets)))
        for work in (self.ask_long, self.ask_short, self.send_datagrams, self.beat):
            self.spawn(work())
        gc.freeze()  # a pause of the collector would look like the network's
        await ending.wait()
        self.over = True
        for task in list(self.running):
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datagrams", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--sources", required=True, metavar="IPV4,IPV6")
    parser.add_argument("urls", nargs="+", metavar="URL")
    given = parser.parse_args()
    asyncio.run(Load(given.urls, given.datagrams, given.sources.split(",")).run())


if __name__ == "__main__":
    main()
