# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks every subject at its interval, for ever, each by a task of its own.

How many probes run at once is not bounded: whoever waited for a slow one would be late itself. What
bounds them is that a subject has at most one, so that file descriptors for all subjects do.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
from asyncio import Task
from collections.abc import Callable, Collection

from l4lb_agent.checks import Answer, Key, Subject, ask

_log = logging.getLogger(__name__)

_SWITCH = 0.0005
_COLLECT = 50_000, 20, 100


def keep_pace() -> None:
    """Settings of the whole process, for whoever runs a prober: call it before.

    A probe gives Python's lock away with every system call, and another thread that computes keeps
    it for a switch interval: at the usual 5 ms that made probes of 2,000 backends half a second
    late. The collector of cyclic garbage looks at all that lives, here ten thousand tasks and their
    timers: at its usual thresholds it took a third of the time, and paused for a quarter of a
    second.
    """
    sys.setswitchinterval(_SWITCH)
    gc.freeze()
    gc.set_threshold(*_COLLECT)


class Prober:
    """Asks those watched. Only for the loop's thread."""

    def __init__(self, hear: Callable[[Subject, Answer], bool]) -> None:
        """hear: gets each answer; returns whether the target asked is to be kept for the next round
        (else it is the next one's turn).
        """
        self._hear = hear
        self._running: dict[Key, tuple[Subject, Task[None]]] = {}
        self._stopping: set[Task[None]] = set()

    def watch(self, subjects: Collection[Subject]) -> None:
        """These from now on, and no others. One that is as it was goes on undisturbed; one that is
        new, or has changed, is first asked at a random moment of its interval. Nothing is heard of
        the others any more.
        """
        wanted = {each.key: each for each in subjects if each.targets and each.check.type != "none"}
        for key, (subject, task) in list(self._running.items()):
            if wanted.get(key) != subject:
                del self._running[key]
                self._stop(task)
        for key, subject in wanted.items():
            if key not in self._running:
                self._running[key] = subject, asyncio.create_task(self._run(subject))

    def _stop(self, task: Task[None]) -> None:
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        task.cancel()

    async def close(self) -> None:
        """Stops all; returns when no socket is open any more."""
        self.watch(())
        await asyncio.gather(*self._stopping, return_exceptions=True)

    async def _run(self, subject: Subject) -> None:
        """Rounds are due at multiples of the interval, whatever a probe takes. Of those that are
        due already when one ends, only the last is made up for.
        """
        clock = asyncio.get_running_loop().time
        interval = subject.check.interval
        due = clock() + random.random() * interval  # noqa: S311 - spreads load, guards nothing
        turn = 0
        while True:
            await asyncio.sleep(due - clock())
            answer = await ask(subject, subject.targets[turn])
            if not self._heard(subject, answer):
                turn = (turn + 1) % len(subject.targets)
            due += interval * max(1, int((clock() - due) / interval))

    def _heard(self, subject: Subject, answer: Answer) -> bool:
        try:
            return self._hear(subject, answer)
        except Exception:
            _log.exception("an answer of %s is lost", " ".join(subject.key))
            return False
