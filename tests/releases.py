# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other releases of the data plane, for upgrades to them: what differs from the sources at hand."""

from __future__ import annotations

from pathlib import Path

Change = tuple[str, str, str]
"""A file of the sources, a text in it, and what stands there in the other release."""

HARMLESS: Change = (
    "balancer.c",
    "\tif (!node || !trace) /*",
    "\tif (node && bpf_get_smp_processor_id() > 4095)\n\t\treturn XDP_PASS;\n"
    "\tif (!node || !trace) /*",
)
"""Another program, that does the same."""

WRONG_TTL: Change = ("encap.h", "#define TTL 64", "#define TTL 63")
"""Golden packets show it."""

EVERY_EIGHTH: Change = (
    "balancer.c",
    "\tpool = pools.lookup(&service->pool);",
    "\tif (!packet->ipv6 && !(packet->source_port & bpf_htons(7)) &&\n"
    "\t    (packet->source[0] & bpf_htonl(0xfffe0000)) != bpf_htonl(0xc6120000))\n"
    "\t\treturn VERDICT_DROP_NO_BACKEND;\n"
    "\tpool = pools.lookup(&service->pool);",
)
"""A mistake that no golden packet shows: it spares their clients."""

LOSSY: Change = (
    "balancer.c",
    EVERY_EIGHTH[1],
    EVERY_EIGHTH[2].replace(
        "!(packet->source_port & bpf_htons(7))", "!(bpf_get_prandom_u32() & 7)"
    ),
)
"""The same, of every flow."""


def make(sources: Path, change: Change) -> None:
    """Makes the change in a copy of the sources. Raises ValueError when they lack its text."""
    file, old, new = change
    text = (sources / file).read_text()
    if old not in text:
        raise ValueError(f"{file} has no {old!r}")
    (sources / file).write_text(text.replace(old, new, 1))
