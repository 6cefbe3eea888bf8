# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a probe asks, where, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import HealthCheck

Key = tuple[str, str]
"""Pool name, and the backend's canonical address."""


@dataclass(frozen=True)
class Target:
    """Where a probe's socket connects to. mark: its SO_MARK, 0 for none; source: the address that
    it is bound to.
    """

    address: str
    port: int
    mark: int = 0
    source: str | None = None


@dataclass(frozen=True)
class Subject:
    """A backend of a pool, and the targets that reach it, to be asked in turn."""

    pool: str
    backend: str
    check: HealthCheck
    targets: tuple[Target, ...]

    @property
    def key(self) -> Key:
        return self.pool, self.backend


@dataclass(frozen=True)
class Answer:
    """What one probe came to, in a few words, and how long it took.

    local: the node itself could not ask (no free port, no file descriptor, no permission, no such
    program). That is no answer of the backend, and says nothing about its health.
    """

    ok: bool
    text: str
    seconds: float
    local: bool = False


class Refused(Exception):
    """The backend answered, but not as it must."""


class CannotAsk(Exception):
    """The node could not ask: see Answer.local."""
