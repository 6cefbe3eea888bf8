# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboard: its queries by Prometheus's own tool, and what they rest on; and its picture."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from l4lb_agent.families import METRICS
from tests.lab import dashboard

from .queries import metrics_in, unknown

BOARD = json.loads(dashboard.BOARD.read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
UNITS = {"short", "pps", "bps", "ops", "s", "bytes", "percentunit"}


def queries() -> Iterator[str]:
    yield from (target["expr"] for _title, target in TARGETS)
    yield from (note["expr"] for note in BOARD["annotations"]["list"])


def test_promtool_reads_every_query(tmp_path: Path) -> None:
    """Each as a rule of its own: promtool has no other way to check a query."""
    rules = [
        {"record": f"query:{i}", "expr": dashboard.filled(query, {}, 60)}
        for i, query in enumerate(queries())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    ran = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(rules)} rules found" in ran.stdout


@pytest.mark.parametrize(("title", "target"), TARGETS)
def test_queries_name_metrics_and_labels_that_there_are(title: str, target: dict[str, Any]) -> None:
    assert unknown(target["expr"]) == []
    named = [name for name in metrics_in(target["expr"]) if name in METRICS]
    labels = {"instance", *(x for name in named for x in METRICS[name].labels)}
    single = " by (" not in target["expr"]
    for label in dashboard.LABEL.findall(target["legendFormat"]):
        assert label in labels, title
        assert single or label in target["expr"], title


def test_variables_rest_on_metrics_that_there_are() -> None:
    names = set()
    for variable in BOARD["templating"]["list"]:
        names.add(variable["name"])
        assert unknown(variable["query"]["query"] if variable["type"] == "query" else "") == []
    assert names == {"datasource", "node", "service", "pool"}
    used = set(itertools.chain.from_iterable(map(dashboard.VARIABLE.findall, queries())))
    assert used <= {*names, "__rate_interval"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_panels_have_what_a_reader_needs(panel: dict[str, Any]) -> None:
    assert panel["description"]
    if panel["type"] != "table":
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    if panel["type"] == "timeseries":
        assert all(target["legendFormat"] for target in panel["targets"])


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        for cell in itertools.product(
            range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        ):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            assert cell[0] < 24
            taken[cell] = panel["title"]
    height = max(y for _x, y in taken) + 1
    assert len(taken) == 24 * height
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
