# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a node before anything changes: reads (`_preflight_see_*`), judges, and reports.

Private to the collection. Runs on a host that no role has prepared: what bcc, pyroute2 or netaddr
would have to tell is skipped there, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _address,
    _bpf,
    _links,
    _preflight_host,
    _preflight_links,
    _preflight_memory,
    _preflight_paths,
)
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_see_host as _see_host
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_see_links as _see_links
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_see_paths as _see_paths
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome, lacking
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_check import (
    Check,
    Environment,
    skipped,
    summary,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import LAYOUT_REMEDY
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import GUE_PORT, Wanted, wanted_of

FAILING = {"failed": ("failed",), "warning": ("failed", "warning"), "never": ()}
"""Statuses at which the module fails, by its argument fail_on."""

BY_NETLINK = ("foreign_program", "service_addresses", "tunnel_source", "routes", "neighbours")
BY_BACKENDS = ("routes", "neighbours", "redirect", "mtu")


class PreflightFailed(L4lbError):
    """Something would go wrong on this node; the text has a line for each check that says so."""


@dataclass(frozen=True)
class Asked:
    """What is wanted of the node. backends and services: addresses, each once, None if they were
    not given; flows: those of the services, as _preflight_links.FLOWS; pools: how many; direct:
    the backends of pools with forwarding: l2 alone; udp: those of pools with forwarding: gue.
    """

    wanted: Wanted
    backends: tuple[str, ...] | None
    services: tuple[str, ...] | None
    flows: tuple[str, ...]
    pools: int
    client_mtu: int
    direct: frozenset[str] = frozenset()
    udp: frozenset[str] = frozenset()


def preflight(arguments: Mapping[str, Any]) -> Outcome:
    """All checks, as the module's arguments say. Raises PreflightFailed, which carries them, where
    fail_on says so; WantedError for a mistake in the arguments.
    """
    environment = _see_host.environment()
    checks = list(_checks(_asked(arguments), environment))
    data: dict[str, Any] = {
        "checks": [check.as_dict() for check in checks],
        "environment": asdict(environment),
        "summary": summary(checks),
    }
    failing = FAILING[arguments["fail_on"]]
    bad = [str(check) for check in checks if check.status in failing]
    warnings = [
        str(check) for check in checks if check.status == "warning" and "warning" not in failing
    ]
    if bad:
        raise PreflightFailed("\n".join(bad), data, warnings)
    return Outcome(False, data=data, warnings=warnings)


# --- what is asked for ---


_OF_NO_CONCERN = {
    "name": "balancer",
    "hash_seed": 0,
    "addresses": [],
    "sources": [],
    "other_ports": "drop",
    "echo": "answer",
    "gue_port": GUE_PORT,
    "new_records": 0,
}


def _asked(arguments: Mapping[str, Any]) -> Asked:
    pools, services = arguments["pools"], arguments["services"]
    names = [f"source_{what}ipv{version}" for what in ("", "prefix_") for version in (4, 6)]
    sources = {} if _see_host.has_netaddr() else dict.fromkeys(names)
    entries = list(_services(services))
    addresses = tuple(dict.fromkeys(address for address, _protocol in entries))
    flows = {f"{protocol}{6 if ':' in address else 4}" for address, protocol in entries}
    return Asked(
        wanted_of({**arguments, **_OF_NO_CONCERN, **sources}),
        None if pools is None else tuple(dict.fromkeys(_backends(pools))),
        None if services is None else addresses,
        tuple(sorted(flows)) or ("tcp4", "tcp6"),
        len(pools) if isinstance(pools, Mapping) else 0,
        arguments["client_mtu"],
        *_forwarded(pools),
    )


def _forwarded(pools: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Addresses of backends that get all packets without an outer header, and of those that get
    some with UDP.
    """
    modes: dict[Any, dict[Any, Any]] = {}
    for name, pool in pools.items() if isinstance(pools, Mapping) else ():
        mode = _get(pool, "forwarding")
        known = mode if mode in ("l2", "gue") else "ipip"
        modes.setdefault(known, {})[name] = pool
    found = {mode: frozenset(_backends(some)) for mode, some in modes.items()}
    none: frozenset[str] = frozenset()
    udp = found.get("gue", none)
    return found.get("l2", none) - udp - found.get("ipip", none), udp


def _get(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, Mapping) else None


def _backends(pools: Any) -> Iterator[str]:
    """Addresses of the backends that get packets; what is mistaken is l4lb.xdp.services' to say."""
    for pool in pools.values() if isinstance(pools, Mapping) else ():
        for entry in _entries(pool, "backends"):
            if entry.get("state") not in ("disabled", "absent"):
                yield from _readable(entry.get("address"))


def _services(services: Any) -> Iterator[tuple[str, str]]:
    """(address, protocol) of each service."""
    for entry in _entries({"services": services}, "services"):
        if entry.get("state") != "absent":
            for address in _readable(entry.get("address")):
                protocol = entry.get("protocol")
                yield address, str(protocol) if protocol in ("udp", "sctp") else "tcp"


def _entries(holder: Any, key: str) -> list[Mapping[str, Any]]:
    found = holder.get(key) if isinstance(holder, Mapping) else None
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
        return []
    return [entry for entry in found if isinstance(entry, Mapping)]


def _readable(address: Any) -> list[str]:
    if not _see_host.has_netaddr() or not isinstance(address, str):
        return []
    try:
        return [_address.canonical(address)]
    except ValueError:
        return []


# --- looking ---


def _checks(asked: Asked, environment: Environment) -> Iterator[Check]:
    yield from _host(asked, environment)
    names = list(asked.wanted.interfaces)
    links = _see_links.links(names)
    yield from _missing(names, links)
    for link in links.values():
        yield from _preflight_links.judge_link(
            link, asked.wanted.mode, _see_host.cpus(), asked.flows, environment
        )
    if lacking(_links.require_libraries):
        yield from skipped((*BY_NETLINK, "redirect", "mtu"), "needs pyroute2 and netaddr")
        return
    for link in links.values():
        yield _preflight_links.judge_foreign(link, asked.wanted.replace_foreign)
    yield from _addresses(asked)
    yield from _paths(asked, links)


def _host(asked: Asked, environment: Environment) -> Iterator[Check]:
    wanted = asked.wanted
    rights = _see_host.rights()
    allowed = rights.capabilities and not rights.refused
    libraries = _see_host.libraries()
    yield _preflight_host.judge_kernel(_see_host.release(), environment)
    yield from _preflight_host.judge_libraries(libraries)
    prepared = (wanted.source / "maps.h").exists()  # the role installs it after all else
    yield _preflight_host.judge_headers(_see_host.missing_headers(), prepared, environment)
    yield _preflight_host.judge_rights(rights, environment)
    mounted = _bpf.is_bpffs(wanted.pins)
    yield _preflight_host.judge_bpffs(str(wanted.pins), mounted, prepared, environment)
    status, found = _see_host.maps_differ(wanted.pins, wanted.source, wanted.sizes, allowed)
    yield Check("maps", "", status, found, LAYOUT_REMEDY if status == "failed" else "")
    memory = _see_host.memory(wanted.pins, allowed)
    yield _preflight_memory.judge_memory(wanted.sizes, asked.pools, memory)
    yield _preflight_host.judge_clock(_see_host.clock(), environment)


def _missing(names: Sequence[str], links: Mapping[str, Any]) -> Iterator[Check]:
    for name in names:
        if name not in links:
            present = ", ".join(_see_host.interfaces())
            found = f"does not exist; there are: {present}"
            yield Check("interface", name, "failed", found, "correct interfaces (l4lb_interfaces)")


def _addresses(asked: Asked) -> Iterator[Check]:
    local = _see_paths.local_addresses()
    services = asked.services or ()
    if asked.services is None:
        yield from skipped(["service_addresses"], "no services were given")
    else:
        yield from _preflight_paths.judge_service_addresses(services, local)
    sources = {4: asked.wanted.source_ipv4, 6: asked.wanted.source_ipv6}
    backends = asked.backends or ()
    yield from _preflight_paths.judge_sources(backends, sources, services, local)
    prefixes = {4: asked.wanted.source_prefix_ipv4, 6: asked.wanted.source_prefix_ipv6}
    yield from _preflight_paths.judge_source_prefixes(prefixes, backends, services)


def _paths(asked: Asked, links: Mapping[str, _preflight_links.Link]) -> Iterator[Check]:
    if asked.backends is None:
        yield from skipped(BY_BACKENDS, "no pools were given")
        return
    paths = [
        replace(path, direct=path.backend in asked.direct, udp=path.backend in asked.udp)
        for path in _see_paths.paths(asked.backends)
    ]
    others = {path.interface for path in paths if path.leaves} - set(links)
    egress = {**links, **_see_links.links(sorted(others))}
    wanted = asked.wanted
    yield from _preflight_paths.judge_routes(paths)
    yield from _preflight_paths.judge_neighbours(paths)
    yield from _preflight_paths.judge_redirects(paths, wanted.interfaces, egress, wanted.mode)
    yield from _preflight_paths.judge_mtu(paths, asked.client_mtu)
