# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web server of the agent, asked over loopback."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from l4lb_agent.metrics import Collector
from l4lb_agent.web import ServeError, Server, serve

from .fake_status import status

Ask = Callable[..., tuple[int, str]]

NOT_TOLD = {"state": "withdrawn", "wanted": "withdrawn", "since": 0, "reasons": ["told to"]}


class Served:
    """A server and the status it tells, which a test may change."""

    def __init__(self, listen: str) -> None:
        self.status: dict[str, Any] = status()
        collector = Collector(lambda: self.status, lambda: None)
        server = serve(listen, collector, lambda: self.status)
        assert server
        self.server: Server = server
        self.address = listen.rpartition(":")[0].strip("[]")

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = HTTPConnection(self.address, self.server.port, timeout=10)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    made = Served(request.param)
    yield made
    made.server.close()


def test_metrics_are_served_without_maps(served: Served) -> None:
    code, text = served.ask("/metrics")
    assert code == 200
    assert "\nl4lb_maps_readable 0.0\n" in text
    assert '\nl4lb_pool_healthy_backends{pool="api"} 1.0\n' in text
    assert "\nprocess_cpu_seconds_total" in text


def test_ready_while_something_is_announced(served: Served) -> None:
    assert served.ask("/ready") == (200, "announces 2 of 3 addresses\n")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"age": 7}, "the agent has not gone round for 7 s\n"),
        (
            {"addresses": {"203.0.113.10": {"announced": False, "reasons": ["x"]}}},
            "announces nothing: no service's gate holds\n",
        ),
        (
            {"addresses": {}, "node": NOT_TOLD},
            "announces nothing: told to\n",
        ),
    ],
)
def test_not_ready_and_why(served: Served, changes: dict[str, Any], why: str) -> None:
    served.status = status(**changes)
    assert served.ask("/ready") == (503, why)


def test_before_the_first_turn(served: Served) -> None:
    served.status = {}
    assert served.ask("/ready") == (503, "the agent has not gone round yet\n")
    assert served.ask("/metrics")[0] == 200
    assert served.ask("/status") == (200, "{}\n")


def test_status_is_the_agents(served: Served) -> None:
    code, text = served.ask("/status")
    assert (code, json.loads(text)) == (200, served.status)


def test_nothing_else(served: Served) -> None:
    assert served.ask("/")[0] == 404
    assert served.ask("/ready", "POST")[0] == 405


def test_client_that_says_nothing_keeps_nobody_waiting(served: Served) -> None:
    with socket.create_connection((served.address, served.server.port)):
        assert served.ask("/ready")[0] == 200


def test_place_that_is_taken_is_named_with_the_remedy(served: Served) -> None:
    host = f"[{served.address}]" if ":" in served.address else served.address
    listen = f"{host}:{served.server.port}"
    with pytest.raises(ServeError, match=r"in use.*`listen`") as raised:
        serve(listen, Collector(dict, lambda: None), dict)
    assert listen in str(raised.value)


@pytest.mark.parametrize("listen", ["9474", "::1:9474", "127.0.0.1", "127.0.0.1:http", "[::1]"])
def test_place_that_is_none(listen: str) -> None:
    with pytest.raises(ServeError, match="write address:port"):
        serve(listen, Collector(dict, lambda: None), dict)


def test_off() -> None:
    assert serve("", Collector(dict, lambda: None), dict) is None
