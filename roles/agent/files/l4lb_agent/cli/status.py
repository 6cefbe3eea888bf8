# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""l4lb status: whether all is well, and what is not."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from ansible_collections.l4lb.xdp.plugins.module_utils._address import endpoint
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from l4lb_agent.cli import here
from l4lb_agent.cli.main import ABSENT, WELL, WRONG
from l4lb_agent.cli.output import (
    BAD,
    DOUBTFUL,
    GOOD,
    QUIET,
    console,
    dump,
    number,
    span,
    table,
    text,
)

ROWS = 20
"""Of a table at most; --json has all."""

KERNEL_PARTS = ("program", "services", "pools", "backends")


def run(given: argparse.Namespace) -> int:
    """1 when a service is not announced, a backend down, or a part of the agent's work failed."""
    agent = here.agent(given)
    kernel, why = (None, "") if agent.works else _kernel(given)
    code = (WRONG if list(_faults(agent.status or {})) else WELL) if agent.works else ABSENT
    if given.json:
        dump({"host": here.hostname(), "agent": agent.status, "age": agent.age, "kernel": kernel})
        return code
    out = console()
    if not agent.works:
        out.print(text(agent.absence, BAD))
    if agent.status:
        _print_agent(out, agent.status, agent.age)
    if kernel:
        _print_kernel(out, kernel)
    elif why:
        out.print(text(f"The kernel: {why}", DOUBTFUL))
    return code


def _kernel(given: argparse.Namespace) -> tuple[dict[str, Any] | None, str]:
    """What the kernel holds, or why that cannot be told."""
    try:
        return here.kernel(given, KERNEL_PARTS), ""
    except (L4lbError, OSError) as error:
        return None, str(error)


def _faults(status: Mapping[str, Any]) -> Iterator[str]:
    """Everything that is not as inventory wants it. A drained node is as it was told to be."""
    yield from status["problems"]
    if status["node"]["wanted"] != "withdrawn":
        yield from status["node"]["reasons"]
        for service in status["services"]:
            yield from service["reasons"]
        yield from (a for a, each in status["addresses"].items() if not each["announced"])
    for backend in status["backends"]:
        if backend["health"] == "down" and backend.get("state") != "disabled":
            yield backend["answer"]


# --- for people ---


def _print_agent(out: Console, status: Mapping[str, Any], age: float) -> None:
    node = status["node"]
    style = {"announcing": GOOD, "draining": DOUBTFUL}.get(node["state"], BAD)
    told = "" if node["wanted"] == node["state"] else f" (told to be {node['wanted']})"
    since = f" for {span(time.time() - node['since'])}" if node["since"] else ""
    up = span(status["written"] - status["started"])
    out.print(
        text(here.hostname(), "bold"),
        text(node["state"] or "announces nothing yet", style).append(since + told, style=""),
        text(f"(agent {status['pid']}, up {up}, last turn {age:.1f} s ago)", QUIET),
    )
    for reason in node["reasons"]:
        out.print(text(f"  announces nothing: {reason}", BAD))
    _print_counts(out, status)
    _section(out, ("not announced", "why"), _not_announced(status))
    _section(out, ("gate does not hold", "where", "why"), _shut(status))
    numbers = ("healthy", "backends", "minimum")
    _section(out, ("pool", *numbers), _pools(status), right=numbers)
    _section(out, ("pool", "backend down", "for", "answer"), _down(status))
    _section(out, ("problem",), ((text(problem, BAD),) for problem in status["problems"]))


def _section(
    out: Console, head: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[str] = ()
) -> None:
    """A table, where there is anything to say."""
    content = list(rows)
    if content:
        out.print()
        out.print(table(head, content[:ROWS], right, wide=out.is_terminal))
        if len(content) > ROWS:
            out.print(text(f"and {len(content) - ROWS} more", QUIET))


def _print_counts(out: Console, status: Mapping[str, Any]) -> None:
    addresses, services = status["addresses"].values(), status["services"]
    announced = sum(each["announced"] for each in addresses)
    style = GOOD if announced == len(addresses) else DOUBTFUL if announced else BAD
    out.print(text(f"{announced} of {len(addresses)} addresses announced", style))
    hold = sum(not each["reasons"] for each in services)
    style = GOOD if hold == len(services) else DOUBTFUL
    out.print(text(f"{hold} of {len(services)} gates of services hold", style))


def _not_announced(status: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for address, each in status["addresses"].items():
        if not each["announced"]:
            yield address, "; ".join(each["reasons"]) or "not yet"


def _shut(status: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Those with a reason that is not told of their address already."""
    told = {address: each["reasons"] for address, each in status["addresses"].items()}
    for each in status["services"]:
        if set(each["reasons"]) - set(told.get(each["address"], ())):
            yield each["name"], place(each), "; ".join(each["reasons"])


def _pools(status: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Those in trouble first."""
    pools = status["pools"].items()
    for name, pool in sorted(pools, key=lambda item: item[1]["healthy"] >= item[1]["backends"]):
        few = pool["healthy"] < pool["minimum_healthy"]
        style = BAD if few else DOUBTFUL if pool["healthy"] < pool["backends"] else GOOD
        yield name, text(pool["healthy"], style), pool["backends"], pool["minimum_healthy"]


def _down(status: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for each in status["backends"]:
        if each["health"] == "down":
            yield each["pool"], each["address"], _since(each), text(each["answer"], BAD)


def _since(backend: Mapping[str, Any]) -> str:
    return span(time.time() - backend["since"]) if backend["since"] else ""


def _print_kernel(out: Console, kernel: Mapping[str, Any]) -> None:
    """What still forwards, whatever became of the agent."""
    out.print()
    program = kernel["program"]
    runs = ", ".join(f"{each['interface']} ({each['mode']})" for each in program["interfaces"])
    out.print(text("The kernel goes on by the last state:", "bold"))
    if runs:
        out.print(text(f"balancer {program['tag']} on {runs}", GOOD))
    else:
        out.print(text("no interface runs the balancer: nothing is forwarded", BAD))
    backends = [b for b in kernel["backends"] if b["state"] == "active" and b["health"] == "up"]
    out.print(
        f"{len(kernel['services'])} services, {len(kernel['pools'])} pools, {len(backends)} of "
        f"{len(kernel['backends'])} backends get new flows, "
        f"{number(sum(s['packets'] for s in kernel['services']))} packets balanced"
    )


def place(service: Mapping[str, Any]) -> str:
    """203.0.113.10:80/tcp."""
    return f"{endpoint(service['address'], service['port'] or 'any')}/{service['protocol']}"
