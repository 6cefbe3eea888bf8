# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks `http` and `https`: a GET whose status, and body where asked for, are as wanted.

Redirects are answers, not followed. The body is read only where it matters, up to 8 KiB of it: a
search holds the whole agent, and may take the square of the length.
"""

from __future__ import annotations

import re
import socket
import ssl
from functools import lru_cache

import h11

from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import (
    HealthCheck,
    status_ranges,
)
from l4lb_agent.checks.subject import CannotAsk, Refused, Subject, Target
from l4lb_agent.checks.wire import Wire

BODY = 8 * 1024
_PORTS = {"http": 80, "https": 443}
_CACHE = 4096


async def ask(subject: Subject, target: Target) -> str:
    """Raises Refused, and as Wire does."""
    check = subject.check
    wire = Wire(target, socket.SOCK_STREAM, check.timeout)
    try:
        await wire.connect()
        if check.type == "https":
            await wire.encrypt(_context(check.verify), check.host)
        return await _exchange(wire, check, target)
    except ssl.SSLCertVerificationError as error:
        raise Refused(f"certificate: {error.verify_message}") from None
    except ssl.SSLError as error:
        what = (error.reason or "cut short").replace("_", " ").lower()
        raise Refused(f"TLS: {what}") from None
    finally:
        wire.close()


async def _exchange(wire: Wire, check: HealthCheck, target: Target) -> str:
    connection = h11.Connection(h11.CLIENT)
    head = connection.send(_request(check.path or "/", _host(check, target)))
    end = connection.send(h11.EndOfMessage())
    await wire.write((head or b"") + (end or b""))
    status = await _status(wire, connection)
    if not any(first <= status <= last for first, last in _ranges(check.status or "200-399")):
        raise Refused(f"status {status}")
    if check.body and not _pattern(check.body).search(await _body(wire, connection)):
        raise Refused(f"status {status}, but the body does not match")
    return f"ok {status}"


async def _status(wire: Wire, connection: h11.Connection) -> int:
    try:
        event = await _next(wire, connection)
        while isinstance(event, h11.InformationalResponse):
            event = await _next(wire, connection)
    except h11.RemoteProtocolError as error:
        unread, closed = connection.trailing_data
        silent = closed and not unread
        raise Refused("closed without an answer" if silent else f"not HTTP: {error}") from None
    assert isinstance(event, h11.Response)  # nothing else can come first
    return event.status_code


async def _next(wire: Wire, connection: h11.Connection) -> h11.Event:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Event):
            return event
        connection.receive_data(await wire.read(BODY))


async def _body(wire: Wire, connection: h11.Connection) -> str:
    """What fits, even where the message is cut short: what is looked for may be there."""
    found = b""
    while len(found) < BODY:
        try:
            event = await _next(wire, connection)
        except (h11.RemoteProtocolError, ConnectionError, ssl.SSLError):
            break
        if not isinstance(event, h11.Data):
            break
        found += event.data
    return found[:BODY].decode("utf-8", "replace")


def _host(check: HealthCheck, target: Target) -> str:
    """What Host says: as configured, or the target's address, with its port unless it is usual."""
    name = check.host or target.address
    bare = f"[{name}]" if ":" in name else name
    usual = check.host or target.port == _PORTS[check.type]
    return bare if usual else f"{bare}:{target.port}"


@lru_cache(maxsize=_CACHE)
def _request(path: str, host: str) -> h11.Request:
    headers = [("Host", host), ("User-Agent", "l4lb"), ("Accept", "*/*"), ("Connection", "close")]
    return h11.Request(method="GET", target=path, headers=headers)


@lru_cache(maxsize=_CACHE)
def _ranges(status: str) -> list[tuple[int, int]]:
    return status_ranges(status)


@lru_cache(maxsize=_CACHE)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


@lru_cache(maxsize=2)
def _context(verify: bool) -> ssl.SSLContext:
    """Reads the system's certificates once, when the first check needs them."""
    try:
        context = ssl.create_default_context()
    except OSError as error:
        raise CannotAsk(f"cannot read the system's certificates: {error}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
