# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards: who may not come in (bpf/guard.h), as inventory asks for and as the kernel holds it.

Private to the collection. `make` is pure. It is written around the plan of the services: `tighten`
before it, so that a service is guarded from its first packet on, `loosen` after it, so that nothing
that stays allowed or denied is ever neither.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ansible_collections.l4lb.xdp.plugins.module_utils._address import prefix_order
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, Service
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes

SHOWN = 100
"""Prefixes that a diff names of what is denied, or of what a service allows."""

Allowed = tuple[int, str]
"""The id of a service, and a prefix."""


class GuardError(L4lbError):
    """The guards do not fit the node, or did not come out as planned."""


@dataclass(frozen=True)
class ServiceGuard:
    """struct service_guard. new_flows: a second and node, 0 for as many as come."""

    new_flows: int = 0
    allow: bool = False


OPEN = ServiceGuard()

PROOF = (0x6C346C62).to_bytes(4, sys.byteorder)
"""The metadata of a frame that no guard refuses: PROOF of bpf/steer.h."""


@dataclass(frozen=True)
class Guards:
    """What a node holds, or shall hold. services: by id, those that are not OPEN. on: words of enum
    guard.
    """

    deny: frozenset[str] = frozenset()
    allow: frozenset[Allowed] = frozenset()
    services: Mapping[int, ServiceGuard] = field(default_factory=dict)
    on: frozenset[str] = frozenset()


class GuardedKernel(Protocol):
    """What guards are read from and written to."""

    def guards(self) -> Guards: ...
    def put_denied(self, prefixes: Collection[str]) -> None: ...
    def remove_denied(self, prefixes: Collection[str]) -> None: ...
    def put_allowed(self, entries: Collection[Allowed]) -> None: ...
    def remove_allowed(self, entries: Collection[Allowed]) -> None: ...
    def put_guard(self, service: int, guard: ServiceGuard) -> None: ...
    def put_guards_on(self, words: Collection[str]) -> None: ...


@dataclass(frozen=True)
class GuardPlan:
    """From what is held to what is wanted. ids: of all services that there will be; fresh: of those
    that there were not; names: of all that have been or will be.
    """

    held: Guards
    wanted: Guards
    ids: frozenset[int]
    fresh: frozenset[int]
    names: Mapping[int, str]

    @property
    def writes(self) -> dict[str, int]:
        """How many entries of each kind are written or removed; empty when none is."""
        held, wanted = self.held, self.wanted
        counts = {
            "denied prefixes": len(wanted.deny - held.deny),
            "denied prefixes to remove": len(held.deny - wanted.deny),
            "allowed prefixes": len(wanted.allow - held.allow),
            "allowed prefixes to remove": len(held.allow - wanted.allow),
            "guards": len(self.differing) + int(held.on != wanted.on),
        }
        return {kind: count for kind, count in counts.items() if count}

    @property
    def differing(self) -> dict[int, ServiceGuard]:
        """The guards of services that are to be others than they are, by id."""
        return {
            i: self.wanted.services.get(i, OPEN)
            for i in sorted({*self.held.services, *self.wanted.services})
            if self.wanted.services.get(i, OPEN) != self.held.services.get(i, OPEN)
        }

    def lines(self) -> tuple[list[str], list[str]]:
        """What differs, before and after, in inventory's words."""
        before = [*self._of(self.held, self.wanted)]
        return before, [*self._of(self.wanted, self.held)]

    def _of(self, one: Guards, other: Guards) -> Iterator[str]:
        for service in self.differing:
            limit = one.services.get(service, OPEN).new_flows
            yield f"service {self._name(service)}: new_flows {limit or 'any'}"
        yield from _few("deny", one.deny - other.deny)
        by_service: dict[int, set[str]] = {}
        for service, prefix in one.allow - other.allow:
            by_service.setdefault(service, set()).add(prefix)
        for service, prefixes in sorted(by_service.items()):
            yield from _few(f"service {self._name(service)}: allow", prefixes)

    def _name(self, service: int) -> str:
        return self.names.get(service, f"number {service}")


def _few(head: str, prefixes: Collection[str]) -> Iterator[str]:
    ordered = sorted(prefixes, key=prefix_order)
    for prefix in ordered[:SHOWN]:
        yield f"{head} {prefix}"
    if len(ordered) > SHOWN:
        yield f"{head} {len(ordered) - SHOWN} prefixes more"


