# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutated frames through the real program, and what must be true of whatever comes out.

`make fuzz`, or: python -m tests.dataplane.fuzz --runs N --seed N
"""

from __future__ import annotations

import argparse
import ctypes as ct
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf

from .corpus import CORPUS, fleet
from .node import Node, interface
from .oracle import Wrong, check

LONGEST = 2000
SHORTEST = 20  # that is mutated further
INTERESTING = (0, 1, 4, 5, 6, 8, 17, 20, 40, 43, 44, 58, 60, 64, 127, 128, 129, 133, 137, 255)


class Runner:
    """The program behind buffers that are made once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._in = ct.create_string_buffer(LONGEST)
        self._out = ct.create_string_buffer(LONGEST + 256)
        self._context = _bpf._XdpContext(ingress_ifindex=interface("eth0"))
        self._options = _bpf._RunOptions(
            size=ct.sizeof(_bpf._RunOptions),
            data_in=ct.addressof(self._in),
            data_out=ct.addressof(self._out),
            ctx_in=ct.addressof(self._context),
            ctx_size_in=ct.sizeof(self._context),
            repeat=1,
        )
        self._at = ct.byref(self._options)
        self._test_run = _bpf.lib["bpf_prog_test_run_opts"]  # as in _bpf.test_run

    def run(self, frame: bytes) -> tuple[int, bytes]:
        """Action and frame out."""
        options = self._options
        ct.memmove(self._in, frame, len(frame))
        options.data_size_in = self._context.data_end = len(frame)
        options.data_size_out = len(self._out)
        if self._test_run(self._fd, self._at):
            raise _bpf.BpfError("run the program", ct.get_errno())
        return options.retval, ct.string_at(self._out, options.data_size_out)


# --- mutations: each changes a frame in place ---


def flip(frame: bytearray, rng: random.Random) -> None:
    frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)


def put(frame: bytearray, rng: random.Random) -> None:
    frame[rng.randrange(len(frame))] = rng.choice(INTERESTING)


def put_in_headers(frame: bytearray, rng: random.Random) -> None:
    """Where most of what is read lies."""
    frame[rng.randrange(12, min(len(frame), 96))] = rng.choice(INTERESTING)


def cut(frame: bytearray, rng: random.Random) -> None:
    del frame[rng.randrange(14, len(frame) + 1) :]


def pad(frame: bytearray, rng: random.Random) -> None:
    frame += rng.randbytes(rng.randrange(1, 64))


def tag(frame: bytearray, rng: random.Random) -> None:
    frame[12:12] = rng.choice((b"\x81\x00", b"\x88\xa8")) + rng.randbytes(2)


def remove(frame: bytearray, rng: random.Random) -> None:
    start = rng.randrange(12, len(frame))
    del frame[start : start + rng.choice((1, 2, 4, 8, 20))]


def double(frame: bytearray, rng: random.Random) -> None:
    start = rng.randrange(12, len(frame))
    size = rng.choice((2, 4, 8, 20, 40))
    frame[start:start] = frame[start : start + size]


def graft(frame: bytearray, rng: random.Random) -> None:
    """Goes on with the end of another frame."""
    other = rng.choice(CORPUS)
    frame[rng.randrange(14, len(frame) + 1) :] = other[rng.randrange(14, len(other)) :]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    put,
    put_in_headers,
    put_in_headers,
    cut,
    pad,
    tag,
    remove,
    double,
    graft,
)


def mutated(rng: random.Random) -> bytes:
    """A frame of the corpus after up to six mutations; at least an Ethernet header."""
    frame = bytearray(rng.choice(CORPUS))
    for _count in range(rng.randrange(7)):
        rng.choice(MUTATIONS)(frame, rng)
        if len(frame) < SHORTEST:
            break
    return bytes(frame[:LONGEST].ljust(14, b"\0"))


def fuzz(node: Node, runs: int, seed: int) -> dict[str, int]:
    """Runs that many frames; returns how many got each verdict. Raises Wrong with the frame."""
    node.apply(*fleet())
    runner, rng = Runner(node.loaded.fd), random.Random(seed)
    before = node.tables.verdicts()
    passing = "pass" in (node.other_ports, node.echo)
    for number in range(runs):
        frame = mutated(rng)
        action, out = runner.run(frame)
        try:
            check(frame, action, out, passing)
        except Wrong as wrong:
            raise Wrong(
                f"run {number} of seed {seed}: {wrong}\naction {action}\n"
                f"in  {frame.hex()}\nout {out.hex()}"
            ) from None
    after = node.tables.verdicts()
    counts = {word: after[word]["packets"] - before[word]["packets"] for word in after}
    if sum(counts.values()) != runs:
        raise Wrong(f"{sum(counts.values())} verdicts of {runs} runs")
    return counts


def main() -> int:
    from .node import bpffs, isolate, wire

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    isolate()
    wire()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, bpffs(Path(directory, "bpf")) as pins:
        counts = fuzz(Node(pins, Path(directory, "state")), options.runs, options.seed)
    took = time.monotonic() - began
    print(f"{options.runs} frames, seed {options.seed}, {took:.0f} s; verdicts:")
    for word, count in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"  {count:9} {word}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
