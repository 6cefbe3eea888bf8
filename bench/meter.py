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
STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
SEED = 88172645463325252  # of the harness's random numbers, those of xorshift's author
XDP_PASS, XDP_TX = 2, 3

Verdicts = Callable[[], dict[str, dict[str, int]]]


class WrongVerdict(Exception):
    """A run did not end as it should have: its time means nothing."""


@dataclass(frozen=True)
class Program:
    """What is timed. `verdicts` reads its counters; a program without any is not counted."""

    fd: int
    action: int
    verdict: str = ""
    verdicts: Verdicts | None = None


class Meter:
    """The harness, and the two programs that tell what it costs."""

    def __init__(self, interface: int) -> None:
        """Packets seem to come in by the interface of this index."""
        self._interface = interface
        with captured_stderr() as output:
            try:
                self._compiled = _bpf.require_bcc()(text=HARNESS.read_bytes())
            except Exception as error:
                raise RuntimeError(f"{HARNESS.name} does not compile: {output}") from error
        self._harness = self._load("harness")
        self.empty = Program(self._load("empty"), XDP_TX)
        self.push = Program(self._load("push"), XDP_TX)

    def _load(self, name: str) -> int:
        return int(self._compiled.load_func(name.encode(), _bpf.require_bcc().XDP).fd)

    def run(
        self, program: Program, frame: bytes, flows: int, repeat: int, shuffle: bool = True
    ) -> tuple[float, bytes]:
        """Nanoseconds a run, the harness in them, and the last run's frame.

        The flows come at random, or in turn. Raises WrongVerdict.
        """
        self._compiled[b"timed"][ct.c_int(0)] = ct.c_int(program.fd)
        self._prepare(frame, flows, shuffle)
        before = program.verdicts() if program.verdicts else {}
        options, out = self._options(frame, repeat)
        began = time.thread_time_ns()
        result = _bpf.lib.bpf_prog_test_run_opts(self._harness, ct.byref(options))
        took = time.thread_time_ns() - began
        _bpf._checked(result, "run the harness")
        self._check(program, repeat, options.retval, before)
        return took / repeat, out.raw[: options.data_size_out]

    def _prepare(self, frame: bytes, flows: int, shuffle: bool) -> None:
        runs = self._compiled[b"runs"]
        run = runs.Leaf(
            random=SEED, flows=flows - 1, shuffle=0xFFFFFFFF if shuffle else 0, length=len(frame)
        )
        ct.memmove(ct.addressof(run) + runs.Leaf.ethernet.offset, frame, 14)
        runs[0] = run

    def _options(self, frame: bytes, repeat: int) -> tuple[Any, Any]:
        data = ct.create_string_buffer(frame, len(frame))
        out = ct.create_string_buffer(len(frame) + 256)
        context = _bpf._XdpContext(data_end=len(frame), ingress_ifindex=self._interface)
        options = _bpf._RunOptions(
            size=ct.sizeof(_bpf._RunOptions),
            data_in=ct.addressof(data),
            data_out=ct.addressof(out),
            data_size_in=len(data),
            data_size_out=len(out),
            ctx_in=ct.addressof(context),
            ctx_size_in=ct.sizeof(context),
            repeat=repeat,
        )
        options.keep = data, context  # as long as the kernel may read them
        return options, out

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
def no_statistics() -> Iterator[None]:
    """kernel.bpf_stats_enabled off: it times every run, for longer than an empty program takes."""
    was = STATISTICS.read_text()
    if int(was):
        print(f"kernel.bpf_stats_enabled is {was.strip()}: 0 while this measures")
        STATISTICS.write_text("0")
    try:
        yield
    finally:
        if int(was):
            STATISTICS.write_text(was)
