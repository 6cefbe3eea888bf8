# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prober against real sockets: at its time, in turn, one at once, and no longer than wanted."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import HealthCheck
from l4lb_agent.checks import Answer, Subject, Target
from l4lb_agent.prober import Prober

from .servers import listening, open_files, subject_of

TICK = 0.05


def tcp(interval: float = TICK, timeout: float = TICK) -> HealthCheck:
    """Quicker than inventory allows."""
    return HealthCheck("tcp", interval=interval, timeout=timeout)  # type: ignore[arg-type]


class Heard:
    """Answers as they come."""

    def __init__(self, keep: Callable[[Answer], bool] = lambda _any: False) -> None:
        self.answers: list[tuple[float, Subject, Answer]] = []
        self._keep = keep

    def __call__(self, subject: Subject, answer: Answer) -> bool:
        self.answers.append((asyncio.get_running_loop().time(), subject, answer))
        return self._keep(answer)

    async def until(self, count: int, of: Subject | None = None) -> None:
        """Waits until so many answers have come, of one subject or all."""
        while sum(of is None or subject == of for _any, subject, _any in self.answers) < count:
            await asyncio.sleep(TICK / 10)


@asynccontextmanager
async def prober(heard: Any) -> AsyncIterator[Prober]:
    """Closed at the end, and everything with it."""
    made, tasks = Prober(heard), asyncio.all_tasks()
    try:
        yield made
    finally:
        await made.close()
        assert asyncio.all_tasks() == tasks


def run(work: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))


@contextlib.contextmanager
def targets(count: int) -> Any:
    """So many targets where somebody listens."""
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(listening())[1] for _any in range(count)]
        yield [Target("127.0.0.1", port) for port in ports]


def test_rounds_are_at_multiples_of_the_interval() -> None:
    async def work() -> None:
        with targets(1) as (target,):
            heard, subject = Heard(), subject_of(tcp(), target)
            async with prober(heard) as asking:
                asking.watch([subject])
                await heard.until(30)
            times = [when for when, _any, _any in heard.answers]
            rounds = [(when - times[0]) / TICK for when in times]
            assert statistics.median(abs(each - round(each)) for each in rounds) < 0.1
            assert len({round(each) for each in rounds}) == len(rounds)
            assert all(answer.ok for _any, _any, answer in heard.answers)

    run(work)


def test_first_rounds_are_spread_over_the_interval() -> None:
    async def work() -> None:
        with targets(1) as (target,):
            heard = Heard()
            subjects = [subject_of(tcp(2, 1), target, backend=f"b{i}") for i in range(200)]
            first: dict[str, float] = {}
            async with prober(heard) as asking:
                began = asyncio.get_running_loop().time()
                asking.watch(subjects)
                while len(first) < 200:  # early ones may be asked again before late ones are
                    await heard.until(len(heard.answers) + 1)
                    first = {s.backend: when for when, s, _any in reversed(heard.answers)}
            quarters = [sum(int((w - began) * 2) == i for w in first.values()) for i in range(4)]
            assert min(quarters) > 20, quarters  # 50 each, but for chance

    run(work)


def test_targets_in_turn() -> None:
    async def work() -> None:
        with contextlib.ExitStack() as stack:
            marks: list[int] = []
            servers = []
            for i in range(3):

                def connected(_r: Any, writer: Any, i: int = i) -> None:
                    marks.append(i)
                    writer.close()

                servers.append(await asyncio.start_server(connected, "127.0.0.1", 0))
                stack.callback(servers[-1].close)
            ports = [each.sockets[0].getsockname()[1] for each in servers]
            check = HealthCheck("http", path="/", interval=TICK, timeout=TICK)  # type: ignore[arg-type]
            heard = Heard(keep=lambda _any: len(heard.answers) in (2, 3))
            async with prober(heard) as asking:
                asking.watch([subject_of(check, *(Target("127.0.0.1", port) for port in ports))])
                await heard.until(7)
            # The second is kept twice.
            assert marks[:7] == [0, 1, 1, 1, 2, 0, 1]

    run(work)


