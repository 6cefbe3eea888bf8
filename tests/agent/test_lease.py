# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the lease ends, and what it waits for. With a BIRD: test_announce_bird.py."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from l4lb_agent import lease
from l4lb_agent.announcer import Announcer, render
from l4lb_agent.lease import LeaseError, Terms, Watch

from .playing import ROOT


class Bench:
    """A lease of 30 seconds by a clock of our own, and a BIRD that does not run."""

    def __init__(self, directory: Path, **terms: object) -> None:
        self.now = 1000.0
        self.said: list[str] = []
        self.terms = Terms(directory, lease=30, **terms)  # type: ignore[arg-type]
        config = directory / "bird.conf"
        config.write_text(
            "router id 192.0.2.11; ipv4 table announce4; ipv6 table announce6; protocol device {}"
        )
        self.announcer = Announcer(directory / "announce.conf", config, directory / "bird.ctl")
        self.announcer.path.write_text(render({"203.0.113.10"}, draining=False))
        self.watch = Watch(
            self.terms, self.announcer, lambda: self.now, lambda _word, text: self.said.append(text)
        )

    def renew(self) -> None:
        lease.renew(self.terms.run_dir)

    def look(self, seconds: float) -> bool:
        """A look after that time; whether addresses are announced then."""
        self.now += seconds
        self.watch.look()
        return bool(self.announcer.current()[0])


def test_lease_ends_when_it_was_not_renewed_for_its_whole_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.renew()
    assert bench.look(0)
    assert bench.look(29.9)
    bench.renew()
    assert bench.look(29.9)
    assert bench.look(29.9)
    assert not bench.look(0.1)
    assert bench.watch.withdrawn
    assert "silent for 30 s: 1 addresses withdrawn" in bench.said[-1]


def test_after_it_withdrew_it_is_quiet_until_the_agent_is_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.look(0)
    assert not bench.look(30)
    said = list(bench.said)
    for _look in range(5):
        bench.look(100)
    assert bench.said == said
    bench.renew()
    bench.announcer.path.write_text(render({"203.0.113.10"}, draining=False))
    assert bench.look(1)
    assert bench.said[len(said) :] == [
        "the agent renews its lease again: it announces what it proves"
    ]
    assert not bench.look(30)


def test_agent_that_never_came_up_does_not_keep_what_was_announced(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.look(0)
    assert bench.look(29)
    assert not bench.look(1)


def test_old_file_counts_from_when_it_was_first_seen(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.renew()
    file = tmp_path / lease.FILE
    os.utime(file, (0, 0))
    assert bench.look(0)
    assert bench.look(29)


def test_renewing_is_seen_however_quick_it_is(tmp_path: Path) -> None:
    lease.renew(tmp_path)
    before = (tmp_path / lease.FILE).stat().st_mtime_ns
    lease.renew(tmp_path)
    assert (tmp_path / lease.FILE).stat().st_mtime_ns >= before


# --- peers ---


@pytest.fixture
def peer() -> Iterator[HTTPServer]:
    """Another node's /ready; `status` is what it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.status = 503  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_last_node_that_announces_stays(tmp_path: Path, peer: HTTPServer) -> None:
    ready = f"http://127.0.0.1:{peer.server_port}/ready"
    bench = Bench(tmp_path, peers=("http://127.0.0.1:1/ready", ready, "no URL"))
    bench.look(0)
    assert bench.look(30)
    assert bench.look(30)
    assert len(bench.said) == 1
    assert bench.said[0].startswith("no other node announces (peers), so this one stays")
    peer.status = 200  # type: ignore[attr-defined]
    assert not bench.look(lease.RETRY)
    assert f"{ready} announces" in bench.said[-1]


def test_peer_that_speaks_no_http_is_not_ready_and_ends_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        thread = threading.Thread(target=_greet, args=(stranger,))
        thread.start()
        bench = Bench(tmp_path, peers=(f"http://127.0.0.1:{stranger.getsockname()[1]}/ready",))
        bench.look(0)
        assert bench.look(30)
        thread.join()
    assert bench.said[0].startswith("no other node announces (peers), so this one stays")


def _greet(server: socket.socket) -> None:
    with server.accept()[0] as connection:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        connection.recv(4096)


# --- options ---


def test_options_of_other_parts_are_not_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"lease": 7, "run_dir": "/x", "hold": "?", "peers": ["http://a"]}))
    assert lease.read(file) == Terms(Path("/x"), lease=7, peers=("http://a",))


@pytest.mark.parametrize("content", ["", "[]", '{"lease": "soon"}', '{"run_dir": 1}'])
def test_options_that_are_none_are_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "agent.json"
    file.write_text(content)
    with pytest.raises(LeaseError, match=r"agent\.json"):
        lease.read(file)


def test_it_needs_no_bpf_library() -> None:
    code = (
        "import sys, l4lb_agent.lease; sys.exit('bcc' in sys.modules or 'pyroute2' in sys.modules)"
    )
    path = f"{ROOT}/.venv/collections:{ROOT}/roles/agent/files"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path})
