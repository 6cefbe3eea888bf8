# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rings: which backend a slot points to, and how its slots remember the one before.

Private to the collection; pure functions that know nothing of the kernel.

`build` answers what a ring should be: it depends on addresses and weights alone, and is integer
arithmetic throughout, so that all nodes agree whatever the order or the history of the inventory.
`advance` and `settle` carry a live ring there without breaking flows.

Sources: D. E. Eisenbud et al., Maglev, NSDI 2016, section 3.4; D. G. Thaler, C. V. Ravishankar,
Using name-based mappings to increase hit rates, IEEE/ACM ToN 1998 (rendezvous), weighted as in
J. Resch, New Hashing Algorithms for Data Storage, SDC 2015.
Related: JET, CoNEXT 2021; Beamer, NSDI 2018.
"""

from __future__ import annotations

import hashlib
import heapq
import sys
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ansible_collections.l4lb.xdp.plugins.module_utils._address import order, packed

VERSION = 1
"""Raised when `build` gives other rings for the same input, so that nodes notice."""

NONE = -1
"""What `build` puts in every slot of a ring without backends."""

SLOT_BYTES = 8
"""sizeof(struct slot): u16 current, u16 previous, u32 tracked."""

TICK_SHIFT = 29
"""A tick is 2^29 ns (maps.h)."""

_INDEX_BITS = 16
_FRACTION = 44
_TABLE_BITS = 11


def ordered(addresses: Iterable[str]) -> list[str]:
    """Addresses in the order that the indices of `build` refer to."""
    return sorted(addresses, key=order)


def build(algorithm: str, weights: Mapping[str, int], size: int) -> list[int]:
    """The desired ring: for each of `size` slots an index into `ordered(weights)`, or NONE.

    algorithm: "maglev" or "rendezvous". weights: address -> integer >= 1. size: a prime.
    A backend's share is weight / sum(weights): maglev gives it to within (1 + share * backends) / 2
    slots, rendezvous as far as chance allows (standard deviation sqrt(share * size) slots).
    maglev costs about size * ln(size) steps, rendezvous size * backends. Pools with the same
    backends share the result: do not change it. Raises ValueError for anything else.
    """
    if algorithm not in _ALGORITHMS:
        raise ValueError(f"algorithm {algorithm!r} is not one of {', '.join(sorted(_ALGORITHMS))}")
    if not is_prime(size):
        raise ValueError(f"ring size {size} is not a prime")
    if len(weights) >= min(size, 1 << _INDEX_BITS):
        raise ValueError(f"{len(weights)} backends are too many for a ring of {size} slots")
    if any(weight < 1 for weight in weights.values()):
        raise ValueError("a weight is below 1")
    if not weights:
        return [NONE] * size
    return _filled(algorithm, tuple((a, weights[a]) for a in ordered(weights)), size)


@lru_cache(maxsize=16)
def _filled(algorithm: str, backends: tuple[tuple[str, int], ...], size: int) -> list[int]:
    fill = _ALGORITHMS[algorithm]
    return fill([packed(a) for a, _weight in backends], [weight for _a, weight in backends], size)


@lru_cache(maxsize=64)
def is_prime(number: int) -> bool:
    if number < 4:
        return number in (2, 3)
    return all(number % d for d in range(2, int(number**0.5) + 2))


def _maglev(keys: Sequence[bytes], weights: Sequence[int], size: int) -> list[int]:
    """Backends take turns; each turn claims the next free slot of the backend's own permutation.

    Turn k of a backend is due at the time (2k - 1) / weight, so that whenever the slots run out all
    have what Sainte-Lague apportionment gives them; turns due together are taken in the order of
    addresses. With equal weights this is the paper's algorithm. The heap holds each backend's next
    turn as time << 16 | backend; the time is in units of 2^-32, finer than two weights can differ.
    """
    ring = [NONE] * size
    taken = bytearray(size)
    place, skip = _permutations(keys, size)
    turns = [1] * len(keys)
    due = [(1 << 32) // weight << _INDEX_BITS | i for i, weight in enumerate(weights)]
    heapq.heapify(due)
    for _turn in range(size):
        i = due[0] & 0xFFFF
        turns[i] += 2
        heapq.heapreplace(due, (turns[i] << 32) // weights[i] << _INDEX_BITS | i)
        at, step = place[i], skip[i]
        while taken[at]:
            at = (at + step) % size
        taken[at] = 1
        ring[at] = i
        place[i] = at
    return ring


def _permutations(keys: Sequence[bytes], size: int) -> tuple[list[int], list[int]]:
    """Each backend's permutation of the slots, as where it begins and the step it goes on by."""
    begin, skip = [], []
    for key in keys:
        digest = hashlib.blake2b(key, digest_size=16, person=b"l4lb maglev").digest()
        begin.append(int.from_bytes(digest[:8], "little") % size)
        skip.append(int.from_bytes(digest[8:], "little") % (size - 1) + 1)
    return begin, skip


