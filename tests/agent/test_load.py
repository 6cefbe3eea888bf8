# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's load tells pauses of the network from its own, and from the machine's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().parents[1] / "lab"
SERVER = """
import asyncio, sys

class Http(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        for _request in range(data.count(b"\\r\\n\\r\\n")):
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nreal1\\n")

class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, source):
        self.transport.sendto(b"real1 " + data, source)

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Http, "127.0.0.1", 0, backlog=1000)
    udp, _protocol = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    print(server.sockets[0].getsockname()[1], udp.get_extra_info("sockname")[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
PAUSE = 1.0


@pytest.fixture(autouse=True)
def _lab_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(LAB))


@contextmanager
def server() -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    with subprocess.Popen([sys.executable, "-c", SERVER], text=True, stdout=subprocess.PIPE) as one:
        assert one.stdout
        web, echo = map(int, one.stdout.readline().split())
        try:
            yield one, web, echo
        finally:
            one.kill()


class Loaded:
    """A load that runs, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[dict[str, object]] = []

    def read_until(self, until: Callable[[dict[str, object]], bool]) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if until(self.lines[-1]):
                return
        pytest.fail("the load has ended")

    def beats(self, count: int) -> None:
        for _beat in range(count):
            self.read_until(lambda line: line["kind"] == "beat")

    def told(self, kind: str) -> list[dict[str, object]]:
        return [line for line in self.lines if line["kind"] == kind]


@contextmanager
def load(web: int, echo: int, direct: str = "") -> Iterator[Loaded]:
    """Begins when all its connections stand."""
    command = [
        *(sys.executable, str(LAB / "load.py"), "--sources", "127.0.0.1,::1"),
        *("--datagrams", f"127.0.0.1:{echo}", "--direct", direct),
        f"http://127.0.0.1:{web}/",
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:
        try:
            loaded = Loaded(process)
            loaded.read_until(lambda line: line["kind"] == "beat" and line["open"] == 200)
            yield loaded
        finally:
            process.terminate()


@contextmanager
def loaded_server() -> Iterator[tuple[subprocess.Popen[str], Loaded]]:
    """A server's process, and a load on it."""
    with ExitStack() as stack:
        serving, web, echo = stack.enter_context(server())
        yield serving, stack.enter_context(load(web, echo))


def pause(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(PAUSE)
    os.kill(process.pid, signal.SIGCONT)


def test_a_server_that_pauses_is_a_gap() -> None:
    with loaded_server() as (serving, loaded):
        pause(serving)
        loaded.beats(4)
    assert any(float(str(gap["seconds"])) > 0.5 * PAUSE for gap in loaded.told("gap"))


def test_a_load_that_did_not_run_is_none() -> None:
    with loaded_server() as (_serving, loaded):
        before = len(loaded.told("gap"))
        pause(loaded.process)
        loaded.beats(4)
    gaps = [float(str(gap["seconds"])) for gap in loaded.told("gap")[before:]]
    assert max(gaps, default=0.0) < 0.8 * PAUSE  # the machine may be busy besides


def test_what_is_late_without_a_node_too_is_taken_off() -> None:
    import trouble

    with server() as (serving, web, echo):
        with load(web, echo, f"http://127.0.0.1:{web}/") as loaded:
            loaded.beats(2)
            pause(serving)
            loaded.beats(4)
        told = trouble.Load()
        for line in loaded.lines:
            told.hear(json.dumps(line))
    assert told.said(0, time.monotonic(), "gap")
    assert not told.troubles(0, time.monotonic(), "gap")


def test_what_is_late_at_another_time_is_not() -> None:
    import trouble

    told = trouble.Load()
    told.hear('{"at": 10.0, "kind": "gap", "id": 1, "server": "real1", "seconds": 0.5}')
    told.hear('{"at": 9.4, "kind": "late", "seconds": 0.5}')
    assert told.troubles(0, 20, "gap")


def test_connections_are_left_when_it_is_told_to() -> None:
    with loaded_server() as (_serving, loaded):
        assert loaded.process.stdin
        loaded.process.stdin.write("leave real1\n")
        loaded.process.stdin.flush()
        loaded.read_until(lambda line: line["kind"] == "left")
        loaded.read_until(lambda line: line["kind"] == "beat" and line["open"] == 200)
    assert len(loaded.told("left")) == 200
    assert not loaded.told("broken")
