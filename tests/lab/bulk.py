# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full segments both ways: a real server that sends back what it is sent, and a client of it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import inside
import network
from common import LabError, wait_for
from topology import HOSTS

PORT = 8080
UNIT = "lab-bulk.service"
SIZE = 500_000
PATIENCE = 20.0  # seconds
SERVER = f"""
import socket, socketserver
class Back(socketserver.BaseRequestHandler):
    def handle(self):
        data = b""
        while len(data) < {SIZE} and (part := self.request.recv(65536)):
            data += part
        self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
Server(("::", {PORT}), Back).serve_forever()
"""


def start(host: str) -> None:
    stop(host)
    unit = f"--unit={UNIT}", "--collect", "--quiet"
    inside.do(host, "systemd-run", *unit, "/usr/bin/python3", "-c", SERVER)
    listening = f":{PORT}"
    wait_for(
        lambda: listening in inside.ask(host, "ss", "--listening", "--tcp", "--numeric"),
        30,
        f"{host} does not listen on {PORT}",
    )


def stop(host: str) -> None:
    with suppress(LabError):
        inside.do(host, "systemctl", "stop", UNIT)


def there_and_back(address: str) -> str:
    """Empty when all came back as it was sent; else what happened."""
    data = os.urandom(SIZE)
    came = b""
    client = HOSTS["client"]
    # Its own address, to which the way is narrow: the load has given it others.
    source = client.address6 if ":" in address else client.address4, 0
    try:
        with (
            network.inside(client.namespace),
            socket.create_connection((address, PORT), PATIENCE, source) as connection,
        ):
            connection.sendall(data)
            while len(came) < SIZE and (part := connection.recv(65536)):
                came += part
    except OSError as error:
        return f"{address}: {error or type(error).__name__} after {len(came)} bytes back"
    return "" if came == data else f"{address}: {len(came)} bytes came back, not those sent"
