# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that visits one service again and again until the router knows it no longer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import network
from common import wait_for
from routes import nodes_for
from topology import HOSTS

PATIENCE = 3.0  # seconds; a SYN that is lost is sent again after one
PAUSE = 0.01
ON_ITS_WAY = 0.2  # seconds that a packet may need to where it meets its fate


@dataclass
class Visits:
    """answered: connections that stood; failures: when the others began; gone: when the route went.

    Times are of CLOCK_MONOTONIC.
    """

    address: str
    port: int
    answered: int = 0
    failures: list[float] = field(default_factory=list)
    gone: float | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def visit(self) -> None:
        with network.inside(HOSTS["client"].namespace):
            while not (self.over.wait(PAUSE) or self.gone):
                began = time.monotonic()
                try:
                    with socket.create_connection((self.address, self.port), timeout=PATIENCE):
                        self.answered += 1
                except OSError:
                    self.failures.append(began)

    def look(self) -> None:
        while not (self.over.wait(PAUSE) or self.gone):
            if not nodes_for(self.address):
                self.gone = time.monotonic()

    @property
    def failed(self) -> int:
        """Those that failed though the router still had a way for them."""
        end = self.gone or time.monotonic()
        return sum(began < end - ON_ITS_WAY for began in self.failures)

    def wait_for(self, count: int) -> None:
        least = self.answered + count
        wait_for(lambda: self.answered >= least, 60, f"no {count} visits were answered")


@contextmanager
def visiting(address: str, port: int) -> Iterator[Visits]:
    """Visit during the body."""
    visits = Visits(address, port)
    threads = [threading.Thread(target=each) for each in (visits.visit, visits.look)]
    for thread in threads:
        thread.start()
    try:
        yield visits
    finally:
        visits.over.set()
        for thread in threads:
            thread.join()
