# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a piece of work comes to, for a module to report.

Private to the collection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError


@dataclass
class Outcome:
    """What was done, or with dry would be, in a person's lines; `data` goes into the module's
    result.
    """

    changed: bool
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def lacking(require: Callable[[], None]) -> str:
    """Why a dry run cannot look closer on a host that no role has prepared; empty when it can."""
    try:
        require()
    except L4lbError as error:
        return f"not prepared yet, so not compared: {error}"
    return ""
