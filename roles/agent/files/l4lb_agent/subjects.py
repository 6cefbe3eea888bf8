# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to ask, and where: from the fleet that was applied to the subjects of probes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from ansible_collections.l4lb.xdp.plugins.module_utils import _probe
from ansible_collections.l4lb.xdp.plugins.module_utils._address import order
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, Pool, Service
from l4lb_agent.checks import Subject, Target

Sources = Mapping[str, Optional[str]]
"""The node's own address by family: ipv4, ipv6. None: not set, as outer headers of that family are
not needed; what is asked at services of that family goes out by whatever address the node has.
"""


def subjects(
    fleet: Fleet, indices: Mapping[tuple[str, str], int], sources: Sources
) -> list[Subject]:
    """Every backend that is to be asked. indices: of the backends that the kernel holds.

    A backend that the kernel does not hold yet has no way through the tunnel: it is left out. So is
    a pool that no service uses, unless its backends are asked directly at a port of its own.
    """
    used: dict[str, list[Service]] = defaultdict(list)
    for service in fleet.services:
        used[service.pool].append(service)
    return [subject for pool in fleet.pools for subject in _of_pool(pool, used, indices, sources)]


def probed_addresses(found: Iterable[Subject]) -> set[str]:
    """The services' addresses that probes go to through the tunnel."""
    return {target.address for subject in found for target in subject.targets if target.mark}


def _of_pool(
    pool: Pool,
    used: Mapping[str, list[Service]],
    indices: Mapping[tuple[str, str], int],
    sources: Sources,
) -> Iterator[Subject]:
    check = pool.health_check
    if check.type == "none":
        return
    services = used.get(pool.name, [])
    for backend in pool.backends:
        if check.via == "direct" or check.type == "command":
            targets = _direct(backend.address, check.port, services, check.type)
        else:
            index = indices.get((pool.name, backend.address))
            targets = [] if index is None else _tunnelled(index, check.port, services, sources)
        if targets:
            yield Subject(pool.name, backend.address, check, tuple(targets))


def _direct(address: str, port: int | None, services: Iterable[Service], kind: str) -> list[Target]:
    ports = {port} if port else {service.port for service in services} - {0}
    if not ports and kind == "command":
        ports = {0}
    return [Target(address, number) for number in sorted(ports)]


def _tunnelled(
    index: int, port: int | None, services: Iterable[Service], sources: Sources
) -> list[Target]:
    places = {(service.address, port or service.port) for service in services}
    return [
        Target(address, number, _probe.mark(index), sources["ipv6" if ":" in address else "ipv4"])
        for address, number in sorted(places, key=lambda place: (order(place[0]), place[1]))
        if number
    ]


def sources_of(settings: Mapping[str, Any]) -> Sources:
    """Of Tables.settings()."""
    return {"ipv4": settings["source_ipv4"], "ipv6": settings["source_ipv6"]}
