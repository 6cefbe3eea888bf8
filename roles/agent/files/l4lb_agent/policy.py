# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from what checks say: which backends of a pool get flows, and how many.

Pure. The rules, in their order:

1. A backend is taken out when it is seen down and put back when it is seen up. Unknown changes
   nothing: who was out stays out, everybody else is up.
2. `max_unhealthy`: of the backends that get new flows (active) at most this share, rounded down, is
   out. Thirty per cent of three backends are none: all stay. Who is out stays out, and counts; so
   those that fall first go out first, and when several fall at once, by their addresses. Backends
   that drain or are disabled take up no room, and go out when they are down.
3. `all_down: fail_open`: when no active backend would be left, those that get flows go on getting
   them; where none does, all active ones do.
4. `slow_start`: a backend that goes up from down begins with a tenth of its weight and gets more in
   STEPS spread evenly over that time. Each step gives it slots of others, which are tracked from
   then on: so there are few. `since` says where it is on its way, also after a restart. It never
   gets less again while it is up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ansible_collections.l4lb.xdp.plugins.module_utils._address import order
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Pool
from ansible_collections.l4lb.xdp.plugins.module_utils._health import Health

STEPS = (10, 25, 50, 75)
"""Per cent of its weight that a recovered backend gets, one after the other; then all."""

UP = Health()


def decide(
    pool: Pool, seen: Mapping[str, str], applied: Mapping[str, Health], now: int
) -> dict[str, Health]:
    """The health of the pool's backends by address, only what differs from up at full weight.

    pool: with overrides. seen: up, down or unknown by address; one that is missing is unknown.
    applied: what the last decision was, of the same shape as the result. now: Unix time.
    """
    out = _out(pool, seen, applied)
    healths = {
        backend.address: _down(applied.get(backend.address, UP), now)
        if backend.address in out
        else _up(pool, applied.get(backend.address, UP), now)
        for backend in pool.backends
    }
    return {address: health for address, health in healths.items() if health.differs}


def _out(pool: Pool, seen: Mapping[str, str], applied: Mapping[str, Health]) -> set[str]:
    """Those that get no flows, by rules 1 to 3."""
    addresses = [backend.address for backend in pool.backends]
    before = {a for a in addresses if applied.get(a, UP).health == "down"}
    down = {
        a
        for a in addresses
        if seen.get(a, "unknown") == "down" or (a in before and seen.get(a) != "up")
    }
    active = {backend.address for backend in pool.backends if backend.state == "active"}
    out = (down - active) | _at_most(pool, down & active, before, len(active))
    if pool.all_down == "fail_open" and active and active <= out:
        stay = active - before
        out -= stay or active
    return out


def _at_most(pool: Pool, down: Collection[str], before: Collection[str], active: int) -> set[str]:
    """Those of the active ones that are down that go out, by rule 2."""
    out = {address for address in down if address in before}
    room = active * pool.max_unhealthy // 100 - len(out)
    waiting = sorted((a for a in down if a not in out), key=order)
    return out | set(waiting[: max(0, room)])


def _down(before: Health, now: int) -> Health:
    return before if before.health == "down" else Health("down", since=now)


def _up(pool: Pool, before: Health, now: int) -> Health:
    """A backend that is up, by rule 4."""
    if before.health == "up" and before.share == 100:
        return UP
    if before.health == "down":
        before = Health("up", STEPS[0], now)
    since = min(before.since, now)  # the clock may have been set back
    passed = (now - since) * len(STEPS) // pool.slow_start if pool.slow_start else len(STEPS)
    share = STEPS[passed] if passed < len(STEPS) else 100
    return Health("up", max(before.share, share), since)
