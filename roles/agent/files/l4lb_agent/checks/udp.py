# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health check `udp`: a datagram is answered, and the answer matches where a pattern is given.

Text and bytes are the same here, a character a byte: protocols over UDP are seldom text.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache

from l4lb_agent.checks.subject import Refused, Subject, Target
from l4lb_agent.checks.wire import Wire

_DATAGRAM = 8 * 1024
"""Bytes of the answer that are searched, as of the body in http.py; the rest is cut off."""
_BYTES = "latin-1"


async def ask(subject: Subject, target: Target) -> str:
    """Raises Refused, and as Wire does."""
    check = subject.check
    wire = Wire(target, socket.SOCK_DGRAM, check.timeout)
    try:
        await wire.connect()
        await wire.write((check.send or "").encode(_BYTES))
        answer = await wire.read(_DATAGRAM)
    finally:
        wire.close()
    if check.expect and not _pattern(check.expect).search(answer.decode(_BYTES)):
        raise Refused(f"{len(answer)} bytes that do not match")
    return "ok"


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)
