# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change does to flows, from the rings before and after, and the refusal of too much.

Private to the collection; pure functions. Shares are of a ring's slots, and so of its flows as far
as these are many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots


class RefusedError(L4lbError):
    """The change moves more than was allowed."""


@dataclass(frozen=True)
class Shares:
    """Each 0..1. moved: new flows that go elsewhere than before, unavoidable and collateral its
    parts. broken: old flows that lose their backend.
    """

    moved: float
    unavoidable: float
    collateral: float
    broken: float

    def percent(self) -> dict[str, float]:
        """In per cent, for a person."""
        return {name: round(100 * share, 2) for name, share in vars(self).items()}


def of_ring(before: Slots, after: Slots, living: Collection[int]) -> Shares:
    """A pool's new ring. living: the backends that keep the flows they have.

    A flow breaks when its backend does not live, or when a slot forgets it without having recorded
    it. How many flows of a tracked slot are on `previous` is not known: all are counted. Flows that
    earlier changes left on a third backend are known to the flow table alone, and are not.
    """
    if not any(before.current) and not any(before.previous):
        return Shares(0, 0, 0, 0)
    alive = {0, *living}
    lost = 0
    for old, older, new, newer, tracked in zip(
        before.current, before.previous, after.current, after.previous, after.tracked
    ):
        keeps = (new, newer)
        lost += (
            old not in alive
            or older not in alive
            or (old not in keeps and not tracked)
            or (older != 0 and older not in keeps)
        )
    return _shares(before.current, after.current, lost)


def of_identity(before: Slots, after: Slots, recorded: bool) -> Shares:
    """A pool that takes something else for a flow: each flow goes to any slot of the new ring.

    recorded: whether the flow table has all flows, and so keeps them.
    """
    had, gets = Counter(before.current), Counter(after.current)
    size = max(1, len(before))
    ways = sum(count * (size - gets[backend]) for backend, count in had.items() if backend)
    moved = ways / size**2
    return Shares(moved, 0, moved, 0 if recorded else moved)


def of_service(before: Sequence[str], older: Sequence[str], after: Sequence[str]) -> Shares:
    """A service that goes from one ring to another: the backends' addresses, slot by slot, `older`
    those that the old ring's slots had before.

    The new ring does not remember the old one, so what moves breaks.
    """
    broken = sum(
        1
        for was, once, gets in zip(before, older, after)
        if (was and was != gets) or (once and once != gets)
    )
    number = {address: i for i, address in enumerate({*before, *after} - {""}, 1)}
    number[""] = 0
    return _shares([number[each] for each in before], [number[each] for each in after], broken)


def _shares(before: Sequence[int], after: Sequence[int], broken: int) -> Shares:
    moved = _rings.moved(before, after)
    size = max(1, len(before))
    return Shares(moved.total, moved.unavoidable, moved.collateral, broken / size)


def sentences(pools: Mapping[str, Shares], services: Mapping[str, Shares]) -> list[str]:
    """A line for each pool and service of which flows move or break."""
    named = [(f"pool {name}", shares) for name, shares in sorted(pools.items())]
    named += [(f"service {name}", shares) for name, shares in sorted(services.items())]
    return [_sentence(what, shares) for what, shares in named if shares.moved or shares.broken]


def _sentence(what: str, shares: Shares) -> str:
    share = shares.percent()
    return (
        f"{what}: {share['moved']} % of new flows go elsewhere ({share['unavoidable']} % "
        f"unavoidable, {share['collateral']} % collateral), {share['broken']} % of old flows break"
    )


def require_at_most(
    max_moved: float, pools: Mapping[str, Shares], services: Mapping[str, Shares]
) -> None:
    """Raises RefusedError when more than max_moved per cent of a pool's or a service's flows would
    move, naming each.
    """
    much = sentences(
        *(
            {name: each for name, each in shares.items() if 100 * each.moved > max_moved}
            for shares in (pools, services)
        )
    )
    if much:
        raise RefusedError(
            "\n".join(
                [
                    f"refused, nothing written: more than max_moved ({max_moved:g} %) would move",
                    *much,
                    "change less at a time (a weight in steps, one backend after the other), or "
                    "raise max_moved (l4lb_max_moved)",
                ]
            )
        )
