# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What inventory asks for: `l4lb_pools` and `l4lb_services`, validated and canonical.

Private to the collection. `parse` is the only way in. It reports all mistakes at once, each with
the variable, the entry, the value found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._address import order
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._reader import Fields, Reader

ALGORITHMS = ("maglev", "rendezvous")
SUPPORTED_FORWARDING = ("ipip",)
"""The forwarding modes that the data plane has."""
TRACKING = ("adaptive", "always", "never")
STATES = ("active", "draining", "disabled")
PROTOCOLS = ("tcp", "udp")
HEALTH_CHECKS = ("none", "tcp", "http", "https", "dns", "udp", "command")

MAX_WEIGHT = 1000
DAY = 86_400


class ConfigError(L4lbError):
    """Inventory has mistakes; `mistakes` has one line for each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = list(mistakes)


@dataclass(frozen=True)
class Backend:
    """One real server of a pool."""

    address: str
    weight: int = 100
    state: str = "active"


@dataclass(frozen=True)
class HealthCheck:
    """How the agent asks whether a backend lives. port None: the service's. interval: seconds."""

    type: str = "none"
    port: int | None = None
    path: str | None = None
    interval: int = 2
    rise: int = 2
    fall: int = 3


@dataclass(frozen=True)
class Pool:
    """Backends, sorted by address, and how flows are spread over them. Times in seconds."""

    name: str
    backends: tuple[Backend, ...] = ()
    algorithm: str = "maglev"
    forwarding: str = "ipip"
    tracking: str = "adaptive"
    udp_transition: int = 60
    settle: int = 3600
    minimum_healthy: int = 1
    health_check: HealthCheck = HealthCheck()


@dataclass(frozen=True)
class Service:
    """What clients connect to. port 0: any port."""

    name: str
    address: str
    port: int
    protocol: str
    pool: str

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells services apart on the wire."""
        return self.address, self.protocol, self.port


@dataclass(frozen=True)
class Fleet:
    """All of it: pools sorted by name, services by address, protocol and port."""

    pools: tuple[Pool, ...] = ()
    services: tuple[Service, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data in inventory's shape, canonical: `parse(**fleet.as_dict()) == fleet`."""
        return {
            "pools": {pool.name: _pool_as_dict(pool) for pool in self.pools},
            "services": [asdict(service) for service in self.services],
        }


def parse(pools: Mapping[str, Any], services: Sequence[Any]) -> Fleet:
    """The fleet that `l4lb_pools` and `l4lb_services` describe.

    Integers may be written as strings, as templates give them. Raises ConfigError, and nothing
    else, for whatever YAML can hold.
    """
    of_pools, of_services = Reader(), Reader()
    found_services = _read_services(of_services, services, pools)
    owners = {service.address: i for i, service in reversed(list(found_services.items()))}
    found_pools = _read_pools(of_pools, pools, owners)
    mistakes = of_pools.mistakes + of_services.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    return Fleet(
        tuple(sorted(found_pools, key=lambda pool: pool.name)),
        tuple(sorted(found_services.values(), key=_service_order)),
    )


def _pool_as_dict(pool: Pool) -> dict[str, Any]:
    data = asdict(pool)
    del data["name"]
    data["backends"] = [asdict(backend) for backend in pool.backends]
    data["health_check"] = {k: v for k, v in data["health_check"].items() if v is not None}
    return data


def _service_order(service: Service) -> tuple[Any, ...]:
    return (*order(service.address), service.protocol, service.port)


def _read_pools(reader: Reader, value: Any, owners: Mapping[str, int]) -> list[Pool]:
    """owners: the index of the service that has an address."""
    pools = []
    for key, entry in reader.mapping("l4lb_pools", value).items():
        name = reader.name("l4lb_pools", key)
        if name is None:
            continue
        fields = reader.fields(f"l4lb_pools.{name}", entry, Pool, omit="name")
        if fields is not None:
            pools.append(_read_pool(fields, name, owners))
    return pools


