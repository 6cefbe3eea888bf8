# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""l4lb trace: packets as they come, by the command itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import TCP

from l4lb_agent.cli.main import USAGE, WELL, main

from .flows import A, syn
from .node import CLIENT4, SOURCE, VIP4, Node, from_client


@contextmanager
def traffic(node: Node) -> Iterator[None]:
    """A packet of a service and one of none, again and again."""
    ended = threading.Event()

    def send() -> None:
        while not ended.is_set():
            node.run(syn(20000))
            node.run(from_client(TCP(sport=20000, dport=81, flags="S")))
            time.sleep(0.01)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def trace(node: Node, *arguments: str) -> int:
    places = ["--pins", str(node.pins), "--source", str(SOURCE), "--run-dir", str(Path("/nowhere"))]
    return main(["trace", *places, *arguments])


def test_an_event_a_line(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.serve(A)
    with traffic(node):
        assert trace(node, "--count", "2", "--seconds", "20", "--service", "tcp0") == WELL
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert f"sent             tcp {CLIENT4}:20000 -> {VIP4}:80  tcp0 -> {A}  slot " in line


def test_drops_alone_as_json(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.serve(A)
    with traffic(node):
        assert trace(node, "--drops", "--count", "1", "--seconds", "20", "--json") == WELL
    event = json.loads(capsys.readouterr().out)
    assert (event["verdict"], event["destination_port"]) == ("drop_unserved", 81)
    assert (event["service"], event["backend"]) == (None, None)


def test_filter_that_cannot_be_is_wrong_usage(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.serve(A)
    assert trace(node, "--service", "nope") == USAGE
    assert "'nope' is not on this node" in capsys.readouterr().err


def test_ends_after_its_seconds_without_a_packet(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.serve(A)
    assert trace(node, "--seconds", "0.2") == WELL
    assert capsys.readouterr().out == ""