def test_one_probe_of_a_subject_at_once_and_no_round_lost_to_a_timeout() -> None:
    """Each probe takes the whole interval, and the next begins when it ends."""

    async def work() -> None:
        with listening() as (_any, port):
            check = HealthCheck("http", path="/", interval=TICK, timeout=TICK)  # type: ignore[arg-type]
            heard = Heard()
            async with prober(heard) as asking:
                before = open_files()
                asking.watch([subject_of(check, Target("127.0.0.1", port))])
                most = 0
                while len(heard.answers) < 20:
                    most = max(most, open_files() - before)
                    await asyncio.sleep(TICK / 10)
            assert most <= 2  # its socket, and the set of sockets
            times = [when for when, _any, _any in heard.answers]
            gaps = [later - earlier for earlier, later in zip(times, times[1:])]
            assert statistics.median(gaps) < 1.5 * TICK
            assert {answer.ok for _any, _any, answer in heard.answers} == {False}

    run(work)


def test_slow_ones_delay_no_other() -> None:
    async def work() -> None:
        with listening() as (_any, silent), targets(1) as (target,):
            slow = HealthCheck("http", path="/", interval=5, timeout=5)
            never = [
                subject_of(slow, Target("127.0.0.1", silent), backend=f"slow{i}")
                for i in range(300)
            ]
            quick = subject_of(tcp(), target, backend="quick")
            heard = Heard()
            async with prober(heard) as asking:
                asking.watch([*never, quick])
                await heard.until(40, of=quick)
            times = [when for when, subject, _any in heard.answers if subject == quick]
            assert (times[-1] - times[0]) / 39 < 1.5 * TICK
            assert {subject.backend for _any, subject, _any in heard.answers} == {"quick"}

    run(work)


def test_watch_leaves_alone_what_did_not_change() -> None:
    async def work() -> None:
        with targets(1) as (target,):
            same = subject_of(tcp(), target, backend="same")
            heard = Heard()
            async with prober(heard) as asking:
                asking.watch([same])
                for i in range(10):
                    await heard.until(2 * i + 2, of=same)
                    again = subject_of(tcp(), target, backend="same")
                    asking.watch([again, subject_of(tcp(), target, backend=f"other{i}")])
            times = [when for when, subject, _any in heard.answers if subject == same]
            rounds = [(when - times[0]) / TICK for when in times]
            assert statistics.median(abs(each - round(each)) for each in rounds) < 0.1

    run(work)


def test_nothing_is_heard_of_what_is_not_watched_any_more() -> None:
    async def work() -> None:
        with targets(2) as (first, second):
            gone, stays = (
                subject_of(tcp(), first, backend="a"),
                subject_of(tcp(), first, backend="b"),
            )
            moved = subject_of(tcp(), second, backend="b")
            heard = Heard()
            async with prober(heard) as asking:
                asking.watch([gone, stays])
                await heard.until(2, of=gone)
                await heard.until(2, of=stays)
                asking.watch([moved])
                heard.answers.clear()
                await heard.until(5, of=moved)
            assert {subject.targets for _any, subject, _any in heard.answers} == {(second,)}

    run(work)


def test_what_is_not_to_be_asked_is_not() -> None:
    async def work() -> None:
        with targets(1) as (target,):
            nothing = subject_of(HealthCheck(), target, backend="none")
            nowhere = subject_of(tcp(), backend="nowhere")
            asked = subject_of(tcp(), target, backend="asked")
            heard = Heard()
            async with prober(heard) as asking:
                asking.watch([nothing, nowhere, asked])
                await heard.until(5, of=asked)
            assert {subject.backend for _any, subject, _any in heard.answers} == {"asked"}

    run(work)


def test_a_listener_that_fails_does_not_end_the_rounds(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        def fail(_answer: Answer) -> bool:
            raise KeyError("lost")

        with targets(1) as (target,):
            heard = Heard(keep=fail)
            async with prober(heard) as asking:
                asking.watch([subject_of(tcp(), target)])
                await heard.until(3)

    run(work)
    assert "an answer of web 192.0.2.71 is lost" in caplog.text


def test_closing_leaves_no_socket_open() -> None:
    async def work() -> None:
        with listening() as (_any, port):
            slow = HealthCheck("http", path="/", interval=TICK, timeout=5)  # type: ignore[arg-type]
            async with prober(Heard()) as asking:
                asking.watch([])
                before = open_files()
                many = [
                    subject_of(slow, Target("127.0.0.1", port), backend=str(i)) for i in range(50)
                ]
                asking.watch(many)
                while open_files() < before + 51:  # the set of sockets is one
                    await asyncio.sleep(TICK / 10)
                await asking.close()
                assert open_files() == before + 1

    run(work)