def _read_pool(fields: Fields, name: str, owners: Mapping[str, int]) -> Pool:
    size, backends = _read_backends(fields, owners)
    settle = fields.integer("settle", 1, 7 * DAY, "seconds")
    udp_transition = fields.integer("udp_transition", 0, DAY, "seconds")
    if udp_transition > settle and "udp_transition" in fields:
        fields.refuse("udp_transition", udp_transition, f"must not exceed settle ({settle})")
    return Pool(
        name=name,
        backends=tuple(sorted(backends, key=lambda backend: order(backend.address))),
        algorithm=fields.choice("algorithm", ALGORITHMS),
        forwarding=fields.choice("forwarding", SUPPORTED_FORWARDING, "all that is supported yet"),
        tracking=fields.choice("tracking", TRACKING),
        udp_transition=min(udp_transition, settle),
        settle=settle,
        minimum_healthy=min(size, 1)
        if "minimum_healthy" not in fields
        else fields.integer("minimum_healthy", 0, size, "the number of backends"),
        health_check=_read_health_check(fields),
    )


def _read_backends(fields: Fields, owners: Mapping[str, int]) -> tuple[int, list[Backend]]:
    """How many were asked for, and those without a mistake."""
    entries = fields.sequence("backends")
    backends: list[Backend] = []
    seen: dict[str, int] = {}
    for i, entry in enumerate(entries):
        where = f"{fields.where}.backends[{i}]"
        own = fields.reader.fields(where, entry, Backend)
        if own is None:
            continue
        address = own.address("address")
        weight = own.integer("weight", 1, MAX_WEIGHT, "to stop new flows use state: draining")
        state = own.choice("state", STATES)
        if address is None:
            continue
        if address in seen:
            own.refuse("address", address, f"is the address of backends[{seen[address]}], too")
        if address in owners:  # its own packets would come back to it, for ever
            own.refuse("address", address, f"is the address of l4lb_services[{owners[address]}]")
        seen.setdefault(address, i)
        backends.append(Backend(address, weight, state))
    return len(entries), backends


def _read_health_check(fields: Fields) -> HealthCheck:
    default = HealthCheck()
    if "health_check" not in fields:
        return default
    own = fields.sub("health_check", HealthCheck)
    if own is None:
        return default
    kind = own.choice("type", HEALTH_CHECKS)
    path = own.text("path") if "path" in own else None
    if kind in ("http", "https"):
        path = "/" if path is None else path
        if not path.startswith("/"):
            own.refuse("path", path, "must begin with /")
    elif path is not None:
        own.refuse("path", path, "is only for type http or https")
    return HealthCheck(
        type=kind,
        port=own.integer("port", 1, 65535) if "port" in own else None,
        path=path,
        interval=own.integer("interval", 1, DAY, "seconds"),
        rise=own.integer("rise", 1, 1000),
        fall=own.integer("fall", 1, 1000),
    )


def _read_services(reader: Reader, value: Any, pools: Any) -> dict[int, Service]:
    """Services that have at least a name and an address, by their index in inventory."""
    services: dict[int, Service] = {}
    names: dict[str, int] = {}
    keys: dict[tuple[str, str, int], int] = {}
    known = sorted(filter(_is_text, pools)) if isinstance(pools, Mapping) else []
    for i, entry in enumerate(reader.sequence("l4lb_services", value)):
        fields = reader.fields(f"l4lb_services[{i}]", entry, Service)
        service = _read_service(fields, known) if fields is not None else None
        if fields is None or service is None:
            continue
        services[i] = service
        first = names.setdefault(service.name, i)
        if first != i:
            fields.refuse("name", service.name, f"is the name of l4lb_services[{first}], too")
        first = keys.setdefault(service.key, i) if fields.good("port", "protocol") else i
        if first != i:
            what = f"{service.address}, {service.protocol} port {service.port}"
            reader.add(f"l4lb_services[{i}]: {what} is l4lb_services[{first}] already")
    return services


def _read_service(fields: Fields, known: Sequence[str]) -> Service | None:
    name, address = fields.name("name"), fields.address("address")
    port = fields.integer("port", 0, 65535, "0 is any port")
    protocol = fields.choice("protocol", PROTOCOLS)
    pool = fields.text("pool")
    if fields.good("pool") and pool not in known:
        fields.refuse("pool", pool, f"is not one of l4lb_pools: {_some(known)}")
    if name is None or address is None:
        return None
    return Service(name, address, port, protocol, pool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _some(names: Sequence[str], limit: int = 10) -> str:
    more = ", ..." if len(names) > limit else ""
    return (", ".join(names[:limit]) or "there are none") + more
