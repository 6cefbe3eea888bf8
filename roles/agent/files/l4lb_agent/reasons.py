# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One word for each reason for which something is not announced: what a label can hold.

The sentences are for people and name addresses, programs and numbers; as labels they would be
without bounds.
"""

from __future__ import annotations

import re

_WORDS: tuple[tuple[str, str], ...] = ()

WORDS = (*dict.fromkeys(word for word, _pattern in _WORDS), "other")
"""All words there are."""

_PATTERNS = [(word, re.compile(pattern)) for word, pattern in _WORDS]


def word(reason: str) -> str:
    """The word of a sentence; "other" for one that is not known here."""
    return next((word for word, pattern in _PATTERNS if pattern.search(reason)), "other")
