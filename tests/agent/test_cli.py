# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command l4lb, as far as it needs no kernel: what it says, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from l4lb_agent.cli import explain, main, output, top
from l4lb_agent.counters import Counted, Reading, Traffic

from .fake_status import TOO_FEW, written

PATHS = ":".join(path for path in sys.path if path)
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def l4lb(tmp_path: Path) -> Run:
    """Runs the command as a program, on a node without maps; standard output is a pipe."""

    def run(command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        places = ("pins", "state-dir", "run-dir")
        options = [word for name in places for word in (f"--{name}", str(tmp_path / name))]
        source = str(Path(__file__).parents[2] / "bpf")
        words = [sys.executable, "-m", "l4lb_agent.cli", command, *options, "--source", source]
        return subprocess.run(
            [*words, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": PATHS, **environment},
            check=False,
        )

    return run


def well() -> dict[str, Any]:
    """What makes the fake status one without a fault."""
    address = {"203.0.113.10": {"announced": True, "reasons": []}}
    return {"services": [], "addresses": address, "backends": []}


def test_status_says_what_is_wrong(l4lb: Run, tmp_path: Path) -> None:
    written(tmp_path / "run-dir")
    ran = l4lb("status")
    assert ran.returncode == main.WRONG
    assert "announcing" in ran.stdout
    assert "2 of 3 addresses announced" in ran.stdout
    assert TOO_FEW in ran.stdout
    assert "connection refused" in ran.stdout
    assert "\x1b" not in ran.stdout, "colours in a pipe"
    assert ran.stderr == ""


def test_status_of_a_node_without_a_fault(l4lb: Run, tmp_path: Path) -> None:
    written(tmp_path / "run-dir", **well())
    assert l4lb("status").returncode == main.WELL


@pytest.mark.parametrize("command", ["status", "services", "backends"])
def test_json_is_json(l4lb: Run, tmp_path: Path, command: str) -> None:
    written(tmp_path / "run-dir")
    ran = l4lb(command, "--json")
    assert ran.returncode == main.WRONG
    assert json.loads(ran.stdout)


def test_status_loads_no_bcc(tmp_path: Path) -> None:
    """It is what one types first, and it takes a fifth of a second."""
    written(tmp_path, **well())
    code = (
        "import sys; from l4lb_agent.cli.main import main;"
        f"assert main(['status', '--run-dir', {str(tmp_path)!r}]) == 0;"
        "assert 'bcc' not in sys.modules and 'pyroute2' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": PATHS}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()


def test_silent_agent_is_not_believed(l4lb: Run, tmp_path: Path) -> None:
    written(tmp_path / "run-dir", age=40, **well())
    ran = l4lb("status")
    assert ran.returncode == main.ABSENT
    assert "has said nothing for 4" in ran.stdout
    assert "The kernel: no balancer is prepared on this node" in ran.stdout


def test_no_agent_and_no_maps(l4lb: Run) -> None:
    ran = l4lb("status")
    assert ran.returncode == main.ABSENT
    assert "no agent has said anything since boot" in ran.stdout
    for command in ("services", "backends", "top", "trace"):
        ran = l4lb(command)
        assert ran.returncode == main.ABSENT, command
        assert "no balancer is prepared on this node" in ran.stderr
        assert "Traceback" not in ran.stderr


def test_services_without_maps_have_no_counters(l4lb: Run, tmp_path: Path) -> None:
    written(tmp_path / "run-dir")
    ran = l4lb("services", "web", "--json")
    (web,) = json.loads(ran.stdout)
    assert (web["announced"], web["reasons"], web["packets"]) == (True, [], None)
    assert "no counters: no balancer is prepared" in ran.stderr


def test_name_that_is_not_there_is_a_mistake(l4lb: Run, tmp_path: Path) -> None:
    written(tmp_path / "run-dir")
    assert l4lb("services", "nope").returncode == main.USAGE
    assert l4lb("backends", "192.0.2.99").returncode == main.USAGE


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "tcp", "198.51.100.2", "203.0.113.10:80"],
        ["explain", "tcp", "198.51.100.2:x", "203.0.113.10:80"],
        ["explain", "udp", "[2001:db8::1]:1", "203.0.113.10:80"],
        ["top", "--interval", "0"],
        ["top", "--count", "none"],
        ["nothing"],
    ],
)
def test_wrong_usage_ends_with_two_and_no_traceback(l4lb: Run, arguments: list[str]) -> None:
    ran = l4lb(*arguments)
    assert ran.returncode == main.USAGE
    assert "Traceback" not in ran.stderr


