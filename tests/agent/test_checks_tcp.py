# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tcp check and what all checks share: whom it disturbs, what it leaves behind, and what is not
the backend's fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import time
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import HealthCheck
from l4lb_agent.checks import Target
from l4lb_agent.checks.wire import SO_MARK, Wire

from .servers import (
    answer_from_datagrams,
    answer_of,
    asked,
    check_of,
    free_port,
    in_namespace,
    listening,
    open_files,
    time_wait,
)

TCP = check_of(type="tcp")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_somebody_listens(address: str) -> None:
    with listening(address) as (_listener, port):
        answer = answer_of(TCP, Target(address, port))
    assert (answer.ok, answer.text, answer.local) == (True, "ok", False)
    assert 0 < answer.seconds < 1


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_nobody_listens(address: str) -> None:
    answer = answer_of(TCP, Target(address, free_port()))
    assert (answer.ok, answer.text, answer.local) == (False, "connection refused", False)


def test_a_host_that_is_silent() -> None:
    with contextlib.ExitStack() as stack:
        _any, port = stack.enter_context(listening(backlog=0))
        for _any in range(4):  # the queue is full: further SYN are dropped
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        answer = answer_of(TCP, Target("127.0.0.1", port))
    assert (answer.ok, answer.text, answer.local) == (False, "timeout after 1 s", False)
    assert 1 <= answer.seconds < 1.5


def test_the_application_hears_nothing_of_it() -> None:
    with listening() as (listener, port):
        for _any in range(20):
            assert answer_of(TCP, Target("127.0.0.1", port)).ok
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, peer = listener.accept()
            accepted.close()
            assert peer == client.getsockname()
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_nothing_is_left_behind() -> None:
    async def often(port: int) -> None:
        target = Target("127.0.0.1", port)
        assert (await asked(TCP, target)).ok
        before = open_files()
        for _any in range(50):
            assert (await asked(TCP, target)).ok
        assert open_files() == before

    with listening() as (_listener, port):
        asyncio.run(often(port))
        assert time_wait(port) == 0


def test_a_cancelled_probe_closes_its_socket() -> None:
    async def cancel(port: int) -> None:
        target = Target("127.0.0.1", port)
        http = check_of(type="http")
        await asked(TCP, target)
        before = open_files()
        task = asyncio.create_task(asked(http, target))
        while open_files() == before:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_files() == before

    with listening() as (_listener, port):
        asyncio.run(cancel(port))


def test_no_answer_leaves_work_for_the_collector_of_garbage() -> None:
    """It runs seldom in an agent: see prober.keep_pace."""

    async def work(port: int) -> None:
        http = check_of(type="http")
        cases = {
            "ok": (TCP, Target("127.0.0.1", port)),
            "connection refused": (TCP, Target("127.0.0.1", free_port())),
            "timeout after 1 s": (http, Target("127.0.0.1", port)),
            "cannot ask": (TCP, Target("127.0.0.1", port, 1, "192.0.2.99")),
        }
        await asked(TCP, Target("127.0.0.1", port))
        gc.collect()
        for text, (check, target) in cases.items():
            answer = await asked(check, target)
            assert answer.text.startswith(text)
            assert gc.collect() == 0, text

    with listening() as (_listener, port):
        asyncio.run(work(port))


def test_sockets_are_marked_and_bound() -> None:
    async def look(port: int) -> None:
        wire = Wire(Target("127.0.0.1", port, 0x4C340007, "127.0.0.9"), socket.SOCK_STREAM, 1)
        try:
            assert wire.socket.getsockopt(socket.SOL_SOCKET, SO_MARK) == 0x4C340007
            await wire.connect()
            assert wire.socket.getsockname()[0] == "127.0.0.9"
        finally:
            wire.close()

    with listening() as (_listener, port):
        asyncio.run(look(port))
        assert answer_of(TCP, Target("127.0.0.1", port, 0x4C340007, "127.0.0.9")).ok


