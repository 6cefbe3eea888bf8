# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What BIRD is told to announce: one file that its configuration includes, and `birdc configure`.

The file outlives this process, so that a BIRD that is started anew announces what was last decided.
Whoever writes it is either the agent or, when that is silent, the lease (lease.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils import _node_state
from ansible_collections.l4lb.xdp.plugins.module_utils._address import order
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

FILE = _node_state.ANNOUNCE_FILE
PROTOCOLS = {4: "announced4", 6: "announced6"}
"""The static protocols in the file."""
TABLES = {4: "announce4", 6: "announce6"}
"""Of bird.conf, theirs alone: the guard's routes are the same whatever is announced."""

GRACEFUL_SHUTDOWN = "(65535, 0)"
"""RFC 8326: whoever hears a route with it prefers any other."""

TIMEOUT = 2.0
"""Seconds that one call of BIRD's programs may take."""
RECHECK = 5.0
"""Seconds after which BIRD is asked again what it holds, though nothing was changed."""

_POLL = 0.02
_HELD = re.compile(r"^\d* *-?([0-9A-Fa-f.:]+)/(?:32|128) ", re.MULTILINE)
_CODE = re.compile(r"^(\d{4})[ -](.*)$", re.MULTILINE)
_NO_CONNECTION = "Unable to connect"
_NOBODY = tuple(os.strerror(number) for number in (errno.ENOENT, errno.ECONNREFUSED))
"""What birdc says when it finds no BIRD; it speaks no other language."""
_RECONFIGURED, _IN_PROGRESS = ("0003", "0018"), ("0004", "0005")


class AnnounceError(L4lbError):
    """BIRD did not take what it was told; what it announced before it announces still."""


class Silenced(AnnounceError):
    """BIRD cannot be configured, but it was to announce nothing, and that it does."""


class BirdDown(AnnounceError):
    """Nothing is announced, for BIRD does not run; it reads the file when it starts."""


def render(addresses: Collection[str], draining: bool) -> str:
    """The file. draining: with the community of RFC 8326."""
    attribute = f" {{ bgp_community.add({GRACEFUL_SHUTDOWN}); }}" if draining else ""
    lines = ["# Written by l4lb-agent: what this node announces now."]
    for family, protocol in PROTOCOLS.items():
        lines += [f"protocol static {protocol} {{", f"\tipv{family} {{ table {TABLES[family]}; }};"]
        for address in sorted(set(addresses), key=order):
            if (":" in address) == (family == 6):
                length = 128 if family == 6 else 32
                lines.append(f"\troute {address}/{length} unreachable{attribute};")
        lines.append("}")
    return "\n".join(lines) + "\n"


class Announcer:
    """The file at `path`, and the BIRD that reads it. birdc: the program; control: its socket."""

    def __init__(
        self,
        path: Path,
        config: Path,
        control: Path = Path("/run/bird/bird.ctl"),
        birdc: str = "birdc",
        bird: str = "bird",
    ) -> None:
        self.path = path
        self.held, _draining = self.current()  # until BIRD says what it is
        self._config = config
        self._control = control
        self._birdc = birdc
        self._bird = bird
        self._confirmed: float | None = None  # when BIRD last said that it holds the file

    def current(self) -> tuple[frozenset[str], bool]:
        """The addresses that the file announces, and whether as draining."""
        routes = _node_state.ROUTE.findall(self._text() or "")
        draining = any(rest[:-1] for _address, rest in routes)
        return frozenset(address for address, _rest in routes), draining

    def announce(self, addresses: Collection[str], draining: bool) -> bool:
        """Brings BIRD to announce these and no others; when it returns, BIRD does.

        Returns whether anything was changed. Raises BirdDown, the file being written, and
        AnnounceError; `held` is what BIRD announces then.
        """
        text, before = render(addresses, draining), self._text()
        held_before, _draining = self.current()
        if text == before and self._confirmed is not None:
            if time.monotonic() - self._confirmed < RECHECK:
                return False
            if self._holds(addresses):
                return False
        self._confirmed = None
        if text != before:
            self._write(text)
        try:
            self._require_sound()
        except AnnounceError as error:
            # Whoever mends bird.conf brings back no more than before, and nothing that has to go.
            if set(addresses) - held_before:
                self._write(render(held_before.intersection(addresses), draining))
            if not addresses and self._silenced():
                raise Silenced(f"{error}; until then nothing is announced") from error
            with contextlib.suppress(AnnounceError):
                self.holds()
            raise
        self._configure(addresses)
        return True

    def holds(self) -> frozenset[str]:
        """What BIRD announces, asked now. Raises BirdDown, AnnounceError."""
        found: set[str] = set()
        for table in TABLES.values():
            reply = self._ask("show", "route", "table", table)
            found.update(_HELD.findall(reply))
        self.held = frozenset(found)
        return self.held

    def _holds(self, addresses: Collection[str]) -> bool:
        if self.holds() != frozenset(addresses):
            return False
        self._confirmed = time.monotonic()
        return True

    # --- the file ---

    def _text(self) -> str | None:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _write(self, text: str) -> None:
        """In one step; by a name of this process, for there may be two that write."""
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            fresh.write_text(text, encoding="utf-8")
            fresh.chmod(0o644)
            fresh.replace(self.path)
        except OSError as error:
            raise AnnounceError(
                f"cannot write {self.path} ({error.strerror}): the role l4lb.xdp.agent makes its "
                "directory, for the agent's user"
            ) from error

    # --- BIRD ---

    def _require_sound(self) -> None:
        """Raises AnnounceError when the configuration with the new file is none."""
        done = self._run(self._bird, "-p", "-c", str(self._config))
        if done.returncode:
            raise AnnounceError(
                f"BIRD refuses its configuration and is not told to read it: {_first_line(done)}; "
                f"correct {self._config}, or let the role l4lb.xdp.bird write it again"
            )

    def _configure(self, addresses: Collection[str]) -> None:
        reply = self._ask("configure")
        codes = {code for code, _text in _CODE.findall(reply)}
        if not codes & {*_RECONFIGURED, *_IN_PROGRESS}:
            raise AnnounceError(f"BIRD did not take its configuration: {_words(reply)}")
        deadline = time.monotonic() + TIMEOUT
        enabled = False
        while not self._holds(addresses):
            if time.monotonic() > deadline:
                raise AnnounceError(
                    f"BIRD has read {self._config} and does not announce what {self.path} says: "
                    f"look whether it is included there (role l4lb.xdp.bird, bird_announce: agent)"
                )
            if not enabled:  # after _silenced, or switched off by hand
                enabled = self._switch("enable")
            time.sleep(_POLL)

    def _silenced(self) -> bool:
        """Announces nothing, though BIRD cannot be configured: what counts most has two ways."""
        try:
            self._switch("disable")
            return not self.holds()
        except AnnounceError:
            return False

    def _switch(self, word: str) -> bool:
        for protocol in PROTOCOLS.values():
            self._ask(word, protocol)
        return True

    def _ask(self, *words: str) -> str:
        """BIRD's reply, each line with its code. Raises BirdDown, AnnounceError."""
        done = self._run(self._birdc, "-v", "-s", str(self._control), *words)
        said = done.stderr + done.stdout
        refused = _NO_CONNECTION in said
        if any(why in said for why in _NOBODY) if refused else not self._control.exists():
            self.held = frozenset()
            raise BirdDown(
                f"BIRD does not answer at {self._control} ({_first_line(done)}): nothing is "
                "announced until bird.service runs"
            )
        if refused:
            raise AnnounceError(
                f"BIRD lets nobody in ({_first_line(done)}), and announces what it did: the user "
                "of l4lb-agent.service must be in group bird (role l4lb.xdp.agent)"
            )
        return done.stdout

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise AnnounceError(
                f"{' '.join(command)} does not end within {TIMEOUT:.0f} s: does BIRD hang?"
            ) from late
        except OSError as error:
            raise AnnounceError(
                f"cannot run {command[0]} ({error.strerror}): the role l4lb.xdp.bird installs BIRD"
            ) from error


def _first_line(done: subprocess.CompletedProcess[str]) -> str:
    return next(_lines(done.stderr + done.stdout), f"exit status {done.returncode}")


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


def _words(reply: str) -> str:
    """A reply without its codes and greeting."""
    said = [text.strip() for code, text in _CODE.findall(reply) if code not in ("0001", "0002")]
    return "; ".join(said) or "it said nothing"
