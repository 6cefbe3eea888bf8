# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's web server: /metrics for Prometheus, /ready and /status for everyone else.

It has threads of its own and answers while the agent's loop hangs: what it says is then old, and
/ready says no.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from ansible_collections.l4lb.xdp.plugins.module_utils import _agent_status
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

Status = Callable[[], Mapping[str, Any]]


class ServeError(L4lbError):
    """Nobody can be served there."""


class Server:
    """A running server; `port` is the one it has, also where any was asked for (0)."""

    def __init__(self, server: ThreadingWSGIServer) -> None:
        self._server = server
        self.port = int(server.server_port)
        self._thread = threading.Thread(target=server.serve_forever, name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(listen: str, collector: Collector, status: Status) -> Server | None:
    """Serves in the background; None when listen is empty. listen: "127.0.0.1:9474", "[::1]:9474".

    Raises ServeError when the place is taken or not this node's.
    """
    if not listen:
        return None
    address, port = _place(listen)
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    app = application(make_wsgi_app(registry), status)
    try:
        return Server(make_server(address, port, app, _server(address), _Handler))
    except OSError as error:
        raise ServeError(
            f"cannot listen on {listen} ({error.strerror}): set another `listen` in the agent's "
            'options (l4lb_agent_listen), "" for none, or end what listens there'
        ) from error


def _place(listen: str) -> tuple[str, int]:
    address, _colon, port = listen.rpartition(":")
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if not bare or (":" in bare) != (bare != address) or not port.isdecimal() or int(port) > 65535:
        raise ServeError(
            f"cannot listen on {listen!r}: write address:port, as in 127.0.0.1:9474, [::1]:9474 or "
            "0.0.0.0:9474 (the option `listen`)"
        )
    return bare, int(port)


def _server(address: str) -> type[ThreadingWSGIServer]:
    class Chosen(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    return Chosen


class _Handler(WSGIRequestHandler):
    """Quiet, and does not wait for ever for a client that says nothing."""

    timeout = 10

    def log_message(self, *_args: Any) -> None:
        pass

    def address_string(self) -> str:  # the usual one asks the name server
        return str(self.client_address[0])


def application(metrics: Callable[..., Iterable[bytes]], status: Status) -> Callable[..., Any]:
    """The WSGI application."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _text(start, "405 Method Not Allowed", "only GET\n")
        if path == "/metrics":
            return metrics(environ, start)
        if path == "/ready":
            code, text = ready(status())
            return _text(start, code, text)
        if path == "/status":
            body = json.dumps(status()) + "\n"
            return _text(start, "200 OK", body, "application/json")
        return _text(start, "404 Not Found", "there are /metrics, /ready and /status\n")

    return answer


def ready(status: Mapping[str, Any]) -> tuple[str, str]:
    """Whether the node announces something, by an agent that is at work; and why not."""
    if not status:
        return _NOT_READY, "the agent has not gone round yet\n"
    age = _agent_status.age(dict(status))
    if age >= _agent_status.FRESH:
        return _NOT_READY, f"the agent has not gone round for {age:.0f} s\n"
    addresses = status["addresses"]
    announced = [address for address, each in addresses.items() if each["announced"]]
    if announced:
        return "200 OK", f"announces {len(announced)} of {len(addresses)} addresses\n"
    reasons = status["node"]["reasons"] or ["no service's gate holds"]
    return _NOT_READY, "announces nothing: " + "; ".join(reasons) + "\n"


_NOT_READY = "503 Service Unavailable"


def _text(
    start: Callable[..., Any], status: str, body: str, kind: str = "text/plain; charset=utf-8"
) -> list[bytes]:
    data = body.encode()
    start(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
    return [data]