def _rendezvous(keys: Sequence[bytes], weights: Sequence[int], size: int) -> list[int]:
    """Every slot goes to the backend with the lowest -log2(u) / weight, u drawn by (slot, backend).

    A backend's score does not depend on the others: when one comes, goes or changes its weight, no
    slot moves between two others. Ties (about 1 in 2^30) go to the lower address.
    """
    best = [1 << 80] * size
    for i, weight in enumerate(weights):
        scores = [cost // weight << _INDEX_BITS | i for cost in _costs(_draws(keys[i], size))]
        best = list(map(min, best, scores))
    return [score & 0xFFFF for score in best]


def _draws(key: bytes, size: int) -> array[int]:
    """32 random bits for each slot: the SHAKE-128 stream of the backend's address."""
    words = array("I", hashlib.shake_128(b"l4lb rendezvous" + key).digest(4 * size))
    if sys.byteorder == "big":
        words.byteswap()
    return words


@lru_cache(maxsize=1)
def _log2_table() -> tuple[int, ...]:
    """log2(1 + i / 2^11) for i in 0..2^11, in units of 2^-44, rounded down.

    Bit by bit: squaring x doubles its logarithm, whose integer part is then the next bit.
    """
    table = []
    for i in range(1 << _TABLE_BITS):
        x = ((1 << _TABLE_BITS) + i) << (64 - _TABLE_BITS)
        bits = 0
        for _bit in range(_FRACTION):
            x = x * x >> 64
            carry = x >> 65
            bits = bits << 1 | carry
            x >>= carry
        table.append(bits)
    return (*table, 1 << _FRACTION)


def _costs(draws: Iterable[int]) -> list[int]:
    """-log2((draw + 1/2) / 2^32) for each draw of 32 bits, in units of 2^-44, always above 0.

    Integers only: the mantissa's first 11 bits look the logarithm up, the rest interpolates.
    Never too small; too large by at most 4.4e-8, and by at most 5e-4 of the value, far below what
    chance does to the shares of a ring.
    """
    table = _log2_table()
    rest_bits = 32 - _TABLE_BITS
    rest_mask = (1 << rest_bits) - 1
    index_mask = (1 << _TABLE_BITS) - 1
    costs = []
    for draw in draws:
        odd = draw << 1 | 1
        exponent = odd.bit_length() - 1
        mantissa = odd << (32 - exponent)
        i = mantissa >> rest_bits & index_mask
        low = table[i]
        log2 = low + ((table[i + 1] - low) * (mantissa & rest_mask) >> rest_bits)
        costs.append(((33 - exponent) << _FRACTION) - log2)
    return costs


_ALGORITHMS = {"maglev": _maglev, "rendezvous": _rendezvous}


def tick(monotonic_ns: int) -> int:
    """CLOCK_MONOTONIC_COARSE in ns as the ticks of `tracked`: 2^29 ns, about 0.54 s; never 0."""
    return max(1, monotonic_ns >> TICK_SHIFT)


def ticks(seconds: int) -> int:
    """A duration in ticks, rounded up."""
    return -(-seconds * 1_000_000_000 >> TICK_SHIFT)


def seconds(ticks: int) -> int:
    """The whole seconds that `ticks` was made from: a tick is shorter than a second."""
    return (ticks << TICK_SHIFT) // 1_000_000_000


def _zeros(typecode: str, size: int) -> array[int]:
    return array(typecode, bytes(size * array(typecode).itemsize))


@dataclass(frozen=True)
class Slots:
    """A live ring, as three arrays of one length; treat it as immutable.

    current, previous: index of a backend in the kernel's table, 1..65535, or 0 for none.
    tracked: the tick at which the slot stopped being settled, or 0 while it is settled.
    """

    current: array[int]
    previous: array[int] = field(repr=False)
    tracked: array[int] = field(repr=False)

    @classmethod
    def empty(cls, size: int) -> Slots:
        """A ring without backends."""
        return cls(_zeros("H", size), _zeros("H", size), _zeros("I", size))

    @classmethod
    def from_bytes(cls, data: bytes) -> Slots:
        """The inverse of to_bytes. Raises ValueError when data is no whole number of slots."""
        if len(data) % SLOT_BYTES:
            raise ValueError(f"{len(data)} bytes are no whole number of slots")
        halves = array("H", data)
        words = array("I", data)
        return cls(halves[0::4], halves[1::4], words[1::2])

    def to_bytes(self) -> bytes:
        """struct slot {u16 current; u16 previous; u32 tracked} of each, native byte order."""
        words = _zeros("I", 2 * len(self))
        words[1::2] = self.tracked
        halves = array("H", words.tobytes())
        halves[0::4] = self.current
        halves[1::4] = self.previous
        return halves.tobytes()

    def __len__(self) -> int:
        return len(self.current)

    def tracked_count(self) -> int:
        """How many slots are not settled."""
        return len(self) - self.tracked.count(0)


def advance(slots: Slots, desired: Sequence[int], living: Collection[int], now: int) -> Slots:
    """The slots after the ring's change to `desired`, which breaks no flow of a living backend.

    desired: for each slot the new current backend, 0..65535. living: the backends that may still
    get packets of their old flows (active and draining, not dead or disabled). now: from `tick`.

    - A settled slot that changes is tracked from now; `previous` is the backend it had, or none if
      that one is not living. It is tracked even then: should the backend come back soon, its old
      flows find it again, and those begun meanwhile are recorded.
    - A tracked slot that changes keeps `previous` and `tracked`: flows begun since are recorded,
      only older ones need `previous`. That holds too when it changes back to `previous`.
    - A settled slot without a backend has no flows to protect: it is settled on the new one.
    - No slot keeps a `previous` that is not living.

    Raises ValueError when lengths differ or an index is out of range.
    """
    if len(desired) != len(slots):
        raise ValueError(f"{len(desired)} desired slots for a ring of {len(slots)}")
    try:
        current = array("H", desired)
    except (OverflowError, TypeError):
        raise ValueError("a backend index is not an integer from 0 to 65535") from None
    alive = frozenset(living)
    previous, tracked = slots.previous[:], slots.tracked[:]
    for i, old in enumerate(slots.current):
        new = current[i]
        if old != new and old and not tracked[i]:
            previous[i] = old
            tracked[i] = now
        if previous[i] and previous[i] not in alive:
            previous[i] = 0
    return Slots(current, previous, tracked)


def restamped(slots: Slots, planned: int, now: int) -> Slots:
    """The slots with those tracked since the tick `planned` tracked since `now` instead."""
    if now == planned or planned not in slots.tracked:
        return slots
    tracked = array("I", (now if since == planned else since for since in slots.tracked))
    return Slots(slots.current, slots.previous, tracked)


def settle(slots: Slots, now: int, after_ticks: int, busy: Collection[int] = ()) -> Slots:
    """The slots after those tracked for longer than after_ticks have forgotten `previous`.

    busy: numbers of slots in which a flow seen within after_ticks is recorded on another backend
    than the current one; these stay tracked.
    """
    held = frozenset(busy)
    previous, tracked = slots.previous[:], slots.tracked[:]
    for i, since in enumerate(slots.tracked):
        if since and now - since > after_ticks and i not in held:
            previous[i] = tracked[i] = 0
    return Slots(slots.current, previous, tracked)


@dataclass(frozen=True)
class Moved:
    """Which share of all slots a change gives to another backend, each 0..1.

    unavoidable: what backends must give up to reach their new shares. collateral: the rest.
    """

    total: float
    unavoidable: float
    collateral: float


def moved(before: Sequence[int], desired: Sequence[int]) -> Moved:
    """The disruption of a change of each slot's backend. A slot without one, 0, has no flows to
    move.
    """
    had, gets = Counter(before), Counter(desired)
    count = sum(map(lambda old, new: old not in (0, new), before, desired))
    least = sum(max(0, n - gets[backend]) for backend, n in had.items() if backend)
    size = max(1, len(before))
    return Moved(count / size, least / size, (count - least) / size)
