# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How modules end: a result with its diff, or one clear text."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _links
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError
from ansible_collections.l4lb.xdp.plugins.module_utils._module import finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome, lacking


class Module:
    """The three things of AnsibleModule that `finish` uses."""

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}
        self.warnings: list[str] = []

    def exit_json(self, **result: Any) -> None:
        self.result = result

    def fail_json(self, **result: Any) -> None:
        self.result = {"failed": True, **result}

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_outcome_becomes_result_diff_and_warnings() -> None:
    module = Module()
    outcome = Outcome(True, ["a"], ["b", "c"], {"answer": 42}, ["a note"], ["careful"])
    finish(module, lambda: outcome, "things")
    assert module.result["changed"]
    assert module.result["answer"] == 42
    assert module.warnings == ["careful"]
    lines, note = module.result["diff"]
    assert (lines["before"], lines["after"]) == ("a\n", "b\nc\n")
    assert note == {"prepared": "a note\n"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError(["first mistake", "second mistake"]), "first mistake\nsecond mistake"),
        (OSError(28, "No space left on device"), "the system refuses: [Errno 28] No space left"),
        (KeyError("oops"), "unexpected KeyError: 'oops'"),
    ],
)
def test_error_becomes_a_failure_with_its_text(error: Exception, text: str) -> None:
    def work() -> Outcome:
        raise error

    module = Module()
    finish(module, work, "things")
    assert module.result["failed"]
    assert module.result["msg"].startswith(text)


def test_dry_run_says_what_a_host_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_links, "IMPORT_ERROR", None)
    assert lacking(_links.require_libraries) == ""
    monkeypatch.setattr(_links, "IMPORT_ERROR", "No module named 'pyroute2'")
    assert "python3-pyroute2" in lacking(_links.require_libraries)
