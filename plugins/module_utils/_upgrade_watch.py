# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether packets fare worse than before: verdicts after a replacement against those before it.

Private to the collection; pure but for `look`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _links
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

FOREIGN = "pass_foreign"
TO_KERNEL = "to_kernel"

FLOOR = 20
"""Packets too many below which nothing is concluded, whatever their share."""

_FEWER, _AS_MANY, _ENOUGH = 0.5, 0.8, 100  # of silent losses, see `_silent`


@dataclass(frozen=True)
class Limits:
    """By how much a verdict's share of the packets may rise, in percentage points: of drops, and of
    what is left to the kernel.
    """

    drops: float = 0.5
    passed: float = 5.0


@dataclass(frozen=True)
class Look:
    """Counters at one time; received: packets that came in by the interfaces, by their drivers."""

    at: float
    verdicts: Mapping[str, int]
    received: int


@dataclass(frozen=True)
class Traffic:
    """What happened in a time."""

    seconds: float = 0.0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    received: int = 0

    @property
    def packets(self) -> int:
        return sum(self.verdicts.values())

    @property
    def ours(self) -> int:
        """Packets that are not somebody else's."""
        return self.packets - self.verdicts.get(FOREIGN, 0)

    def __add__(self, other: Traffic) -> Traffic:
        words = {*self.verdicts, *other.verdicts}
        verdicts = {w: self.verdicts.get(w, 0) + other.verdicts.get(w, 0) for w in words}
        received = self.received + other.received
        return Traffic(self.seconds + other.seconds, verdicts, received)

    def as_dict(self) -> dict[str, Any]:
        verdicts = {word: count for word, count in sorted(self.verdicts.items()) if count}
        return {
            "seconds": round(self.seconds, 1),
            "verdicts": verdicts,
            "received": self.received,
        }


def traffic_of(data: Mapping[str, Any]) -> Traffic:
    """What `as_dict` gave."""
    return Traffic(float(data["seconds"]), dict(data["verdicts"]), int(data["received"]))


def look(tables: Tables, interfaces: Sequence[str], now: float) -> Look:
    """The counters now."""
    verdicts = {word: total["packets"] for word, total in tables.verdicts().items()}
    return Look(now, verdicts, sum(_received(name) for name in interfaces))


def _received(name: str) -> int:
    index = _links.interface(name).index
    with _links.netlink() as ip:
        statistics = ip.get_links(index)[0].get_attr("IFLA_STATS64")
    return int(statistics["rx_packets"]) if statistics else 0


def between(first: Look, last: Look) -> Traffic:
    verdicts = {w: max(0, n - first.verdicts.get(w, 0)) for w, n in last.verdicts.items()}
    return Traffic(last.at - first.at, verdicts, max(0, last.received - first.received))


def worse(before: Traffic, after: Traffic, limits: Limits) -> list[str]:
    """What became worse, a line each with its numbers; empty: nothing."""
    return [
        *_risen(before, after, limits),
        *_passed(before, after, limits),
        *_silent(before, after),
    ]


def _risen(before: Traffic, after: Traffic, limits: Limits) -> Iterator[str]:
    """Shares in the packets to services."""
    for word, count in sorted(after.verdicts.items()):
        limit = _limit(word, limits)
        if limit is None or (_is_passed(word) and before.ours < FLOOR):
            continue  # nothing to compare with
        share = before.verdicts.get(word, 0) / before.ours if before.ours else 0.0
        if count - share * after.ours > max(FLOOR, limit / 100 * after.ours):
            yield (
                f"{word}: {count} of {after.ours} packets to services "
                f"({_percent(count / after.ours)}) in {after.seconds:.1f} s, "
                f"{_percent(share)} before"
            )


def _is_passed(word: str) -> bool:
    return word == TO_KERNEL or word.startswith("pass_")


def _passed(before: Traffic, after: Traffic, limits: Limits) -> Iterator[str]:
    """Packets to services that are taken for somebody else's: as many more of these as fewer of
    ours. Either alone is nothing but other traffic.
    """
    if not before.seconds:
        return
    longer = after.seconds / before.seconds
    count = after.verdicts.get(FOREIGN, 0)
    more = count - before.verdicts.get(FOREIGN, 0) * longer
    fewer = before.ours * longer - after.ours
    if min(more, fewer) > max(FLOOR, limits.passed / 100 * after.packets):
        yield (
            f"{FOREIGN}: {count} packets in {after.seconds:.1f} s, {more:.0f} more than in such a "
            f"time before, and {fewer:.0f} fewer were to services"
        )


def _limit(word: str, limits: Limits) -> float | None:
    if word == FOREIGN:
        return None  # see _passed
    if _is_passed(word):
        return limits.passed
    return limits.drops if word.startswith("drop_") else None


def _silent(before: Traffic, after: Traffic) -> Iterator[str]:
    """A program that loses packets without counting them: as many come in as before, and far fewer
    are counted.
    """
    if before.received < _ENOUGH or before.packets < _ENOUGH or not after.seconds:
        return
    rates = [
        (now / after.seconds) / (then / before.seconds)
        for now, then in ((after.packets, before.packets), (after.received, before.received))
    ]
    if rates[0] < _FEWER and rates[1] > _AS_MANY:
        yield (
            f"{_percent(1 - rates[0])} fewer packets are counted than before, and "
            f"{after.received} came in within {after.seconds:.1f} s"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
