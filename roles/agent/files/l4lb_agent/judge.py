# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From answers to health: who fails `fall` times in a row is down, until it has answered `rise`
times in a row.

A backend of which nothing has been heard is unknown, never down: not after a restart, and not while
the node cannot ask.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import HealthCheck
from l4lb_agent.checks import Answer, Key


@dataclass(frozen=True)
class Judgement:
    """What is held of a backend, and why.

    since: when its health became what it is, by the clock of `hear`; 0 while no answer has changed
    it.
    streak: answers in a row, failures counted below 0. asked, failed: answers of the backend since
    it is watched. answer: the last one, or why it could not be asked.
    """

    health: str = "unknown"
    since: float = 0.0
    streak: int = 0
    asked: int = 0
    failed: int = 0
    answer: Answer | None = None


class Judge:
    """Holds a Judgement of each backend watched. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checks: dict[Key, HealthCheck] = {}
        self._judgements: dict[Key, Judgement] = {}

    def watch(self, checks: Mapping[Key, HealthCheck], down: Collection[Key] = ()) -> None:
        """These backends from now on, and no others; down: those of them that were down before they
        were watched. What is held of one stays while its check does. Another check leaves its
        health, until the new one is answered; but health that nobody had asked for is unknown.
        """
        with self._lock:
            self._judgements = {
                key: self._kept(key, check, key in down) for key, check in checks.items()
            }
            self._checks = dict(checks)

    def _kept(self, key: Key, check: HealthCheck, down: bool) -> Judgement:
        before = self._checks.get(key)
        if before == check:
            return self._judgements[key]
        if check.type == "none":
            return Judgement("up")
        if before is None or before.type == "none":
            return Judgement("down" if down else "unknown")
        held = self._judgements[key]
        return Judgement(held.health, held.since)

    def hear(self, key: Key, answer: Answer, now: float) -> bool:
        """Takes an answer in. True: ask the same target again next time, for it has failed.

        That holds of a backend that is down, too: with several targets, of which one never answers,
        it would else come back by the others and fall again, for ever.
        """
        with self._lock:
            held = self._judgements.get(key)
            check = self._checks.get(key)
            if held is None or check is None or check.type == "none":
                return False
            heard = _heard(held, answer, check, now)
            self._judgements[key] = heard
            return heard.streak < 0

    def judgements(self) -> Mapping[Key, Judgement]:
        """Of all that are watched: a view, in which answers go on arriving until `watch` is called
        again. It costs nothing, and always has the same backends.
        """
        return MappingProxyType(self._judgements)


def _heard(held: Judgement, answer: Answer, check: HealthCheck, now: float) -> Judgement:
    if answer.local:
        return Judgement(held.health, held.since, held.streak, held.asked, held.failed, answer)
    if answer.ok:
        streak = max(held.streak, 0) + 1
        turns = held.health != "up" and (held.health == "unknown" or streak >= check.rise)
        health = "up" if turns else held.health
    else:
        streak = min(held.streak, 0) - 1
        turns = held.health != "down" and -streak >= check.fall
        health = "down" if turns else held.health
    since = now if turns else held.since
    return Judgement(health, since, streak, held.asked + 1, held.failed + (not answer.ok), answer)
