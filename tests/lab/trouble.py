# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Constant load from the client (load.py), and the troubles it has had so far."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import client
import network
from common import LabError, wait_for
from load import GAP, LONG
from pyroute2 import NetlinkError
from topology import HOSTS, SEGMENTS, of_kind

PROGRAM = Path(__file__).resolve().parent / "load.py"
TROUBLES = ("broken", "gap", "refused", "lost")
SILENT = 5.0  # seconds without a beat after which the generator is not alive
# The load's own scheduling is to be no trouble of the fleet's.
PRIORITY = "-5"


@dataclass
class Load:
    """What the generator has said; times are of CLOCK_MONOTONIC."""

    events: list[dict] = field(default_factory=list)
    beats: list[dict] = field(default_factory=list)
    say: Callable[[str], None] = print

    def hear(self, line: str) -> None:
        event = json.loads(line)
        (self.beats if event["kind"] == "beat" else self.events).append(event)

    def said(self, begin: float, end: float, kind: str) -> list[dict]:
        """What was said of a kind in a time."""
        events = list(self.events)
        return [each for each in events if each["kind"] == kind and begin <= each["at"] < end]

    def troubles(self, begin: float, end: float, *kinds: str) -> list[dict]:
        """Troubles of a time, of these kinds or of all."""
        found = []
        for kind in kinds or TROUBLES:
            found += self.gaps(begin, end) if kind == "gap" else self.said(begin, end, kind)
        return found

    def gaps(self, begin: float, end: float) -> list[dict]:
        """Gaps of a time, less what answers took in the same moments without a node between."""
        late = self.said(begin - SILENT, end + SILENT, "late")
        found = []
        for gap in self.said(begin, end, "gap"):
            since, until = gap["at"] - gap["seconds"], gap["at"]
            same = [e["seconds"] for e in late if since < e["at"] < until + e["seconds"]]
            seconds = gap["seconds"] - max(same, default=0.0)
            if seconds > GAP:
                found.append({**gap, "seconds": seconds})
        return found

    def servers(self, at: float) -> dict[int, str]:
        """Who was answering on each long connection at a time."""
        alive: dict[int, str] = {}
        for event in list(self.events):
            if event["at"] < at and event["kind"] == "opened":
                alive[event["id"]] = event["server"]
            elif event["at"] < at and event["kind"] in ("broken", "left"):
                alive.pop(event["id"], None)
        return alive

    def sent(self, begin: float, end: float, what: str) -> int:
        """How many short connections or datagrams went out in a time, to the nearest beat."""
        sums = [beat[what] for beat in list(self.beats) if begin - 0.5 <= beat["at"] <= end + 0.5]
        return sums[-1] - sums[0] if sums else 0

    def answers(self, begin: float, end: float) -> Counter[str]:
        """Who answered short connections in a time, to the nearest beat within it."""
        sums = [beat["answers"] for beat in list(self.beats) if begin <= beat["at"] <= end]
        return Counter(sums[-1]) - Counter(sums[0]) if sums else Counter()

    def took(self, begin: float, end: float) -> float:
        """Milliseconds: the median over a time's beats of their median answer."""
        medians = [beat["took"][0] for beat in list(self.beats) if begin <= beat["at"] <= end]
        return median(medians) if medians else 0.0

    def leave(self, server: str) -> None:
        """Have the client close its long connections on a server."""
        self.say(f"leave {server}\n")

    def refused(self, begin: float, end: float) -> tuple[int, int]:
        """Short connections of a time that failed, and how many were begun."""
        return len(self.troubles(begin, end, "refused")), self.sent(begin, end, "short")

    def lost(self, begin: float, end: float) -> tuple[int, int]:
        """Datagrams of a time that got no answer, and how many were sent."""
        return len(self.troubles(begin, end, "lost")), self.sent(begin, end, "datagrams")

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
    servers = of_kind("real_server")
    direct = [
        f"http://{address}/"
        for each in servers
        for address in (each.address4, f"[{each.address6}]")
    ]
    load_command = client.command(*options, "--direct", ",".join(direct), *urls, script=PROGRAM)
    command = ["nice", f"--adjustment={PRIORITY}", *load_command]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:

        def tell(line: str) -> None:
            if process.stdin:
                process.stdin.write(line)
                process.stdin.flush()

        load.say = tell

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
