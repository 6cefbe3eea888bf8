# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two programs on the same maps, and the same packets through both.

Private to the collection. The runs happen beside live traffic (BPF_PROG_TEST_RUN), so:

- All packets go through the running program, then all through the new one, then again through the
  running one. A packet that the running one answers in two ways says nothing about the new one:
  what it depends on changed meanwhile, and it is asked again at once.
- Records that a packet leaves in the flow tables and among the fragments are removed before the
  other program sees it, which would else believe them, and at the end.
- Next hops are cached for a second, by each CPU. Between the rounds that time passes, on the CPU
  with the least traffic, so that each program asks the kernel itself.

What stays is that the packets are counted, and that full tables may have dropped their oldest
records.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _flows
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._golden import KINDS, Case
from ansible_collections.l4lb.xdp.plugins.module_utils._guards import PROOF
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

ACTIONS = ("aborted", "drop", "pass", "tx", "redirect")
"""XDP_* of linux/bpf.h: what an expected difference names."""

HOP_LIFETIME = 1.1
"""Seconds after which a CPU has forgotten its next hops (fib.h), and some."""

_ATTEMPTS = 5
_SHOWN = 16  # bytes from the first that differs
_CLIENTS = (bytes([198, 18]), bytes([198, 19]))
_CLIENTS6 = bytes.fromhex("200100020000")


class ExpectError(L4lbError):
    """The option `expect` names what there is not."""


class Answer(NamedTuple):
    """What a program made of a frame; of one that goes nowhere the bytes do not count."""

    action: str
    frame: bytes


Answers = tuple[Answer, ...]


@dataclass(frozen=True)
class Difference:
    """The first frame of a case that the programs answer differently; new is None for a case that
    the running program itself answers now so, now otherwise.
    """

    case: Case
    place: int
    old: Answer
    new: Answer | None

    @property
    def pair(self) -> str:
        return f"{self.old.action} -> {self.new.action if self.new else '?'}"

    @property
    def packet(self) -> str:
        which = f", frame {self.place + 1}" if len(self.case.frames) > 1 else ""
        return f"{self.case}{which}"

    def answers(self) -> tuple[str, str]:
        """What the running program made of it, and the new one."""
        if self.new is None:
            return self.old.action, "the running program answers now so, now otherwise"
        at = _first_difference(self.old.frame, self.new.frame)
        return _shown(self.old, at), _shown(self.new, at)

    def as_dict(self) -> dict[str, Any]:
        old, new = self.answers()
        return {
            "kind": self.case.kind,
            "packet": self.packet,
            "verdicts": self.pair,
            "old": old,
            "new": new,
        }


