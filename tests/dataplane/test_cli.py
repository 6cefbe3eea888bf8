# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command l4lb on a node with maps and traffic."""

from __future__ import annotations

import json
import os
import pty
import selectors
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from l4lb_agent.cli.main import ABSENT, WELL, WRONG, main
from tests.agent.fake_status import written

from .flows import A, B, syn
from .node import CLIENT4, SOURCE, VIP4, Node

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def l4lb(node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, output and what was said besides."""

    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        places = ["--pins", str(node.pins), "--source", str(SOURCE), "--run-dir", str(tmp_path)]
        status = main([command, *places, *arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_services_with_traffic_and_what_the_agent_says(
    node: Node, l4lb: Run, tmp_path: Path
) -> None:
    node.serve(A)
    written(
        tmp_path,
        services=[{"name": "tcp0", "reasons": []}],
        addresses={VIP4: {"announced": True, "reasons": []}},
    )
    node.backend_of(syn(20000))
    status, text, _any = l4lb("services", "tcp0", "--json")
    (service,) = json.loads(text)
    assert status == WELL
    assert (service["packets"], service["announced"], service["reasons"]) == (1, True, [])


def test_backends_are_the_kernels_where_no_agent_is(node: Node, l4lb: Run) -> None:
    node.serve(A, {"address": B, "state": "draining"})
    status, text, said = l4lb("backends", "--json")
    assert status == ABSENT
    assert "no agent" in said
    assert [(b["address"], b["state"], b["health"]) for b in json.loads(text)] == [
        (A, "active", "up"),
        (B, "draining", "up"),
    ]


def test_status_without_an_agent_tells_what_the_kernel_goes_on_with(node: Node, l4lb: Run) -> None:
    node.serve(A, B)
    status, text, _any = l4lb("status")
    assert status == ABSENT
    assert "4 services, 1 pools, 2 of 2 backends get new flows" in text


def test_top_counts_an_interval(node: Node, l4lb: Run) -> None:
    node.serve(A)
    status, text, _any = l4lb("top", "--once", "--interval", "0.1", "--json")
    found = json.loads(text)
    assert status == WELL
    assert {row["name"] for row in found["services"]} == {"tcp0", "tcp1", "udp0", "udp1"}
    assert found["backends"][0]["address"] == A
    assert found["verdicts"]["sent"] == {"packets_per_second": 0, "bits_per_second": 0}


def test_explain_says_the_way_and_ends_by_the_verdict(node: Node, l4lb: Run) -> None:
    node.serve(A)
    ends = f"{CLIENT4}:4000", f"{VIP4}:80"
    status, text, _any = l4lb("explain", "--interface", "eth0", "tcp", *ends)
    assert status == WELL
    assert f"=> sent to {A}" in text
    status, text, _any = l4lb("explain", "tcp", f"{CLIENT4}:4000", f"{VIP4}:81", "--json")
    assert status == WRONG
    assert json.loads(text)["verdict"] == "drop_unserved"


def test_top_is_live_until_q_and_leaves_the_terminal_as_it_was(node: Node, tmp_path: Path) -> None:
    node.serve(A)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 120))
    before = termios.tcgetattr(theirs)
    places = ["--pins", str(node.pins), "--source", str(SOURCE), "--run-dir", str(tmp_path)]
    top = subprocess.Popen(
        [sys.executable, "-m", "l4lb_agent.cli", "top", "--interval", "0.2", *places],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "TERM": "xterm"},
    )
    try:
        shown = _shown(ours, "dropped a second")
        assert A in shown
        assert top.poll() is None
        os.write(ours, b"xq")
        assert _shown(ours, "\x1b[?1049l")  # back from the alternate screen
        assert top.wait(20) == WELL
        assert termios.tcgetattr(theirs) == before
    finally:
        top.kill()
        top.wait()
        os.close(ours)
        os.close(theirs)


def _shown(terminal: int, text: str) -> str:
    """What the terminal shows until that comes."""
    shown, until = "", time.monotonic() + 30
    with selectors.DefaultSelector() as ready:
        ready.register(terminal, selectors.EVENT_READ)
        while text not in shown:
            left = until - time.monotonic()
            assert left > 0, f"{text!r} does not come: {shown[-500:]}"
            if ready.select(left):
                shown += os.read(terminal, 65536).decode(errors="replace")
    return shown
