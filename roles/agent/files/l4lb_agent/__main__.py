# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon: probes run in the loop, the steward's turns in a thread of their own.

python3 -m l4lb_agent [OPTIONS_FILE]

systemd is told that all is well after a turn, by the loop: a hung turn and a hung loop are both
noticed. Ending it withdraws nothing: whoever starts it again goes on, else the lease ends.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from systemd import daemon, journal

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from l4lb_agent import metrics, options
from l4lb_agent.checks import Answer, Subject
from l4lb_agent.judge import Judge
from l4lb_agent.prober import Prober, keep_pace
from l4lb_agent.steward import Steward

TURN = 0.5
"""Seconds from one turn's end to the next one's beginning, when nothing happens."""

TOLD = {("unknown", "down"), ("up", "down"), ("down", "up")}
"""Changes of health that are logged; that a backend is well at first is no news."""

log = logging.getLogger("l4lb-agent")


class Agent:
    """The parts, wired."""

    def __init__(self, given: options.Options) -> None:
        self.options = given
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self.wake = asyncio.Event()
        self.judge = Judge()
        self.prober = Prober(self._hear)
        self.steward = Steward(given, self.judge, self._watch)
        self.collector = metrics.Collector(
            self.steward.told,
            self.steward.tables,
            given.pins,
            given.source,
            self.steward.proved,
            given.max_backend_series,
        )

    def _hear(self, subject: Subject, answer: Answer) -> bool:
        if not answer.local:
            self.collector.heard(subject.check.type, answer.ok, answer.seconds)
        before = self.judge.judgements().get(subject.key)
        keep = self.judge.hear(subject.key, answer, time.time())
        after = self.judge.judgements().get(subject.key)
        if before and after and after.health != before.health:
            self.wake.set()
        if before and after and (before.health, after.health) in TOLD:
            log.log(
                logging.INFO if after.health == "up" else logging.WARNING,
                "backend %s of pool %s is %s: %s",
                subject.backend,
                subject.pool,
                after.health,
                answer.text,
                extra={"L4LB_POOL": subject.pool, "L4LB_BACKEND": subject.backend},
            )
        return keep

    def _watch(self, subjects: Collection[Subject]) -> None:
        self.loop.call_soon_threadsafe(self.prober.watch, list(subjects))

    async def run(self) -> None:
        """Until it is told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._stop)
        with ThreadPoolExecutor(1, "steward") as thread:
            await self.loop.run_in_executor(thread, self.steward.start)
            keep_pace()
            self._serve()
            told: set[str] = set()
            while not self.stopping.is_set():
                self.wake.clear()
                again = await self.loop.run_in_executor(thread, self.steward.turn)
                daemon.notify("READY=1\nWATCHDOG=1")
                told = self._log_problems(told)
                if self.steward.ended:
                    log.warning("the maps were made anew: the agent starts again, with those")
                    break
                if not again:
                    await self._pause()
        daemon.notify("STOPPING=1")
        await self.prober.close()

    def _serve(self) -> None:
        """Nobody's backends fall because a port is taken."""
        try:
            metrics.serve(self.options.listen, self.collector, self.steward.told)
        except L4lbError as error:
            self.steward.standing.append(str(error))

    async def _pause(self) -> None:
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.wake, self.stopping)]
        await asyncio.wait(waiting, timeout=TURN, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()

    def _stop(self) -> None:
        self.stopping.set()

    def _log_problems(self, told: set[str]) -> set[str]:
        """Each once, when it comes."""
        now = set(self.steward.problems)
        for problem in sorted(now - told):
            log.error("%s", problem)
        return now


async def run(given: options.Options) -> None:
    await Agent(given).run()


def main() -> int:
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[journal.JournalHandler(SYSLOG_IDENTIFIER="l4lb-agent")]
        if daemon.booted()
        else [logging.StreamHandler()],
    )
    try:
        given = options.load(Path(sys.argv[1]) if len(sys.argv) > 1 else options.PATH)
        asyncio.run(run(given))
    except (L4lbError, OSError) as error:
        log.critical("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
