# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease: withdraws this node when its agent has been silent for too long.

python3 -m l4lb_agent.lease [OPTIONS_FILE]

A process of its own, so that it works when the agent hangs. It knows nothing of maps and packets:
what the node forwards it forwards still. A clock that is set does not end the lease: what counts is
how long the file was seen unchanged.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from l4lb_agent.announcer import FILE as ANNOUNCE_FILE
from l4lb_agent.announcer import AnnounceError, Announcer, BirdDown, Silenced

FILE = "lease"
POLL = 0.5
RETRY = 2.0
"""Seconds until peers, or a BIRD that did not listen, are asked again."""
PEER_TIMEOUT = 2.0
OPTIONS = Path("/etc/l4lb/agent.json")

_NOTICE, _WARNING = "<5>", "<4>"


class LeaseError(L4lbError):
    """The options are not what this needs."""


def renew(run_dir: Path) -> None:
    """What the agent does at every turn: from now on the lease lasts its whole time again."""
    path = run_dir / FILE
    try:
        os.utime(path)
    except FileNotFoundError:
        path.touch(mode=0o644)


@dataclass(frozen=True)
class Terms:
    """Of the agent's options, what counts here. lease: seconds. peers: URLs of nodes' /ready."""

    run_dir: Path = Path("/run/l4lb/agent")
    bird_config: Path = Path("/etc/bird/bird.conf")
    bird_socket: Path = Path("/run/bird/bird.ctl")
    lease: float = 30
    peers: tuple[str, ...] = ()


def read(path: Path) -> Terms:
    """The options; keys of others are not looked at. Raises LeaseError."""
    usual = Terms()
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        return Terms(
            Path(given.get("run_dir", usual.run_dir)),
            Path(given.get("bird_config", usual.bird_config)),
            Path(given.get("bird_socket", usual.bird_socket)),
            float(given.get("lease", usual.lease)),
            tuple(str(peer) for peer in given.get("peers", ())),
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise LeaseError(
            f"cannot use {path} ({error}): the role l4lb.xdp.agent writes it"
        ) from error


def first_ready(peers: Sequence[str]) -> str | None:
    """The first of these URLs that answers 200; None when none does."""
    for url in peers:
        try:
            with urllib.request.urlopen(url, timeout=PEER_TIMEOUT) as answer:  # noqa: S310
                if answer.status == 200:
                    return url
        except (OSError, ValueError, http.client.HTTPException):
            # refused, late, another status, no URL, no HTTP
            continue
    return None


def say(priority: str, text: str) -> None:
    """A line for the journal."""
    print(f"{priority}{text}", flush=True)


@dataclass
class Watch:
    """One lease. withdrawn: it has ended, and BIRD was told."""

    terms: Terms
    announcer: Announcer
    clock: Callable[[], float] = time.monotonic
    say: Callable[[str, str], None] = say
    withdrawn: bool = False
    _renewed: Any = None
    _since: float | None = None
    _asked: float | None = None
    _told: set[str] = field(default_factory=set)
    _going: frozenset[str] = frozenset()  # announced when the lease ended

    def look(self) -> None:
        """One look, twice a second: withdraws when the time is over, and only once."""
        now, renewed = self.clock(), self._stamp()
        if renewed != self._renewed or self._since is None:
            if self.withdrawn:
                self.say(_NOTICE, "the agent renews its lease again: it announces what it proves")
            self._renewed, self._since, self._asked = renewed, now, None
            self.withdrawn, self._going = False, frozenset()
            self._told.clear()
            return
        if self.withdrawn or now - self._since < self.terms.lease:
            return
        if self._asked is None or now - self._asked >= RETRY:
            self._asked = now
            self._withdraw(now - self._since)

    def _stamp(self) -> Any:
        try:
            seen = os.stat(self.terms.run_dir / FILE)
        except OSError:
            return None
        return seen.st_ino, seen.st_mtime_ns

    def _withdraw(self, silent: float) -> None:
        peer = first_ready(self.terms.peers)
        if self.terms.peers and peer is None:
            self.tell(
                "no other node announces (peers), so this one stays announced, though its agent "
                "is silent"
            )
            return
        other = f"; {peer} announces" if peer else ""
        self._going |= self.announcer.current()[0]
        try:
            self.announcer.announce((), draining=False)
        except (BirdDown, Silenced) as error:
            self.tell(str(error))  # nothing is announced, nor when BIRD starts or is configured
        except AnnounceError as error:
            self.tell(str(error))
            return
        self.withdrawn = True
        if self._going:
            self.say(
                _WARNING,
                f"the agent has been silent for {silent:.0f} s: {len(self._going)} addresses "
                f"withdrawn, packets are forwarded still{other}; look at l4lb-agent.service",
            )

    def tell(self, text: str) -> None:
        """Each text once, until the agent is back."""
        if text not in self._told:
            self._told.add(text)
            self.say(_WARNING, text)


def main() -> int:
    try:
        terms = read(Path(sys.argv[1]) if len(sys.argv) > 1 else OPTIONS)
    except LeaseError as error:
        say("<3>", str(error))
        return 1
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_args: ended.set())
    announcer = Announcer(terms.run_dir / ANNOUNCE_FILE, terms.bird_config, terms.bird_socket)
    watch = Watch(terms, announcer)
    say(_NOTICE, f"withdraws when {terms.run_dir / FILE} is not renewed for {terms.lease:g} s")
    while not ended.wait(POLL):
        try:
            watch.look()
        except OSError as error:  # a full or read-only file system ...
            watch.tell(f"{error}; tried again")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