def wanted_by(fleet: Fleet, ids: Mapping[tuple[str, str, int], int]) -> Guards:
    """What inventory asks for. ids: of all services, by their key."""
    services = {
        ids[service.key]: ServiceGuard(service.new_flows, bool(service.allow))
        for service in fleet.services
        if _is_guarded(service)
    }
    allow = {(ids[s.key], prefix) for s in fleet.services for prefix in s.allow}
    on = {word for word, used in (("deny", fleet.deny), ("services", services)) if used}
    return Guards(frozenset(fleet.deny), frozenset(allow), services, frozenset(on))


def _is_guarded(service: Service) -> bool:
    return bool(service.allow or service.new_flows)


def make(
    fleet: Fleet,
    held: Guards,
    ids: Mapping[tuple[str, str, int], int],
    fresh: Collection[int],
    gone: Mapping[int, str],
    sizes: Sizes,
) -> GuardPlan:
    """What has to be written. Raises GuardError when it does not fit.

    ids: of all services, by their key; fresh: of those that are new; gone: names of those that go,
    by id.
    """
    wanted = wanted_by(fleet, ids)
    _require_room("l4lb_deny", list(wanted.deny | held.deny), sizes.deny, "l4lb_max_deny")
    allowed = [prefix for _service, prefix in wanted.allow | held.allow]
    _require_room("l4lb_services[].allow", allowed, sizes.allow, "l4lb_max_allow")
    names = {ids[service.key]: service.name for service in fleet.services}
    return GuardPlan(held, wanted, frozenset(ids.values()), frozenset(fresh), {**gone, **names})


def _require_room(what: str, prefixes: list[str], size: int, remedy: str) -> None:
    """While they are changed the old ones and the new ones are there together."""
    six = sum(":" in prefix for prefix in prefixes)
    for family, count in (("IPv4", len(prefixes) - six), ("IPv6", six)):
        if count > size:
            raise GuardError(
                f"map full: {what} has {count} {family} prefixes, those included that it had "
                f"before, and there is room for {size}; raise {remedy}"
            )


def tighten(plan: GuardPlan, kernel: GuardedKernel) -> None:
    """Before the services: what is denied and allowed from now on, and their guards."""
    held, wanted = plan.held, plan.wanted
    left = {entry for entry in held.allow - wanted.allow if entry[0] in plan.fresh}
    kernel.remove_allowed(left)  # of a run that was killed
    kernel.put_denied(wanted.deny - held.deny)
    kernel.put_allowed(wanted.allow - held.allow)
    for service, guard in plan.differing.items():
        if service in plan.ids:
            kernel.put_guard(service, guard)
    if not wanted.on <= held.on:
        kernel.put_guards_on(held.on | wanted.on)


def loosen(plan: GuardPlan, kernel: GuardedKernel) -> None:
    """After the services: what nobody asks for any more."""
    held, wanted = plan.held, plan.wanted
    if not held.on <= wanted.on:
        kernel.put_guards_on(wanted.on)
    for service, guard in plan.differing.items():
        if service not in plan.ids:
            kernel.put_guard(service, guard)
    kernel.remove_allowed({e for e in held.allow - wanted.allow if e[0] not in plan.fresh})
    kernel.remove_denied(held.deny - wanted.deny)


def verify(plan: GuardPlan, kernel: GuardedKernel) -> None:
    """Reads the kernel back. Raises GuardError when it does not hold what was written."""
    left = replace(plan, held=kernel.guards()).writes
    if left:
        raise GuardError(
            "the kernel does not hold the guards that were written: somebody else writes to the "
            f"maps of this node; left to do: {', '.join(left)}. Apply again"
        )


def as_inventory(data: dict[str, Any], guards: Guards, ids: Mapping[str, int]) -> dict[str, Any]:
    """Of _lines.as_inventory, with the guards that the kernel holds. ids: by a service's name."""
    allow: dict[int, list[str]] = {}
    for service, prefix in guards.allow:
        allow.setdefault(service, []).append(prefix)
    services = []
    for service in data["services"]:
        number = ids[service["name"]]
        guard = guards.services.get(number, OPEN)
        more: dict[str, Any] = {"allow": allow[number]} if guard.allow and number in allow else {}
        services.append({**service, **more, "new_flows": guard.new_flows})
    return {**data, "services": services, "deny": sorted(guards.deny, key=prefix_order)}
