# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check before the first change says: what was looked at, what was found, what to do.

Private to the collection. Everything in the files `_preflight_*.py` that are not `_preflight_see_*`
judges plain data and asks the kernel nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

STATUSES = ("ok", "warning", "failed", "skipped", "unknown")
"""skipped: cannot be looked at yet. unknown: the kernel, or the driver, does not tell."""

SHOWN = 5
"""How many of a long list a person is shown."""

NONE = "none"


@dataclass(frozen=True)
class Check:
    """One judgement. subject: the interface, library, address ... or empty; remedy: what to do,
    empty where nothing has to be done.
    """

    name: str
    subject: str
    status: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        head = f"{self.name} {self.subject}".rstrip()
        return f"{head}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Environment:
    """What the host is inside of: the hypervisor's and the container's kind, or `none`."""

    virtualization: str = NONE
    container: str = NONE

    @property
    def virtual(self) -> bool:
        return self.virtualization != NONE

    @property
    def contained(self) -> bool:
        return self.container != NONE

    def owner(self, thing: str) -> str:
        """Whose the thing is: a container shares the host's."""
        return f"the {thing} of this container's host" if self.contained else f"the {thing}"


def skipped(names: Iterable[str], why: str) -> list[Check]:
    """All these checks, not looked at for one reason."""
    return [Check(name, "", "skipped", why) for name in names]


def counted(number: int, what: str) -> str:
    """`1 backend`, `2 backends`."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def some(items: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = len(items) - SHOWN
    return ", ".join(items[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def summary(checks: Iterable[Check]) -> dict[str, int]:
    """How many checks have each status."""
    counts = dict.fromkeys(STATUSES, 0)
    for check in checks:
        counts[check.status] += 1
    return counts
