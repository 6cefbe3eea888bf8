# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backend a packet gets, and why: bpf/steer.h in words (docs/steering.md).

Private to the collection; pure. Times are in ticks. One of another CPU may lie a tick after `now`:
an age below 0 is young.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import BackendEntry, PoolEntry
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import OPENINGS, Packet


@dataclass(frozen=True)
class Slot:
    """A slot of a ring: backends by index, 0 for none; tracked is 0 while it is settled."""

    number: int
    current: int
    previous: int
    tracked: int


@dataclass(frozen=True)
class Flow:
    """The flow table's record of a packet's flow."""

    backend: int
    seen: int


@dataclass(frozen=True)
class Steered:
    """The index of the packet's backend, 0 for none, and the reasons, in order.

    believed: whether the flow's record decided it.
    """

    backend: int
    believed: bool
    why: list[str]


@dataclass
class _Case:
    """All that matters for one packet; `why` grows as the rule is followed."""

    packet: Packet
    pool: PoolEntry
    slot: Slot
    flow: Flow | None
    backends: Mapping[int, BackendEntry]
    now: int
    why: list[str] = field(default_factory=list)

    def lives(self, index: int) -> bool:
        return index in self.backends and self.backends[index].lives

    def name(self, index: int) -> str:
        return self.backends[index].address if index in self.backends else f"backend {index}"

    def condition(self, index: int) -> str:
        """Why it does not live: `disabled`, `removed`, `down`."""
        if index not in self.backends:
            return "beyond the map of backends"
        backend = self.backends[index]
        return backend.health if backend.health != "up" else backend.state


def decide(
    packet: Packet,
    pool: PoolEntry,
    slot: Slot,
    flow: Flow | None,
    backends: Mapping[int, BackendEntry],
    now: int,
) -> Steered:
    """The backend that the program gives the packet.

    flow: the record of its flow, whether or not the program would look for it. backends: by index,
    those that slot and record name.
    """
    case = _Case(packet, pool, slot, flow, backends, now)
    case.why.append(_slot_text(case))
    believed = False
    if pool.tracking == "never" or (pool.tracking == "adaptive" and not slot.tracked):
        backend = slot.current
        if flow:
            case.why.append(f"{_record_text(case, flow)}, and that plays no part")
    else:
        believed = _is_believed(case)
        backend = flow.backend if flow and believed else _steer_unknown(case)
        if packet.protocol in OPENINGS and slot.current not in (0, backend):
            opening = OPENINGS[packet.protocol]
            case.why.append(
                f"a connection that opens now ({opening}) goes to {case.name(slot.current)}"
            )
    if not backend:
        case.why.append(_nobody_text(pool))
    return Steered(backend, believed, case.why)


def decide_echo(
    packet: Packet,
    pool: PoolEntry,
    slot: Slot,
    _flow: Flow | None,
    backends: Mapping[int, BackendEntry],
    now: int,
) -> Steered:
    """As `decide`, for an echo request that a backend answers: it is no flow."""
    case = _Case(packet, pool, slot, None, backends, now)
    points = f"points to {case.name(slot.current)}" if slot.current else "points to nobody"
    case.why.append(f"slot {slot.number} {points}; an echo request is no flow, so that decides")
    if not slot.current:
        case.why.append(_nobody_text(pool))
    return Steered(slot.current, False, case.why)


def _nobody_text(pool: PoolEntry) -> str:
    return f"no backend of pool {pool.name} is active: the packet is dropped"


def _slot_text(case: _Case) -> str:
    slot, tracking = case.slot, case.pool.tracking
    points = f"points to {case.name(slot.current)}" if slot.current else "points to nobody"
    if tracking == "never":
        return f"slot {slot.number} {points}; the pool never tracks, so that decides"
    if not slot.tracked:
        asked = "the flow table is not asked"
        if tracking == "always":
            asked = "but the pool always tracks, so the flow table is asked"
        return f"slot {slot.number} is settled: it {points}, {asked}"
    before = f"before that to {case.name(slot.previous)}"
    if not slot.previous:
        before = "and the backend before that is gone"
    return (
        f"slot {slot.number} is tracked for {span(case.now - slot.tracked)}: it {points}, {before}"
    )


def _record_text(case: _Case, flow: Flow) -> str:
    seen = span(case.now - flow.seen)
    return f"the flow is recorded on {case.name(flow.backend)}, seen {seen} ago"


def _is_believed(case: _Case) -> bool:
    """Whether the flow's record decides; the reason is noted."""
    flow, why = case.flow, case.why
    if case.packet.opens:
        where = f" on {case.name(flow.backend)}" if flow else ""
        record = f": the old record{where} does not count" if flow else ""
        why.append(f"the packet opens a connection ({OPENINGS[case.packet.protocol]}){record}")
        return False
    if flow is None:
        why.append("the flow is not recorded")
        return False
    text = _record_text(case, flow)
    if case.now - flow.seen > case.pool.settle:
        limit = span(case.pool.settle)
        why.append(f"{text}: older than the pool's settle time of {limit}, it is not believed")
        return False
    if not case.lives(flow.backend):
        why.append(f"{text}, but that backend is {case.condition(flow.backend)}: it has to move")
        return False
    why.append(f"{text}: it stays there")
    return True


def _steer_unknown(case: _Case) -> int:
    """Who gets a flow that the table does not know: older than the change, or new."""
    slot, packet = case.slot, case.packet
    current = f"takes the current backend, {case.name(slot.current)}, and is recorded there"
    if not slot.current:
        current = "would take the current backend, and there is none"
    if packet.opens or not slot.previous:
        case.why.append(f"it {current}")
        return slot.current
    transition = case.pool.udp_transition
    if packet.protocol == "udp" and case.now - slot.tracked > transition:
        case.why.append(
            f"the change is longer ago than the pool's udp_transition of {span(transition)}, so an "
            f"unknown UDP flow counts as new: it {current}"
        )
        return slot.current
    if not case.lives(slot.previous):
        condition = case.condition(slot.previous)
        case.why.append(f"{case.name(slot.previous)} is {condition}: the flow {current}")
        return slot.current
    case.why.append(
        f"{_older_text(case)}: it takes {case.name(slot.previous)} and is recorded there"
    )
    return slot.previous


def _older_text(case: _Case) -> str:
    if case.packet.protocol == "udp":
        limit = span(case.pool.udp_transition)
        return f"within the pool's udp_transition of {limit} it counts as older than the change"
    return "it did not open here since the change, so it is older"


def span(ticks: int) -> str:
    """A time as people read it, in seconds and more."""
    seconds = _rings.seconds(ticks)
    if seconds < 1:
        return "less than 1 s"
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < 600:
        return f"{seconds} s"
    if hours < 2:
        return f"{seconds} s ({minutes} min)"
    if hours < 48:
        return f"{seconds} s ({hours} h {minutes % 60} min)"
    return f"{seconds} s ({hours // 24} d {hours % 24} h)"
