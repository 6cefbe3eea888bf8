# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: HTTP over real connections, and who answered them, as JSON.

  traffic.py requests --count 2000 URL...       a new connection for every request
  traffic.py hold --connections 200 URL...      the same connections all the time, until SIGTERM

`hold` prints a line when all its connections stand, and the result at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from urllib.parse import urlsplit

ANSWER_SECONDS = 5
LONGEST_SECONDS = 900

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class BadAnswer(Exception):
    """An answer that is not a real server's; the text is counted as the failure's kind."""


@dataclass
class Tally:
    """What is counted for one URL."""

    answered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


def kind_of(error: Exception) -> str:
    if isinstance(error, BadAnswer):
        return str(error)
    if isinstance(error, TimeoutError):
        return "timeout"
    return type(error).__name__


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Streams]:
    target = urlsplit(url)
    opened = asyncio.open_connection(target.hostname, target.port or 80)
    reader, writer = await asyncio.wait_for(opened, ANSWER_SECONDS)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> str:
    """Read one answer whole, so that the next finds its own beginning; return the real server."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    await reader.readexactly(int(headers["content-length"]))
    if head[0].split()[1] != "200":
        raise BadAnswer(f"status {head[0].split()[1]}")
    if "x-real-server" not in headers:
        raise BadAnswer("no real server")
    return headers["x-real-server"]


async def ask(streams: Streams, url: str, last: bool) -> str:
    """Send one request on an open connection and return who answered."""
    reader, writer = streams
    target = urlsplit(url)
    mood = "close" if last else "keep-alive"
    lines = f"GET {target.path or '/'} HTTP/1.1", f"Host: {target.netloc}", f"Connection: {mood}"
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await writer.drain()
    return await asyncio.wait_for(read_answer(reader), ANSWER_SECONDS)


async def request(url: str, tally: Tally, gate: asyncio.Semaphore) -> None:
    async with gate:
        try:
            async with connection(url) as streams:
                tally.answered[await ask(streams, url, last=True)] += 1
        except (OSError, EOFError, BadAnswer) as error:
            tally.failed[kind_of(error)] += 1


async def requests(urls: list[str], count: int, parallel: int) -> dict[str, object]:
    """Send requests to the URLs in turn, each on a connection and source port of its own."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    gate = asyncio.Semaphore(parallel)
    began = time.monotonic()
    await asyncio.gather(*(request(url, tallies[url], gate) for url in islice(cycle(urls), count)))
    return {
        "requests": count,
        "answered": sum(tally.answered.total() for tally in tallies.values()),
        "failed": sum(tally.failed.total() for tally in tallies.values()),
        "seconds": round(time.monotonic() - began, 1),
        "urls": {url: vars(tally) for url, tally in tallies.items()},
    }


@dataclass
class Held:
    """The connections that are held, and what became of them."""

    interval: float
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0
    answered: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)

    async def pause(self) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.ending.wait(), self.interval)

    async def keep(self, url: str) -> None:
        """Hold one connection: it breaks once, by an error or by another real server's answer."""
        try:
            async with connection(url) as streams:
                server = await ask(streams, url, last=False)
                self.open += 1
                self.servers[server] += 1
                while not self.ending.is_set():
                    await self.pause()
                    self.answered += 1
                    if await ask(streams, url, last=False) != server:
                        raise BadAnswer("another real server")
        except (OSError, EOFError, BadAnswer) as error:
            self.broken[f"{kind_of(error)}: {url}"] += 1


async def hold(urls: list[str], count: int, interval: float, seconds: float) -> dict[str, object]:
    held = Held(interval)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, held.ending.set)
    loop.call_later(seconds, held.ending.set)
    tasks = [asyncio.create_task(held.keep(url)) for url in islice(cycle(urls), count)]
    while held.open + held.broken.total() < count:
        await asyncio.sleep(0.05)
    print(json.dumps({"open": held.open}), flush=True)
    await asyncio.gather(*tasks)
    return {
        "connections": count,
        "answered": held.answered,
        "broken": held.broken.total(),
        "reasons": held.broken,
        "servers": held.servers,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("requests")
    mode.add_argument("--count", type=int, default=2000)
    mode.add_argument("--parallel", type=int, default=32)
    mode = modes.add_parser("hold")
    mode.add_argument("--connections", type=int, default=200)
    mode.add_argument("--interval", type=float, default=0.2, help="seconds between requests")
    mode.add_argument("--seconds", type=float, default=LONGEST_SECONDS, help="at the longest")
    for mode in modes.choices.values():
        mode.add_argument("urls", nargs="+", metavar="URL")
    return parser.parse_args()


def main() -> int:
    given = parse()
    if given.mode == "requests":
        result = asyncio.run(requests(given.urls, given.count, given.parallel))
        failed = result["failed"]
    else:
        result = asyncio.run(hold(given.urls, given.connections, given.interval, given.seconds))
        failed = result["broken"]
    print(json.dumps(result), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