def test_ipv6_sockets_are_marked_and_bound() -> None:
    with listening("::1") as (_listener, port):
        assert answer_of(TCP, Target("::1", port, 0x4C340007, "::1")).ok


# --- what is not the backend's fault ---


def test_a_source_that_is_not_ours_is_no_answer() -> None:
    answer = answer_of(TCP, Target("127.0.0.1", 80, 1, "192.0.2.99"))
    assert (answer.ok, answer.local) == (False, True)
    assert answer.text == (
        "cannot ask: mark or bind to 192.0.2.99: cannot assign requested address"
    )


@pytest.mark.parametrize("source", [None, "127.0.0.1"])
def test_no_free_port_is_no_answer(source: str | None) -> None:
    async def work() -> None:
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40003")
        with contextlib.ExitStack() as stack:
            _any, port = stack.enter_context(listening(port=80))
            _any, other = stack.enter_context(listening(port=81))
            for _any in range(4):
                held = stack.enter_context(socket.socket())
                held.connect(("127.0.0.1", port))
            answer = await asked(TCP, Target("127.0.0.1", port, 0, source))
            assert (answer.ok, answer.local) == (False, True)
            assert answer.text == "cannot ask: no free port of this node"
            # The ports of one target are not those of another.
            assert (await asked(TCP, Target("127.0.0.1", other, 0, source))).ok

    in_namespace(work)


def test_no_file_descriptor_is_no_answer() -> None:
    async def work(port: int) -> None:
        target = Target("127.0.0.1", port)
        await asked(TCP, target)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            answer = await asked(TCP, target)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (answer.ok, answer.local) == (False, True)
        assert answer.text == "cannot ask: socket: too many open files"

    with listening() as (_listener, port):
        asyncio.run(work(port))


def test_no_route_is_the_backends_fault_unless_the_route_is_ours_to_make() -> None:
    async def work() -> None:
        direct = await asked(TCP, Target("198.51.100.7", 80))
        assert (direct.ok, direct.text, direct.local) == (False, "network is unreachable", False)
        marked = await asked(TCP, Target("198.51.100.7", 80, 0x4C340001))
        lacking = "cannot ask: this node has no IPv4 address to ask from"
        assert marked.text == f"{lacking} (network is unreachable)"
        assert marked.local
        with IPRoute() as ip:  # the guard against loops, where the probes' own table is missing
            ip.route("add", dst="198.51.100.7/32", type="unreachable")
        guarded = await asked(TCP, Target("198.51.100.7", 80, 0x4C340001))
        assert guarded.text == f"{lacking} (no route to host)"
        assert guarded.local

    in_namespace(work)


def test_a_node_that_was_stopped_takes_what_came_meanwhile() -> None:
    async def work(port: int) -> None:
        task = asyncio.create_task(asked(TCP, Target("127.0.0.1", port)))
        await asyncio.sleep(0)
        time.sleep(1.5)  # as if this process had been stopped
        answer = await task
        assert (answer.ok, answer.text) == (True, "ok")

    with listening() as (_listener, port):
        asyncio.run(work(port))


def test_a_node_that_was_stopped_does_not_blame_who_may_have_answered() -> None:
    async def work(port: int) -> None:
        http = check_of(type="http")
        task = asyncio.create_task(asked(http, Target("127.0.0.1", port)))
        await asyncio.sleep(0)
        time.sleep(1.5)  # connected, but nothing could be sent in time
        answer = await task
        assert (answer.ok, answer.local) == (False, True)
        assert answer.text == "cannot ask: this node is too busy to listen"

    with listening() as (_listener, port):
        asyncio.run(work(port))


def test_a_defect_of_ours_is_logged_and_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    impossible = HealthCheck("udp", send="", expect="(")
    answer, _any = answer_from_datagrams(lambda _any: [b"pong"], impossible)
    assert (answer.ok, answer.local) == (False, True)
    assert answer.text.startswith("cannot ask: error: missing )")
    assert "check udp of web 192.0.2.71" in caplog.text
