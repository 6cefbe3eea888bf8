# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks: one probe of one backend, a file a type."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from l4lb_agent.checks import command, dns, http, tcp, udp
from l4lb_agent.checks.subject import Answer, CannotAsk, Key, Refused, Subject, Target
from l4lb_agent.checks.wire import reason

__all__ = ["Answer", "Key", "Subject", "Target", "ask"]

_log = logging.getLogger(__name__)

_LENGTH = 120

_ASK: dict[str, Callable[[Subject, Target], Awaitable[str]]] = {
    "tcp": tcp.ask,
    "http": http.ask,
    "https": http.ask,
    "dns": dns.ask,
    "udp": udp.ask,
    "command": command.ask,
}


async def ask(subject: Subject, target: Target) -> Answer:
    """One probe, over within the check's timeout. Raises nothing but its own cancellation.

    A defect of this program is no answer of the backend either: it is logged, and tells nothing.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    ok = local = False
    try:
        text = await _ASK[subject.check.type](subject, target)
        ok = True
    except TimeoutError:
        text = f"timeout after {subject.check.timeout} s"
    except Refused as error:
        text = str(error)
    except CannotAsk as error:
        text, local = f"cannot ask: {error}", True
    except OSError as error:
        text = reason(error)
    except Exception as error:
        _log.exception("check %s of %s", subject.check.type, " ".join(subject.key))
        text, local = f"cannot ask: {type(error).__name__}: {error}", True
    return Answer(ok, text[:_LENGTH], clock() - began, local)
