# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One word for each reason for which something is not announced: what a label can hold.

The sentences are for people and name addresses, programs and numbers; as labels they would be
without bounds.
"""

from __future__ import annotations

import re

_WORDS = (
    ("withdrawn", r"^the node is withdrawn"),
    ("removing", r"about to be removed"),
    ("unprepared", r"^no balancer (is prepared|was applied)"),
    ("mode", r"runs the balancer in mode"),
    (
        "program",
        r"XDP program|program is pinned|^there is no interface|^the program balances by other",
    ),
    ("program", r"^cannot look at the program"),
    ("maps", r"^the kernel does not hold|^the maps cannot be opened"),
    ("next_hop", r"^no next hop|: the route there is of type"),
    ("source", r"the node has no source_ipv"),
    ("proof", r"^the program does not send"),
    ("dropped", r"the packet is dropped"),
    ("empty", r"^pool \S+ has no backend"),
    ("minimum", r"\(minimum_healthy\)$"),
    ("unproven", r"is not proven to forward yet$"),
    ("hold", r"\(hold\)$"),
)
"""Word and what its sentences have in common; the first that fits counts."""

WORDS = (*dict.fromkeys(word for word, _pattern in _WORDS), "other")
"""All words there are."""

_PATTERNS = [(word, re.compile(pattern)) for word, pattern in _WORDS]


def word(reason: str) -> str:
    """The word of a sentence; "other" for one that is not known here."""
    return next((word for word, pattern in _PATTERNS if pattern.search(reason)), "other")
