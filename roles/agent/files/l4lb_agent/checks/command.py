# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health check `command`: a program that ends with exit status 0.

It runs in a process group of its own, which is killed when the time is over, and once it has ended
with whatever it left behind. It has none of the agent's capabilities: setpriv (util-linux) takes
the inherited ones away before it. It is started from the loop's thread: that takes a millisecond or
two, since only setpriv is executed in it, whatever file system the program is on.

Not by asyncio's subprocess: up to Python 3.11 that takes a thread for each, and its end waits for
whoever holds the output open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from asyncio import AbstractEventLoop, Future

from l4lb_agent.checks.subject import CannotAsk, Key, Refused, Subject, Target
from l4lb_agent.checks.wire import reason

_BARE = ("setpriv", "--ambient-caps=-all", "--inh-caps=-all", "--")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_RUN = (126, 127)
_PIPE = 65536
_MOST = 1 << 20
_KEPT = 4096

_Who = tuple[AbstractEventLoop, Key, tuple[str, ...]]
_killed: dict[_Who, _Run] = {}
"""Programs that were killed and have not ended yet, nor ever will on a file system that hangs."""


async def ask(subject: Subject, target: Target) -> str:
    """Raises TimeoutError; Refused for an exit status other than 0; CannotAsk when the program
    cannot be run.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + subject.check.timeout
    who = loop, subject.key, subject.check.command
    last = _killed.get(who)
    if last is not None:
        await asyncio.wait([last.gone], timeout=subject.check.timeout)
        if not last.gone.done():
            raise Refused("the last one was killed, and does not end")
    run = _Run(who, {**_environment(subject), "L4LB_PORT": str(target.port)})
    try:
        status = await run.end(deadline)
    finally:
        run.close()
    if status in _NOT_RUN:
        raise CannotAsk(run.last_line() or f"exit status {status}")
    if status:
        how = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
        raise Refused(": ".join(filter(None, (how, run.last_line()))))
    return "ok"


def _environment(subject: Subject) -> dict[str, str]:
    """Nothing of the agent's own."""
    return {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "L4LB_POOL": subject.pool,
        "L4LB_BACKEND": subject.backend,
    }


class _Run:
    """One process group, from its start until nothing of it is left."""

    def __init__(self, who: _Who, environment: dict[str, str]) -> None:
        self._who = who
        self._loop = who[0]
        self._read = 0
        self._output = b""
        self._ended: Future[int | None] = self._loop.create_future()
        self.gone: Future[None] = self._loop.create_future()
        try:
            self._process = subprocess.Popen(
                [*_BARE, *who[2]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotAsk(f"setpriv: {reason(error)}") from None
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        self._pid = self._watched()
        os.set_blocking(self._pipe.fileno(), False)
        self._loop.add_reader(self._pipe.fileno(), self._take)
        self._loop.add_reader(self._pid, self._end)

    def _watched(self) -> int:
        """A file descriptor that tells when the program has ended."""
        try:
            return os.pidfd_open(self._process.pid)
        except OSError as error:
            self._process.kill()
            self._process.wait()
            self._pipe.close()
            raise CannotAsk(f"pidfd: {reason(error)}") from None

    async def end(self, deadline: float) -> int:
        """Its exit status, or less than 0 for the signal that ended it."""
        timer = self._loop.call_at(deadline, self._expire)
        try:
            status = await self._ended
        finally:
            timer.cancel()
        if status is None:
            raise TimeoutError
        return status

    def _expire(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _take(self) -> None:
        """What it prints; who prints more than anybody reads finds the pipe closed."""
        try:
            chunk = os.read(self._pipe.fileno(), _PIPE)
        except BlockingIOError:
            return
        self._read += len(chunk)
        self._output = (self._output + chunk)[-_KEPT:]
        if not chunk or self._read > _MOST:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()

    def _end(self) -> None:
        """Ended, and still a zombie: its group is its own until it is reaped."""
        self._kill()
        if self._reap() and not self._ended.done():
            if not self._pipe.closed:
                self._take()
            self._ended.set_result(self._process.returncode)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _reap(self) -> bool:
        if self.gone.done():
            return True
        if self._process.poll() is None:
            return False
        self._loop.remove_reader(self._pid)
        os.close(self._pid)
        self.gone.set_result(None)
        _killed.pop(self._who, None)
        return True

    def close(self) -> None:
        """Kills what is left; it is reaped when it is gone."""
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
        if not self.gone.done():
            _killed[self._who] = self
            self._kill()

    def last_line(self) -> str:
        """Of its output: there programs say why."""
        lines = self._output.decode("utf-8", "replace").split("\n")
        printable = ("".join(c for c in line if c.isprintable()).strip() for line in lines)
        return next((line for line in reversed(list(printable)) if line), "")