def test_not_root_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main.main(["top", "--pins", str(tmp_path)]) == main.ABSENT
    assert "run l4lb as root" in capsys.readouterr().err


def test_places() -> None:
    assert explain._place("SOURCE", "192.0.2.1:80") == ("192.0.2.1", 80)
    assert explain._place("SOURCE", "[2001:db8::1]:80") == ("2001:db8::1", 80)
    assert explain._place("SOURCE", "2001:db8::1") == ("2001:db8::1", None)
    assert explain._place("SOURCE", "192.0.2.1") == ("192.0.2.1", None)


def test_names_are_completed(tmp_path: Path) -> None:
    """As a shell asks: by environment, and by file descriptor 8."""
    applied = {
        "pools": {"web": {"backends": [{"address": "192.0.2.71"}]}, "api": {"backends": []}},
        "services": [{"name": "web4"}, {"name": "web6"}, {"name": "api"}],
    }
    (tmp_path / "services.json").write_text(json.dumps(applied))
    assert _completed(f"l4lb services --state-dir {tmp_path} we") == ["web4", "web6"]
    assert _completed(f"l4lb top --state-dir {tmp_path} --pool ") == ["api", "web"]
    assert _completed(f"l4lb backends --state-dir {tmp_path} 1") == ["192.0.2.71"]
    assert _completed("l4lb sta") == ["status"]
    assert _completed(f"l4lb services --state-dir {tmp_path}/gone w") == []


def _completed(line: str) -> list[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": PATHS,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = ["bash", "-c", f"{sys.executable} -m l4lb_agent.cli 8>&1 >/dev/null 2>&1"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return sorted(word for word in ran.stdout.split("\n") if word and not word.startswith("-"))


def test_rates_between_two_readings() -> None:
    """A counter that began anew counts from nothing."""
    services = {"new": Traffic(3, 300)}
    before = Counted({"sent": Traffic(10, 1000)}, {}, {("web", "a"): Traffic(100, 10_000)})
    after = Counted({"sent": Traffic(30, 3000)}, services, {("web", "a"): Traffic(4, 400)})
    found = top.rates(_reading(5.0, before), _reading(7.0, after))
    assert found["seconds"] == 2
    assert found["verdicts"]["sent"] == {"packets_per_second": 10, "bits_per_second": 8000}
    assert found["services"][0]["packets_per_second"] == 1.5
    assert found["backends"][0]["bits_per_second"] == 1600


def _reading(at: float, counted: Counted) -> Reading:
    from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
        Actual,
        BackendEntry,
        ServiceEntry,
        ServiceKey,
    )
    from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes

    services = {
        ServiceKey("203.0.113.10", i, "tcp"): ServiceEntry(i, 0, name)
        for i, name in enumerate(counted.services)
    }
    backends = {key: BackendEntry(0, key[1], 100, "active") for key in counted.backends}
    return Reading(at, Actual({}, {}, {}, Sizes()), services, backends, counted)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (7, "7"),
        (12.34, "12.3"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (1234, "1.23 k"),
        (56_789_000, "56.8 M"),
    ],
)
def test_rates_in_three_digits(value: float, text: str) -> None:
    assert output.rate(value) == text
