# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: constant load, and every trouble it has, a line of JSON each, until SIGTERM.

  load.py --sources IPV4,IPV6 --datagrams 203.0.113.30:9000 --direct URL,... URL...

Long connections ask ten times a second on the same connection and are opened again when they break;
short ones are opened, ask once and close; datagrams go over tens of source ports. Each line has
`at`, a time of CLOCK_MONOTONIC, which every process of the machine shares, and `kind`:

  opened   id, url, server            a long connection has its first answer
  broken   id, url, server, why       one is over; `server` is who had answered so far
  left     id, server                 one was closed from here, as the program was told to
  gap      id, server, seconds        an answer on one took longer than GAP
  late     seconds                    an answer took longer than LATE without a node between
  refused  url, why                   a short connection got no answer
  lost     number                     a datagram got no answer; `at` is when it was sent
  beat     open, asked, short, datagrams, answers, took
           twice a second: how many are open; sums, `answers` of short ones by `URL SERVER`; median
           and longest answer since the last one, in milliseconds

The client, the fleet and the real servers share a few CPUs, and a wait for one of them is not the
network's. What this process waited for, or was too busy for, is taken off every answer (Stalls).
And on a few connections it asks the real servers themselves (--direct): what is late there tells
how much of a gap in the same moment is the machine's.

A line `leave SERVER` on stdin closes the long connections on that server, as clients do; they are
opened again.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import selectors
import signal
import sys
import time
from collections import Counter, deque
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
LATE = 0.05  # seconds of an answer without a node between
BUSY = 0.02  # seconds: shorter waits for the CPU are part of every answer


def say(kind: str, at: float | None = None, **more: object) -> None:
    line = {"at": round(time.monotonic() if at is None else at, 4), "kind": kind, **more}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Stalls(selectors.DefaultSelector):
    """The loop's own selector; it adds up for how long this process did not attend to the network.

    Somebody else had the CPU when a wait ended late, or a turn of the loop took long. Timers of the
    load end every wait within milliseconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.returned = time.monotonic()
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        if seconds > BUSY:
            self.sum += seconds

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        self.add(began - self.returned)
        found = super().select(timeout)
        self.returned = time.monotonic()
        self.add(self.returned - began - (timeout or 0))
        return found

    def so_far(self) -> float:
        """Seconds, with those of the turn that is under way."""
        turn = time.monotonic() - self.returned
        return self.sum + (turn if turn > BUSY else 0)


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
    """A connection that is kept; it breaks once. `direct`: without a node between."""

    number = 0

    def __init__(self, target: Target, load: Load, direct: bool) -> None:
        super().__init__(target)
        Long.number += 1
        self.id, self.load, self.direct = Long.number, load, direct
        self.server = ""
        self.sent: float | None = None
        self.stalled = 0.0
        self.over = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.tick()

    def tick(self) -> None:
        """Ask, unless an answer is still to come."""
        now = time.monotonic()
        if self.sent is None:
            self.sent, self.stalled = now, self.load.stalls.so_far()
            self.load.asked += 1
            self.ask()
        elif now - self.sent > SILENCE:
            self.end(f"silent for {SILENCE:.0f} s")

    def heard(self, server: str) -> None:
        now = time.monotonic()
        took = now - (self.sent or now) - (self.load.stalls.so_far() - self.stalled)
        self.sent = None
        if self.direct:
            self.server = server
            if took > LATE:
                say("late", seconds=round(took, 3))
            return
        self.load.took.append(took)
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
        if self.server and not self.direct:
            say("broken", id=self.id, url=self.target.url, server=self.server, why=why)

    def leave(self) -> None:
        """Close it in good order."""
        self.over = True
        if self.transport:
            self.transport.close()
        say("left", id=self.id, server=self.server)


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

    def __init__(
        self,
        stalls: Stalls,
        urls: list[str],
        direct: list[str],
        datagrams: str,
        sources: list[str],
    ) -> None:
        self.stalls = stalls
        self.targets = [Target.of(url, sources) for url in urls]
        self.direct = [Target.of(url, sources) for url in direct]
        host, _colon, port = datagrams.rpartition(":")
        self.udp = (host.strip("[]"), int(port))
        self.udp_source = (alike(host, sources), 0)
        self.long: set[Long] = set()
        self.waiting: dict[int, float] = {}
        self.asked = self.short = self.datagrams = 0
        self.answers: Counter[str] = Counter()
        self.took: list[float] = []
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

    async def keep(self, target: Target, direct: bool = False) -> None:
        """One long connection after the other."""
        while not self.over:
            connection = Long(target, self, direct)
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
            server = await asyncio.wait_for(connection.answer, PATIENCE)
            self.answers[f"{target.url} {server}"] += 1
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
            took, self.took = sorted(self.took) or [0.0], []
            mine = [each for each in self.long if not each.direct]
            say(
                "beat",
                open=sum(1 for each in mine if each.server and not each.over),
                asked=self.asked,
                short=self.short,
                datagrams=self.datagrams,
                answers=self.answers,
                took=[round(seconds * 1000, 1) for seconds in (took[len(took) // 2], took[-1])],
            )

    def obey(self) -> None:
        """One line of stdin."""
        words = sys.stdin.readline().split()
        if not words:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            return
        for connection in list(self.long):
            if words == ["leave", connection.server] and not connection.over:
                connection.leave()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        ending = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        targets = cycle(self.targets)
        loop.add_reader(sys.stdin, self.obey)
        for _connection in range(LONG):
            self.spawn(self.keep(next(targets)))
        for target in self.direct:
            self.spawn(self.keep(target, direct=True))
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
    parser.add_argument("--direct", default="", metavar="URL,...")
    parser.add_argument("--sources", required=True, metavar="IPV4,IPV6")
    parser.add_argument("urls", nargs="+", metavar="URL")
    given = parser.parse_args()
    stalls = Stalls()
    direct = [url for url in given.direct.split(",") if url]
    load = Load(stalls, given.urls, direct, given.datagrams, given.sources.split(","))
    asyncio.set_event_loop(asyncio.SelectorEventLoop(stalls))
    asyncio.get_event_loop().run_until_complete(load.run())


if __name__ == "__main__":
    main()