@dataclass(frozen=True)
class Expected:
    """Differences that are meant: kinds of packets, pairs of verdicts, pairs of a kind."""

    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ExpectError for a word that can be none."""
        for word in self.words:
            kind, pair = _split(word)
            known = kind is None or kind in KINDS
            if not known or (pair is not None and set(pair) - set(ACTIONS)):
                raise ExpectError(
                    f"expect: {word!r} is none of: a kind of packet ({', '.join(KINDS)}), a pair "
                    f"of verdicts such as 'drop -> pass' ({', '.join(ACTIONS)}), or both such as "
                    "'echo: drop -> tx'"
                )

    def covers(self, difference: Difference) -> str | None:
        """The word that expects it; None when it must not be."""
        if difference.new is None:
            return None
        pair = (difference.old.action, difference.new.action)
        for word in self.words:
            kind, verdicts = _split(word)
            if kind in (None, difference.case.kind) and verdicts in (None, pair):
                return word
        return None


def _split(word: str) -> tuple[str | None, tuple[str, str] | None]:
    """A word as (kind, pair of verdicts)."""
    kind, colon, rest = word.partition(":")
    pair = rest if colon else word
    old, arrow, new = pair.partition("->")
    if not arrow:
        return word.strip(), None
    return (kind.strip() if colon else None), (old.strip(), new.strip())


@dataclass
class Comparison:
    """What came of it; `steady` cases said something."""

    packets: int = 0
    differences: list[Difference] = field(default_factory=list)

    def judged(self, expected: Expected) -> tuple[list[Difference], list[str]]:
        """The differences that must not be, and the expected words that nothing came of."""
        found = {each: expected.covers(each) for each in self.differences}
        unused = [word for word in expected.words if word not in found.values()]
        return [each for each, word in found.items() if word is None], unused


class Comparer:
    """Runs cases through two programs; `old` and `new` are their descriptors."""

    def __init__(self, tables: Tables, old: int, new: int, ingress: int) -> None:
        self._tables, self._old, self._new, self._ingress = tables, old, new, ingress

    def compare(self, cases: Sequence[Case]) -> Comparison:
        """Takes about three seconds. Raises BpfError when the kernel refuses a frame."""
        with _on_cpu(quietest_cpu(self._tables)):
            before = self._round(self._old, cases)
            time.sleep(HOP_LIFETIME)
            new = self._round(self._new, cases)
            time.sleep(HOP_LIFETIME)
            after = self._round(self._old, cases)
            found = Comparison(3 * sum(len(case.frames) for case in cases))
            for at, case in enumerate(cases):
                seen = (before[at], new[at], after[at])
                difference = self._look(case, *seen)
                if difference:
                    found.differences.append(difference)
        return found

    def _look(self, case: Case, before: Answers, new: Answers, after: Answers) -> Difference | None:
        for _attempt in range(_ATTEMPTS):
            if before == after:
                return _difference(case, before, new)
            before, new, after = (
                self._once(program, case) for program in (self._old, self._new, self._old)
            )
        place = next(i for i, answer in enumerate(before) if answer != after[i])
        return Difference(case, place, before[place], None)

    def _round(self, program: int, cases: Sequence[Case]) -> list[Answers]:
        answers = [self._run(program, case) for case in cases]
        forget_fragments(self._tables)
        return answers

    def _once(self, program: int, case: Case) -> Answers:
        answers = self._run(program, case)
        forget_fragments(self._tables)
        return answers

    def _run(self, program: int, case: Case) -> Answers:
        try:
            mark = PROOF if case.marked else b""
            return tuple(self._answer(program, frame, mark) for frame in case.frames)
        finally:
            if case.flow:
                _flows.forget(self._tables, (*case.flow, 0, 0))

    def _answer(self, program: int, frame: bytes, mark: bytes) -> Answer:
        verdict, out = _bpf.run_xdp(program, frame, self._ingress, mark)
        action = ACTIONS[verdict] if verdict < len(ACTIONS) else f"verdict {verdict}"
        return Answer(action, out if action in ("pass", "tx", "redirect") else b"")


def _difference(case: Case, old: Answers, new: Answers) -> Difference | None:
    for place, answer in enumerate(old):
        if answer != new[place]:
            return Difference(case, place, answer, new[place])
    return None


def forget_fragments(tables: Tables) -> None:
    """Removes what golden fragments left."""
    table = tables.table("fragments")
    for key, _record in list(tables.entries("fragments")):
        source = bytes(key.source)
        if source.startswith(_CLIENTS6) or (source[:2] in _CLIENTS and not any(source[4:])):
            _bpf.delete(table.map_fd, key, "remove the record of a golden fragment")


def quietest_cpu(tables: Tables) -> int:
    """The CPU, of those this process may use, that has counted the fewest packets."""
    counted: Mapping[int, int] = _by_cpu(tables)
    return min(sorted(os.sched_getaffinity(0)), key=lambda cpu: counted.get(cpu, 0))


def _by_cpu(tables: Tables) -> dict[int, int]:
    totals: dict[int, int] = {}
    for _verdict, cpus in tables.entries("verdicts"):
        for cpu, counter in enumerate(cpus):
            totals[cpu] = totals.get(cpu, 0) + counter.packets
    return totals


@contextlib.contextmanager
def _on_cpu(number: int) -> Iterator[None]:
    before: Collection[int] = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _first_difference(old: bytes, new: bytes) -> int:
    pairs = enumerate(zip(old, new))
    return next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))


def _shown(answer: Answer, at: int) -> str:
    if not answer.frame:
        return answer.action
    part = answer.frame[at : at + _SHOWN].hex(" ")
    more = " ..." if len(answer.frame) > at + _SHOWN else ""
    return f"{answer.action}, {len(answer.frame)} bytes, from {at}: {part}{more}"
