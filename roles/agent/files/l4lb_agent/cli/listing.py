# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands that list services or backends have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from l4lb_agent.cli import here
from l4lb_agent.cli.main import ABSENT, USAGE, WELL, WRONG, CliError
from l4lb_agent.cli.output import console, dump, note

Row = dict[str, Any]


def show(
    given: argparse.Namespace,
    key: tuple[str, str],
    rows: Callable[[argparse.Namespace, dict[str, Any] | None], list[Row]],
    table: Callable[[list[Row], bool], Any],
    wrong: Callable[[Row], bool],
) -> int:
    """Shows the rows that were asked for; 1 when one of them is wrong.

    key: what a row is, and the field of rows and arguments that names it. rows: of the agent's
    status, None when there is none. table: of rows, wide or not.
    """
    agent = here.agent(given)
    if not agent.works:
        note(agent.absence)
    shown = _chosen(rows(given, agent.status), given, *key)
    if given.json:
        dump(shown)
    else:
        out = console()
        out.print(table(shown, out.is_terminal))
    if not agent.works:
        return ABSENT
    return WRONG if any(map(wrong, shown)) else WELL


def _chosen(rows: list[Row], given: argparse.Namespace, kind: str, field: str) -> list[Row]:
    names = getattr(given, field)
    missing = set(names) - {each[field] for each in rows}
    if missing:
        raise CliError(f"no such {kind} here: {', '.join(sorted(missing))}", USAGE)
    return [
        each
        for each in rows
        if (not names or each[field] in names) and given.pool in (None, each["pool"])
    ]
