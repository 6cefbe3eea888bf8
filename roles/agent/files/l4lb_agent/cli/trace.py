# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""l4lb trace: packets as they come, what became of each, and why."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._address import endpoint
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from ansible_collections.l4lb.xdp.plugins.module_utils._trace import Filter, Trace, TraceError
from l4lb_agent.cli import here
from l4lb_agent.cli.main import USAGE, WELL, CliError
from l4lb_agent.cli.output import BAD, DOUBTFUL, GOOD, QUIET, console, note, text


def run(given: argparse.Namespace) -> int:
    """Ends by --count, --seconds or ctrl-C; all of them are well."""
    here.require_root(given)
    chosen = Filter(given.sample, given.service, given.client, given.verdict)
    out = console()
    tables = Tables(given.pins, given.source)
    try:
        wanted = Trace(tables, chosen)
    except TraceError as error:
        raise CliError(str(error), USAGE) from error
    with wanted as trace:
        if sys.stdout.isatty() and not given.json:
            note("tracing; ctrl-C ends")
        try:
            for event in itertools.islice(_wanted(trace, given), given.count):
                if given.json:
                    print(json.dumps(asdict(event)), flush=True)
                else:
                    out.print(line(event), soft_wrap=True)
        except KeyboardInterrupt:
            pass
        lost = trace.lost
    if lost:
        note(f"{lost} packets were not told of: this was too slow; --sample takes fewer")
    return WELL


def _wanted(trace: Trace, given: argparse.Namespace) -> Iterator[Any]:
    for event in trace.events(given.seconds):
        if given.backend in (None, event.backend) and (
            not given.drops or event.verdict.startswith("drop_")
        ):
            yield event


def line(event: Any) -> Any:
    """One event in one line."""
    when = time.strftime("%H:%M:%S", time.localtime(event.time))
    verdict = event.verdict
    style = BAD if verdict.startswith("drop_") else DOUBTFUL if verdict.startswith("pass") else GOOD
    told = text("").append(f"{when}.{int(event.time % 1 * 1000):03} ", style=QUIET)
    told.append(f"{verdict:16} ", style=style)
    if event.source:
        source = endpoint(event.source, event.source_port)
        destination = endpoint(event.destination, event.destination_port)
        told.append(f"{event.protocol} {source} -> {destination}")
    if event.service is not None:
        told.append(f"  {event.service}")
    if event.backend is not None:
        told.append(f" -> {event.backend}", style="bold")
    if event.slot is not None:
        told.append(f"  slot {event.slot}", style=QUIET)
    return told.append(f"  {event.reason}", style=QUIET)
