# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured against what was asked for, as tables and as a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fleet import Inventory

# Sampling alone moves a share of 1,000 connections by 4.5 points in one case of a thousand.
TOLERANCE = 0.08


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Words to the left, numbers to the right."""
    lines = [[str(cell) for cell in row] for row in rows]
    columns = list(zip(head, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() or cell[:1] in "+-" for cell in c[1:]) for c in columns]

    def line(cells: Iterable[str]) -> str:
        aligned = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, widths, right, strict=True)
        )
        return "  " + "  ".join(aligned).rstrip()

    rule = "  " + "  ".join("-" * width for width in widths)
    return "\n".join(["", title, "", line(head), rule, *map(line, lines), ""])


def per_node(counted: dict[str, int], requests: int) -> str:
    """A node counts packets; every request here takes the same few, so shares are the same."""
    total = sum(counted.values()) or 1
    rows = [
        (node, packets, f"{packets / total:.1%}", round(requests * packets / total))
        for node, packets in counted.items()
    ]
    head = ("node", "packets counted", "share", "requests")
    return table("Requests per node, from the nodes' counters", head, rows)


def answers_by_pool(inventory: Inventory, traffic: dict) -> dict[str, Counter[str]]:
    pools: dict[str, Counter[str]] = {}
    for url, tally in traffic["urls"].items():
        pools.setdefault(inventory.urls[url], Counter()).update(tally["answered"])
    return pools


def compared(inventory: Inventory, traffic: dict) -> list[tuple[str, str, int, float, int, float]]:
    """Pool, real server, weight, share asked for, requests answered, share measured."""
    rows = []
    for pool, answered in answers_by_pool(inventory, traffic).items():
        shares = inventory.shares(pool)
        for server in sorted(shares.keys() | answered.keys()):
            weight, asked = shares.get(server, (0, 0.0))
            measured = answered[server] / (answered.total() or 1)
            rows.append((pool, server, weight, asked, answered[server], measured))
    return rows


def per_real_server(inventory: Inventory, traffic: dict) -> str:
    rows = [
        (pool, server, weight, f"{asked:.1%}", count, f"{measured:.1%}", f"{measured - asked:+.1%}")
        for pool, server, weight, asked, count, measured in compared(inventory, traffic)
    ]
    head = ("pool", "real server", "weight", "asked", "requests", "measured", "difference")
    return table("Requests per real server, from what answered", head, rows)


def complaints(inventory: Inventory, traffic: dict) -> list[str]:
    """What is wrong with the traffic; empty when all is well."""
    wrong = [
        f"{count} requests to {url} failed: {kind}"
        for url, tally in traffic["urls"].items()
        for kind, count in tally["failed"].items()
    ]
    wrong += [
        f"pool {pool}: {server} got {measured:.1%} instead of {asked:.1%}"
        for pool, server, _weight, asked, _count, measured in compared(inventory, traffic)
        if abs(measured - asked) > TOLERANCE
    ]
    return wrong
