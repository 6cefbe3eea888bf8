# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether guards let a packet in, and why: bpf/guard.h in words.

Private to the collection. Reads only: no bucket changes.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from ansible_collections.l4lb.xdp.plugins.module_utils import _rates
from ansible_collections.l4lb.xdp.plugins.module_utils._guard_tables import GuardTables
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceEntry
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import Packet
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import CLOCK_MONOTONIC_COARSE
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

_SECOND = 1_000_000_000


class Answer(NamedTuple):
    """verdict: None where the packet goes on. why: empty where there is nothing to say."""

    verdict: str | None
    why: str


LET_IN = Answer(None, "")


def refused(tables: Tables, packet: Packet, service: ServiceEntry | None) -> Answer:
    """What guards say to a packet to a service's address. service: None where none has its port."""
    guards = GuardTables(tables)
    on = guards.on()
    if "deny" in on and guards.matches("deny", packet.source):
        text = f"{packet.source} is denied (l4lb_deny): the packet is dropped"
        return Answer("drop_denied", text)
    if service is None or "services" not in on:
        return LET_IN
    guard = guards.guard(service.id)
    if guard.allow and not guards.matches("allow", packet.source, service.id):
        text = f"service {service.name} does not allow {packet.source}: the packet is dropped"
        return Answer("drop_not_allowed", text)
    if guard.new_flows and packet.opens:
        return _limited(guards, service, guard.new_flows)
    return LET_IN


def _limited(guards: GuardTables, service: ServiceEntry, new_flows: int) -> Answer:
    """A CPU refuses for itself; which one takes the packet is not known here."""
    each = _rates.interval(new_flows, _rates.cpus())
    last = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE) + max(each, _SECOND) - each
    dues = guards.dues(service.id)[: _rates.cpus()]
    full = sum(due > last for due in dues)
    limit = f"service {service.name} gets {new_flows} new flows a second (new_flows)"
    if full == len(dues):
        return Answer("drop_limited", f"{limit}, and has had them: the packet is dropped")
    if full:
        return Answer(None, f"{limit}; {full} of {len(dues)} CPUs have had their part and drop it")
    return LET_IN
