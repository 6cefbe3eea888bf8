# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health check `dns`: a query over UDP is answered with NOERROR."""

from __future__ import annotations

import copy
import secrets
import socket
from functools import lru_cache

import dns.exception
import dns.message
import dns.rcode

from l4lb_agent.checks.subject import Refused, Subject, Target
from l4lb_agent.checks.wire import Wire

_DATAGRAM = 65535


async def ask(subject: Subject, target: Target) -> str:
    """Raises Refused, and as Wire does. What does not answer this very query is not heard."""
    check = subject.check
    query = copy.copy(_query(check.query or ".", check.record or "NS"))
    query.id = secrets.randbelow(1 << 16)
    wire = Wire(target, socket.SOCK_DGRAM, check.timeout)
    try:
        await wire.connect()
        await wire.write(query.to_wire())
        while True:
            answer = _parsed(await wire.read(_DATAGRAM))
            if answer is not None and query.is_response(answer):
                break
    finally:
        wire.close()
    if answer.rcode() != dns.rcode.NOERROR:
        raise Refused(f"rcode {dns.rcode.to_text(answer.rcode())}")
    return "ok NOERROR"


@lru_cache(maxsize=4096)
def _query(name: str, record: str) -> dns.message.Message:
    return dns.message.make_query(name, record)


def _parsed(datagram: bytes) -> dns.message.Message | None:
    """Its head and question; None when it is no DNS message."""
    try:
        return dns.message.from_wire(datagram, question_only=True)
    except dns.exception.DNSException:
        return None
