# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""l4lb top: packets and bits a second, by service and backend, and what is dropped."""

from __future__ import annotations

import argparse
import json
import os
import selectors
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live

from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from l4lb_agent import counters
from l4lb_agent.cli import here
from l4lb_agent.cli.main import WELL
from l4lb_agent.cli.output import BAD, DOUBTFUL, GOOD, QUIET, console, rate, table, text
from l4lb_agent.counters import Reading, Traffic

Pause = Callable[[float], bool]
"""Waits so many seconds; True: end now."""

_END = frozenset(b"qQ\x1b\x04")
_FRAME = 9
"""Lines of the screen that are no row of services or backends."""


def run(given: argparse.Namespace) -> int:
    here.require_root(given)
    tables = Tables(given.pins, given.source)
    out = console()
    if given.json:
        for found in _rates(tables, given, _sleep):
            print(json.dumps(found), flush=True)
    elif given.count is not None or not (out.is_terminal and sys.stdin.isatty()):
        for found in _rates(tables, given, _sleep):
            out.print(screen(found, here.agent(given).status, 0, out.is_terminal))
    else:
        _live(tables, given, out)
    return WELL


def _live(tables: Tables, given: argparse.Namespace, out: Console) -> None:
    """Until q is pressed."""
    with _keys() as pressed, Live(console=out, screen=True, auto_refresh=False) as live:
        live.update(text("counting ...", QUIET), refresh=True)
        for found in _rates(tables, given, pressed):
            status = here.agent(given).status
            live.update(screen(found, status, out.height - _FRAME, True), refresh=True)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextmanager
def _keys() -> Iterator[Pause]:
    """The keyboard, key by key and without echo."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    # Not of sys.stdin: what that has read ahead nobody sees.
    ready = selectors.DefaultSelector()
    ready.register(terminal, selectors.EVENT_READ)

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if ready.select(left):
                typed = os.read(terminal, 64)
                if not typed or set(typed) & _END:
                    return True
        return False

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        ready.close()
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


# --- counting ---


def _rates(tables: Tables, given: argparse.Namespace, pause: Pause) -> Iterator[dict[str, Any]]:
    """An interval each: rates of services and backends, the busiest first, and of verdicts."""
    before, left = counters.read(tables), given.count
    while left is None or left > 0:
        if pause(given.interval):
            return
        now = counters.read(tables)
        yield rates(before, now, given.pool)
        before = now
        left = None if left is None else left - 1


def rates(before: Reading, now: Reading, pool: str | None = None) -> dict[str, Any]:
    """Packets and bits a second between two readings. What is new counts from nothing."""
    seconds = max(now.at - before.at, 1e-9)
    old, new = before.counted, now.counted
    pools = {index: entry.name for index, entry in now.actual.pools.items()}
    of_service = {s.name: pools.get(s.pool, "?") for s in now.services.values()}
    services = [
        {"name": name, "pool": of_service[name], **_rate(old.services.get(name), t, seconds)}
        for name, t in new.services.items()
    ]
    backends = [
        {
            "pool": key[0],
            "address": key[1],
            "state": now.backends[key].state,
            "health": now.backends[key].health,
            **_rate(old.backends.get(key), t, seconds),
        }
        for key, t in new.backends.items()
    ]
    return {
        "seconds": round(seconds, 3),
        "verdicts": {v: _rate(old.verdicts.get(v), t, seconds) for v, t in new.verdicts.items()},
        "services": _busiest(services, pool),
        "backends": _busiest(backends, pool),
    }


def _rate(before: Traffic | None, now: Traffic, seconds: float) -> dict[str, float]:
    if before is None or now.packets < before.packets:  # begun anew
        before = Traffic()
    return {
        "packets_per_second": round((now.packets - before.packets) / seconds, 1),
        "bits_per_second": round((now.bytes - before.bytes) * 8 / seconds, 1),
    }


def _busiest(rows: list[dict[str, Any]], pool: str | None) -> list[dict[str, Any]]:
    chosen = (row for row in rows if pool in (None, row["pool"]))
    return sorted(chosen, key=lambda row: -row["packets_per_second"])  # else in the kernel's order


# --- showing ---


def screen(
    found: Mapping[str, Any], status: Mapping[str, Any] | None, room: int, wide: bool
) -> RenderableType:
    """The whole of it. room: lines for rows, 0 for all."""
    services, backends = found["services"], found["backends"]
    most = max(2, room // 2)
    if room > 0:
        spare = max(0, most - min(len(services), len(backends)))
        services, backends = services[: most + spare], backends[: most + spare]
        if len(services) + len(backends) > room:
            services = services[: max(2, room - len(backends))]
    return Group(
        _head(found, status),
        table(
            ("service", "pool", "packets/s", "bits/s"),
            ((row["name"], row["pool"], *_cells(row)) for row in services),
            right=("packets/s", "bits/s"),
            wide=wide,
        ),
        _more(len(found["services"]) - len(services)),
        table(
            ("backend", "pool", "packets/s", "bits/s", ""),
            ((row["address"], row["pool"], *_cells(row), _condition(row)) for row in backends),
            right=("packets/s", "bits/s"),
            wide=wide,
        ),
        _more(len(found["backends"]) - len(backends)),
        _dropped(found["verdicts"]),
    )


def _head(found: Mapping[str, Any], status: Mapping[str, Any] | None) -> RenderableType:
    to_backends = [found["verdicts"][v] for v in ("sent", "redirected", "to_kernel")]
    packets = sum(each["packets_per_second"] for each in to_backends)
    bits = sum(each["bits_per_second"] for each in to_backends)
    line = text(here.hostname(), "bold")
    if status:
        announced = sum(each["announced"] for each in status["addresses"].values())
        state = status["node"]["state"] or "announces nothing yet"
        style = GOOD if state == "announcing" and announced else DOUBTFUL
        line.append(f"  {state}, {announced} of {len(status['addresses'])} addresses", style=style)
    return line.append(
        f"  {rate(packets)} packets/s, {rate(bits)} bits/s to backends", style="bold"
    )


def _cells(row: Mapping[str, Any]) -> Sequence[Any]:
    style = "" if row["packets_per_second"] else QUIET
    return text(rate(row["packets_per_second"]), style), text(rate(row["bits_per_second"]), style)


def _condition(row: Mapping[str, Any]) -> Any:
    if row["health"] != "up":
        return text(row["health"], BAD)
    return text("" if row["state"] == "active" else row["state"], DOUBTFUL)


def _more(number: int) -> RenderableType:
    return text(f"  and {number} more" if number > 0 else "", QUIET)


def _dropped(verdicts: Mapping[str, Mapping[str, float]]) -> RenderableType:
    """Those that are dropped now."""
    found = [
        f"{verdict[5:]} {rate(each['packets_per_second'])}"
        for verdict, each in verdicts.items()
        if verdict.startswith("drop_") and each["packets_per_second"]
    ]
    return text("dropped a second: " + (", ".join(found) or "none"), BAD if found else QUIET)
