# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of single packets, as the program tells it: bpf/trace.h.

Private to the collection. A trace is on while its reader lives: it puts off the end again and
again, and the program ends what nobody puts off. While one is on, packets cost somewhat more;
what becomes of them does not change.
"""

from __future__ import annotations

import ctypes as ct
import fcntl
import os
import re
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import PROTOCOLS
from ansible_collections.l4lb.xdp.plugins.module_utils._reader import few
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import ticks
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables, now_tick

LEASE = 4
"""Seconds after which a trace ends that is not read any more."""

MAX_SAMPLE = (1 << 32) - 1

_RENEW = 1.0
_NAP = 0.25
"""Seconds that a reader sleeps at most before it looks at the clock."""
_AT_ONCE = 1024
_NOBODY = 0xFFFFFFFF
_MEANING = re.compile(r"\bVERDICT_(\w+), /\* (.*?) \*/", re.DOTALL)
_PROTOCOL_WORDS = {number: word for word, number in PROTOCOLS.items()}
_PROTOCOL_WORDS.update({socket.IPPROTO_ICMP: "icmp", socket.IPPROTO_ICMPV6: "ipv6-icmp"})


class TraceError(L4lbError):
    """There cannot be such a trace, or not now."""


@dataclass(frozen=True)
class Filter:
    """Which packets are told of; None: whatever it is.

    sample: one in so many of those, at random. service: its name. source: address or prefix of
    the client. verdict: its word.
    """

    sample: int = 1
    service: str | None = None
    source: str | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class Event:
    """What became of one packet; names as of now.

    Addresses, ports and protocol are those of its flow; of an ICMP error, of the flow it is about.
    time: unix time in seconds. source, destination: "" in what is no IP. ports: 0 where there are
    none. service, slot, backend: None where it did not get so far. length: of the IP packet in
    bytes, 0 where its header lies.
    """

    time: float
    verdict: str
    service: str | None
    source: str
    source_port: int
    destination: str
    destination_port: int
    protocol: str
    slot: int | None
    backend: str | None
    length: int
    reason: str


def meanings(source: Path) -> dict[str, str]:
    """What each verdict means: the comments of maps.h in the source directory."""
    text = (source / "maps.h").read_text(encoding="utf-8")
    return {word.lower(): " ".join(said.split()) for word, said in _MEANING.findall(text)}


class Trace:
    """A trace of a node's packets, as a context: on at its beginning, off at its end.

    One at a time: raises TraceError when there is another, or the filter cannot be.
    """

    def __init__(self, tables: Tables, filter_: Filter) -> None:
        self._tables = tables
        self._wish = self._entry(filter_)
        self._raw: deque[bytes] = deque()
        self._names = _Names(tables)
        self._lock = -1
        self._ring: int | None = None
        self._hear = _bpf.ring_buffer_callback(self._take)
        self._renewed = 0.0

    def __enter__(self) -> Trace:
        self._lock = _lock(self._tables.pins)
        try:
            self._ring = _bpf.open_ring_buffer(self._events.map_fd, self._hear)
            while self._drain():  # what is left of another trace
                pass
            self._write("trace_lost", ct.c_uint64(0))
            self._wish.session = time.monotonic_ns() & 0xFFFFFFFF
            self._renew()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._close()

    @property
    def lost(self) -> int:
        """How many events were not told, because this reader was too slow."""
        value = ct.c_uint64()
        _bpf.look_up(self._tables.table("trace_lost").map_fd, ct.c_uint32(0), value)
        return value.value

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Events as they come, until so many seconds from now; None: for ever."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            now = time.monotonic()
            if now - self._renewed >= _RENEW:
                self._renew()
            left = _NAP if end is None else min(_NAP, end - now)
            self._poll(max(0, int(left * 1000)))
            whole = len(self._raw) < _AT_ONCE
            while self._raw:
                leaf = self._events.Leaf.from_buffer_copy(self._raw[0])
                if end is not None and leaf.time > end * 1e9:
                    return
                self._raw.popleft()
                if leaf.session == self._wish.session:
                    yield self._event(leaf)
            if end is not None and now >= end and whole:
                return

    # --- the switch ---

    @property
    def _events(self) -> Any:
        return self._tables.table("trace_events")

    def _entry(self, filter_: Filter) -> Any:
        """struct tracing, less until and session."""
        words = self._tables.words
        if not 1 <= filter_.sample <= MAX_SAMPLE:
            raise TraceError(f"sample {filter_.sample} is not from 1 to {MAX_SAMPLE}")
        entry = self._tables.table("tracing").Leaf(
            sample=filter_.sample,
            service=self._service(filter_.service),
            verdict=words.value("verdict", "count"),
        )
        known = words.enums["verdict"][:-1]
        if filter_.verdict is not None:
            if filter_.verdict not in known:
                raise TraceError(
                    f"verdict {filter_.verdict!r} is not one of: {few(known, len(known))}"
                )
            entry.verdict = words.value("verdict", filter_.verdict)
        if filter_.source is not None:
            source, mask = _prefix(filter_.source)
            entry.family = 4 if len(source) == 4 else 6
            for name, value in (("source", source), ("mask", mask)):
                ct.memmove(
                    ct.addressof(entry) + getattr(type(entry), name).offset, value, len(value)
                )
        return entry

    def _service(self, name: str | None) -> int:
        if name is None:
            return _NOBODY
        ids = {service.name: service.id for service in self._tables.actual().services.values()}
        if name not in ids:
            raise TraceError(f"service {name!r} is not on this node; there are: {few(ids)}")
        return ids[name]

    def _renew(self) -> None:
        self._renewed = time.monotonic()
        self._wish.until = now_tick() + ticks(LEASE)
        self._write("tracing", self._wish)
        self._names.forget()

    def _write(self, name: str, value: Any) -> None:
        _bpf.update(self._tables.table(name).map_fd, ct.c_uint32(0), value, f"write {name}")

    def _close(self) -> None:
        try:
            self._write("tracing", self._tables.table("tracing").Leaf())
        finally:
            if self._ring is not None:
                _bpf.close_ring_buffer(self._ring)
                self._ring = None
            os.close(self._lock)

    # --- the events ---

    def _take(self, _context: Any, data: int, size: int) -> int:
        """Called for each record; a value below 0 makes an end, or it would go on as they come."""
        self._raw.append(ct.string_at(data, size))
        return -1 if len(self._raw) >= _AT_ONCE else 0

    def _poll(self, milliseconds: int) -> None:
        if self._ring is None:
            raise TraceError("the trace is not on: use it as a context")
        _bpf.poll_ring_buffer(self._ring, milliseconds)

    def _drain(self) -> bool:
        self._poll(0)
        found = bool(self._raw)
        self._raw.clear()
        return found

    def _event(self, leaf: Any) -> Event:
        verdict = self._tables.words.word("verdict", leaf.verdict)
        return Event(
            time=self._names.epoch + leaf.time / 1e9,
            verdict=verdict,
            service=None if leaf.service == _NOBODY else self._names.service(leaf.service),
            source=_text(leaf.source, leaf.ipv6),
            source_port=socket.ntohs(leaf.source_port),
            destination=_text(leaf.destination, leaf.ipv6),
            destination_port=socket.ntohs(leaf.destination_port),
            protocol=_PROTOCOL_WORDS.get(leaf.protocol, str(leaf.protocol)),
            slot=None if leaf.slot == _NOBODY else leaf.slot,
            backend=self._names.backend(leaf.backend) if leaf.backend else None,
            length=leaf.length,
            reason=self._names.reason(verdict, leaf.error),
        )


class _Names:
    """What the numbers in events stand for; asked for once between two `forget`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._meanings = meanings(tables.source)
        self.forget()

    def forget(self) -> None:
        self.epoch = time.time() - time.monotonic()
        self._services: dict[int, str] = {}
        self._backends: dict[int, str] = {}

    def service(self, index: int) -> str:
        if index not in self._services:
            self._services[index] = self._leaf("service_names", index).text.decode()
        return self._services[index]

    def backend(self, index: int) -> str:
        if index not in self._backends:
            leaf = self._leaf("backends", index)
            self._backends[index] = self._tables.backend_entry(leaf).address
        return self._backends[index]

    def reason(self, verdict: str, error: int) -> str:
        return f"{'ICMP error about this flow: ' if error else ''}{self._meanings[verdict]}"

    def _leaf(self, name: str, index: int) -> Any:
        table = self._tables.table(name)
        leaf = table.Leaf()
        _bpf.look_up(table.map_fd, ct.c_uint32(index), leaf)
        return leaf


def _lock(pins: Path) -> int:
    """The lock that only one trace holds: it goes with the process, however that ends."""
    fd = os.open(pins, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise TraceError("another trace is running on this node: end it first") from None
    return fd


def _prefix(text: str) -> tuple[bytes, bytes]:
    """Address and mask, 4 or 16 bytes each."""
    address, slash, length = text.partition("/")
    try:
        raw = packed(address)
        bits = len(raw) * 8
        ones = int(length) if slash else bits
        if not 0 <= ones <= bits:
            raise ValueError
    except ValueError:
        raise TraceError(f"source {text!r} is neither an address nor a prefix") from None
    mask = ((1 << bits) - (1 << bits - ones)).to_bytes(len(raw), "big")
    return bytes(a & m for a, m in zip(raw, mask)), mask


def _text(words: Any, ipv6: int) -> str:
    raw = bytes(words)
    if not any(raw):
        return "::" if ipv6 else ""
    return socket.inet_ntop(socket.AF_INET6 if ipv6 else socket.AF_INET, raw if ipv6 else raw[:4])
