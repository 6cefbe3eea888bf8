# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is allowed and may still not be meant: warnings about a fleet, and what one node cannot do.

Private to the collection; pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError, Fleet

SLOTS_PER_BACKEND = 100
"""Below that a backend's share is off by more than one per cent (Maglev, section 5.3)."""


def warnings(fleet: Fleet, ring_size: int) -> list[str]:
    """Each names the variable, the entry and the remedy."""
    return [
        *_unused_pools(fleet),
        *_small_rings(fleet, ring_size),
        *_split_ports(fleet),
        *_idle_quic(fleet),
    ]


def require_sources(fleet: Fleet, source_ipv4: str | None, source_ipv6: str | None) -> None:
    """Raises ConfigError naming each backend of a family in which the node has no address to send
    from.
    """
    lacking = {
        length: variable
        for length, variable, source in (
            (4, "l4lb_source_ipv4", source_ipv4),
            (16, "l4lb_source_ipv6", source_ipv6),
        )
        if not source
    }
    mistakes = [
        f"l4lb_pools.{pool.name}.backends: {backend.address} is of the other family: this node has "
        f"no {lacking[len(packed(backend.address))]} to send its packets from; set it, or remove "
        "the backend"
        for pool in (fleet.pools if lacking else ())
        for backend in pool.backends
        if len(packed(backend.address)) in lacking
    ]
    if mistakes:
        raise ConfigError(mistakes)


def _unused_pools(fleet: Fleet) -> Iterator[str]:
    used = {service.pool for service in fleet.services}
    for pool in fleet.pools:
        if pool.name not in used:
            yield f"l4lb_pools.{pool.name}: no service uses it; remove it, or name it in a service"


def _small_rings(fleet: Fleet, ring_size: int) -> Iterator[str]:
    for pool in fleet.pools:
        wanted = SLOTS_PER_BACKEND * len(pool.backends)
        if ring_size < wanted:
            yield (
                f"l4lb_ring_size: {ring_size} slots are few for the {len(pool.backends)} backends "
                f"of l4lb_pools.{pool.name}, shares will be uneven; take a prime above {wanted}"
            )


def _split_ports(fleet: Fleet) -> Iterator[str]:
    any_port = {(s.address, s.protocol): s for s in fleet.services if s.port == 0}
    for service in fleet.services:
        other = any_port.get((service.address, service.protocol))
        if service.port and other is not None and other.pool != service.pool:
            yield (
                f"l4lb_services: {service.name} takes port {service.port} of {service.address} out "
                f"of {other.name}, which has port 0 (any), for another pool ({service.pool}, not "
                f"{other.pool}); make sure that is meant"
            )


def _idle_quic(fleet: Fleet) -> Iterator[str]:
    served = {service.pool for service in fleet.services if service.protocol == "udp"}
    used = {service.pool for service in fleet.services}
    for pool in fleet.pools:
        if pool.quic and pool.name in used - served:
            yield f"l4lb_pools.{pool.name}.quic: no service of the pool is udp, so it does nothing"
