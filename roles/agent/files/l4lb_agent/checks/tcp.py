# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health check `tcp`: somebody listens, and has room for a connection.

The handshake is left unfinished: its last ACK is held back (Wire), and an RST follows the SYN/ACK
instead. The backend's kernel then forgets the connection before the application hears of it, so
nothing is accepted, logged as reset, or counted as an abuse; and no TIME_WAIT is left at either
end.
"""

from __future__ import annotations

import socket

from l4lb_agent.checks.subject import Subject, Target
from l4lb_agent.checks.wire import Wire


async def ask(subject: Subject, target: Target) -> str:
    """Raises as Wire does."""
    wire = Wire(target, socket.SOCK_STREAM, subject.check.timeout)
    try:
        await wire.connect()
    finally:
        wire.close()
    return "ok"
