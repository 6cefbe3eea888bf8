# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules, by Prometheus's own tool, and what they rest on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .queries import ROOT, metrics_in, unknown

RULES = ROOT / "roles/agent/files/prometheus/l4lb.rules.yml"
SCENARIOS = sorted((Path(__file__).parent / "prometheus").glob("*.yml"))


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str) -> None:
    ran = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_rules_are_well_formed() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_before(scenario: Path) -> None:
    promtool("test", "rules", str(scenario))


def test_every_alert_fires_in_a_scenario() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SCENARIOS)
    fired = set(re.findall(r'alertname="(\w+)"', text))
    assert fired == {alert["alert"] for alert in alerts()}


def test_every_alert_says_what_where_and_what_to_do() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    runbooks = {f"docs/operations.md#{heading.lower()}" for heading in headings}
    for alert in alerts():
        assert alert["labels"]["severity"] in ("critical", "warning")
        notes = alert["annotations"]
        assert set(notes) == {"summary", "description", "runbook"}
        assert notes["runbook"] in runbooks


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_alerts_rest_on_metrics_that_there_are(alert: dict[str, Any]) -> None:
    assert metrics_in(alert["expr"]) or "up{" in alert["expr"]
    assert unknown(alert["expr"]) == []
