# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many nodes site.yml configures at once: one, where any of them has services to lose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .playing import ROOT, played

pytestmark = pytest.mark.usefixtures("ansible")

SITE = ROOT / "playbooks/site.yml"
NODES = "node1", "node2", "node3"


def turns_of(tmp_path: Path, found: dict[str, Any], *options: str) -> list[list[str]]:
    """The nodes of each turn. found: what the first play got to know of each node."""
    site = yaml.safe_load(SITE.read_text(encoding="utf-8"))
    play = next(play for play in site if play["name"].startswith("Nodes"))
    inventory = {"l4lb_nodes": {"hosts": {node: {"found": found.get(node)} for node in NODES}}}
    look = {
        "name": "Look",
        "ansible.builtin.set_fact": {"__balancer_validated": {"results": ["{{ found }}"]}},
        "when": "found is not none",
    }
    batch = {"var": "ansible_play_batch"}
    turn = {"name": "Turn", "ansible.builtin.debug": batch, "run_once": True}
    plays = [
        {"hosts": "all", "gather_facts": False, "tasks": [look]},
        {**play, "gather_facts": False, "tasks": [turn]},
    ]
    (tmp_path / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")
    (tmp_path / "plays.json").write_text(json.dumps(plays), encoding="utf-8")
    shown = played("-i", str(tmp_path / "inventory.json"), str(tmp_path / "plays.json"), *options)
    turns = shown.split("ansible_play_batch:")[1:]
    return [[node for node in NODES if f"- {node}\n" in part] for part in turns]


def served(**nodes: bool) -> dict[str, Any]:
    return {node: {"served": value} for node, value in nodes.items()}


def test_nothing_to_lose(tmp_path: Path) -> None:
    found = served(node1=False, node2=False, node3=False)
    assert turns_of(tmp_path, found) == [list(NODES)]


@pytest.mark.parametrize("left_out", [{}, {"node3": None}])
def test_one_at_a_time_where_one_serves(tmp_path: Path, left_out: dict[str, Any]) -> None:
    found = {**served(node1=False, node2=True, node3=False), **left_out}
    assert turns_of(tmp_path, found) == [[node] for node in NODES]


def test_a_dry_run_loses_nothing(tmp_path: Path) -> None:
    found = served(node1=True, node2=True, node3=True)
    assert turns_of(tmp_path, found, "--check") == [list(NODES)]
