# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a program many times behind the harness, times it, and proves what every run did.

Time is that of the CPU which this thread used: what others do on the machine is not in it, except
by the caches.
"""

from __future__ import annotations

import ctypes as ct
import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import captured_stderr

HARNESS = Path(__file__).with_name("harness.c")
KNOBS = {
    Path("/proc/sys/kernel/bpf_stats_enabled"): 0,
    Path("/sys/kernel/rcu_expedited"): 1,
}
SEED = 88172645463325252  # of the harness's random numbers, those of xorshift's author
XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3

Verdicts = Callable[[], dict[str, dict[str, int]]]


class WrongVerdict(Exception):
    """A run did not end as it should have: its time means nothing."""


@dataclass(frozen=True)
class Program:
    """What is timed: "balancer", "empty" or "push", and the XDP action that each run must end with.

    `verdicts` reads the program's own counters: every run must be counted under `verdict`.
    """

    name: str
    action: int
    verdict: str = ""
    verdicts: Verdicts | None = None


EMPTY, PUSH = Program("empty", XDP_TX), Program("push", XDP_TX)
"""What tells the cost of the harness: see harness.c."""


class Meter:
    """The harness, in front of the balancer and of the programs that do nothing."""

    def __init__(self, balancer: int, interface: int) -> None:
        """balancer: its file descriptor. Packets seem to come in by the interface of that index."""
        self._interface = interface
        with captured_stderr() as output:
            try:
                self._compiled = _bpf.require_bcc()(text=HARNESS.read_bytes())
            except Exception as error:
                raise RuntimeError(f"{HARNESS.name} does not compile: {output}") from error
        programs = {"balancer": balancer, "empty": self._load("empty"), "push": self._load("push")}
        self._harness = {name: self._load(f"time_{name}") for name in programs}
        for slot, fd in enumerate(programs.values()):
            self._compiled[b"programs"][ct.c_int(slot)] = ct.c_int(fd)

    def _load(self, name: str) -> int:
        return int(self._compiled.load_func(name.encode(), _bpf.require_bcc().XDP).fd)

    def run(
        self, program: Program, frame: bytes, flows: int, repeat: int, shuffle: bool = True
    ) -> tuple[float, bytes]:
        """Nanoseconds a run, the harness in them, and the last run's frame.

        The flows come at random, or in turn. Raises WrongVerdict.
        """
        self._prepare(frame, flows, shuffle)
        before = program.verdicts() if program.verdicts else {}
        options, out = _bpf.run_options(frame, self._interface, repeat)
        began = time.thread_time_ns()
        _bpf.test_run(self._harness[program.name], options)
        took = time.thread_time_ns() - began
        self._check(program, repeat, options.retval, before)
        return took / repeat, out.raw[: options.data_size_out]

    def _prepare(self, frame: bytes, flows: int, shuffle: bool) -> None:
        runs = self._compiled[b"runs"]
        run = runs.Leaf(
            random=SEED, flows=flows - 1, shuffle=0xFFFFFFFF if shuffle else 0, length=len(frame)
        )
        ct.memmove(ct.addressof(run) + runs.Leaf.ethernet.offset, frame, 14)
        runs[0] = run

    def _check(self, program: Program, repeat: int, action: int, before: dict[str, Any]) -> None:
        """Every run is counted by the program itself, under the verdict it should have."""
        count = self._compiled[b"runs"][0].count
        if count != repeat:
            raise WrongVerdict(f"{count} runs of {repeat}")
        if action != program.action:
            raise WrongVerdict(f"XDP action {action}, not {program.action}")
        if not program.verdicts:
            return
        after = program.verdicts()
        got = {v: after[v]["packets"] - before[v]["packets"] for v in after}
        got = {verdict: number for verdict, number in got.items() if number}
        if got != {program.verdict: repeat}:
            raise WrongVerdict(f"{got} after {repeat} runs, not {program.verdict} in each")


def empty_table(table: Any) -> None:
    """Takes all entries out of a hash map, in batches."""
    size = 1 << 16
    keys, values = (table.Key * size)(), (table.Leaf * size)()
    token, begin = ct.cast((ct.c_uint32 * 4)(), ct.POINTER(ct.c_uint32)), None
    while True:
        count = ct.c_uint32(size)
        failed = _bpf.lib.bpf_lookup_and_delete_batch(
            table.map_fd, begin, token, keys, values, ct.byref(count)
        )
        if failed and ct.get_errno() == errno.ENOENT:
            return
        if failed:
            raise _bpf.BpfError("empty a map", ct.get_errno())
        begin = token


@contextmanager
def quiet_kernel() -> Iterator[None]:
    """The kernel's knobs as this needs them, and back again.

    bpf_stats_enabled would time every run, which takes longer than an empty program. Each use of
    `repeat` waits for RCU twice, the time of a thousand runs and more, unless that is expedited.
    """
    was = {path: path.read_text() for path in KNOBS}
    for path, value in KNOBS.items():
        if int(was[path]) != value:
            print(f"{path} is {was[path].strip()}: {value} while this measures")
            path.write_text(str(value))
    try:
        yield
    finally:
        for path, value in was.items():
            if path.read_text() != value:
                path.write_text(value)
