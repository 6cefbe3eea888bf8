# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""l4lb backends: what their checks say, what they get, and their traffic."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from l4lb_agent.cli import here, listing
from l4lb_agent.cli.output import (
    BAD,
    DOUBTFUL,
    GOOD,
    QUIET,
    note,
    number,
    span,
    table,
    text,
)

_TOLD = ("check", "health", "since", "share", "answer", "seconds", "asked", "failed")


def run(given: argparse.Namespace) -> int:
    """1 when one of those shown is down."""
    return listing.show(given, ("backend", "address"), _rows, _table, _is_down)


def _is_down(row: dict[str, Any]) -> bool:
    return bool(row["health"] == "down")


def _rows(given: argparse.Namespace, status: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The kernel's backends with what their checks say; what nobody can tell is None."""
    told = {(each["pool"], each["address"]): each for each in (status or {}).get("backends", ())}
    nothing = dict.fromkeys(("weight", "packets", "bytes"))
    try:
        found = here.kernel(given, ["backends"])["backends"]
    except (L4lbError, OSError) as error:
        if not told:
            raise
        note(f"no weights nor counters: {error}")
        found = [{**nothing, **each} for each in told.values()]
    rows = []
    for each in found:
        key = each["pool"], each["address"]
        applied = each["health"]
        said = {name: told.get(key, {}).get(name) for name in _TOLD}
        rows.append({**each, **said, "health": said["health"] or applied})
    return rows


def _table(rows: list[dict[str, Any]], wide: bool) -> Any:
    head = ("pool", "backend", "state", "weight", "health", "for", "check", "packets", "bytes")
    return table(head, map(_cells, rows), right=("weight", "for", "packets", "bytes"), wide=wide)


def _cells(each: dict[str, Any]) -> tuple[Any, ...]:
    style = {"up": GOOD, "down": BAD}.get(each["health"], DOUBTFUL)
    weight = "" if each["weight"] is None else str(each["weight"])
    if weight and each["share"] not in (None, 100):
        weight = f"{each['share']} % of {weight}"
    answer = each["answer"] or ""
    if answer and each["seconds"]:
        answer = f"{answer} ({each['seconds'] * 1000:.1f} ms)"
    return (
        each["pool"],
        each["address"],
        text(each.get("state") or "", "" if each.get("state") == "active" else DOUBTFUL),
        weight,
        text(each["health"], style),
        span(time.time() - each["since"]) if each["since"] else "",
        text(f"{each['check'] or ''} {answer}".strip(), "" if each["health"] != "down" else QUIET),
        "" if each["packets"] is None else number(each["packets"]),
        "" if each["bytes"] is None else number(each["bytes"]),
    )
