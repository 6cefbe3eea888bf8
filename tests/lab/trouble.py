# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Constant load from the client (load.py), and the troubles it has had so far."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import client
import network
from common import LabError, wait_for
from load import LONG
from pyroute2 import NetlinkError
from topology import HOSTS, SEGMENTS

PROGRAM = Path(__file__).resolve().parent / "load.py"
TROUBLES = ("broken", "gap", "refused", "lost")
SILENT = 5.0  # seconds without a beat after which the generator is not alive


@dataclass
class Load:
    """What the generator has said; times are of CLOCK_MONOTONIC."""

    events: list[dict] = field(default_factory=list)
    beats: list[dict] = field(default_factory=list)

    def hear(self, line: str) -> None:
        event = json.loads(line)
        (self.beats if event["kind"] == "beat" else self.events).append(event)

    def troubles(self, begin: float, end: float, kind: str | None = None) -> list[dict]:
        """Troubles of a time, in the order they came."""
        return [
            event
            for event in list(self.events)
            if event["kind"] in TROUBLES
            and kind in (None, event["kind"])
            and begin <= event["at"] < end
        ]

    def servers(self, at: float) -> dict[int, str]:
        """Who was answering on each long connection at a time."""
        alive: dict[int, str] = {}
        for event in list(self.events):
            if event["at"] < at and event["kind"] == "opened":
                alive[event["id"]] = event["server"]
            elif event["at"] < at and event["kind"] == "broken":
                alive.pop(event["id"], None)
        return alive

    def sent(self, begin: float, end: float, what: str) -> int:
        """How many short connections or datagrams went out in a time, to the nearest beat."""
        sums = [beat[what] for beat in list(self.beats) if begin - 0.5 <= beat["at"] <= end + 0.5]
        return sums[-1] - sums[0] if sums else 0

    def is_calm(self, seconds: float, since: float = 0) -> bool:
        """Every connection open, and no trouble for a time that began after `since`."""
        now = time.monotonic()
        if not self.beats or now - self.beats[-1]["at"] > SILENT:
            return False
        begin = now - seconds
        return begin > since and self.beats[-1]["open"] == LONG and not self.troubles(begin, now)

    def wait_until_calm(self, quiet: float, seconds: float) -> None:
        since = time.monotonic()
        wait_for(lambda: self.is_calm(quiet, since), seconds, "the load is in trouble still")


@contextmanager
def addresses(number: int) -> Iterator[list[str]]:
    """Two addresses more for the client: a load of its own five-tuples, which no node has met."""
    found = [f"198.51.100.{8 + number}", f"2001:db8:3::{8 + number:x}"]
    lengths = SEGMENTS["client"].length4, SEGMENTS["client"].length6
    try:
        with network.inside(HOSTS["client"].namespace) as ipr:
            index = network.index_of(ipr, "eth0")
            for address, length in zip(found, lengths, strict=True):
                ipr.addr("replace", index=index, address=address, prefixlen=length)
        yield found
    finally:
        with network.inside(HOSTS["client"].namespace) as ipr, suppress(NetlinkError):
            for address, length in zip(found, lengths, strict=True):
                ipr.addr("del", index=index, address=address, prefixlen=length)


@contextmanager
def constant_load(urls: list[str], datagrams: str, sources: list[str]) -> Iterator[Load]:
    """Run the generator during the body."""
    load = Load()
    options = "--sources", ",".join(sources), "--datagrams", datagrams
    command = client.command(*options, *urls, script=PROGRAM)
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as process:

        def listen() -> None:
            for line in process.stdout or ():
                load.hear(line)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield load
        finally:
            process.terminate()
            listener.join()
    if not load.beats:
        raise LabError(f"the load said nothing: run {' '.join(command)} by hand")
