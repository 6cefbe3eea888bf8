# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""l4lb services: announced or not, why, and their traffic since they are there."""

from __future__ import annotations

import argparse
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from l4lb_agent.cli import here, listing
from l4lb_agent.cli.output import BAD, GOOD, QUIET, note, number, table, text
from l4lb_agent.cli.status import place


def run(given: argparse.Namespace) -> int:
    """1 when one of those shown is not announced or not proven."""
    return listing.show(given, ("service", "name"), _rows, _table, _is_withheld)


def _is_withheld(row: dict[str, Any]) -> bool:
    return bool(row["reasons"] or not row["announced"])


def _rows(given: argparse.Namespace, status: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The kernel's services with what the agent says of them; the agent's alone where the kernel
    cannot be read. announced and reasons are None where there is no agent's word.
    """
    told = {each["name"]: each for each in (status or {}).get("services", ())}
    addresses = (status or {}).get("addresses", {})
    try:
        found = here.kernel(given, ["services"])["services"]
    except (L4lbError, OSError) as error:
        if not told:
            raise
        note(f"no counters: {error}")
        found = list(told.values())
    return [
        {
            "packets": None,
            "bytes": None,
            **each,
            "announced": addresses.get(each["address"], {}).get("announced"),
            "reasons": told[each["name"]]["reasons"] if each["name"] in told else None,
        }
        for each in found
    ]


def _table(rows: list[dict[str, Any]], wide: bool) -> Any:
    head = ("service", "where", "pool", "announced", "packets", "bytes", "why not")
    return table(
        head,
        (
            (
                each["name"],
                place(each),
                each["pool"],
                {True: text("yes", GOOD), False: text("no", BAD), None: text("?", QUIET)}[
                    each["announced"]
                ],
                "" if each["packets"] is None else number(each["packets"]),
                "" if each["bytes"] is None else number(each["bytes"]),
                "; ".join(each["reasons"] or ()),
            )
            for each in rows
        ),
        right=("packets", "bytes"),
        wide=wide,
    )
