# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What inventory asks for: `l4lb_pools` and `l4lb_services`, validated and canonical.

Private to the collection. `parse` is the only way in. It reports all mistakes at once, each with
the variable, the entry, the value found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._address import order
from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import (
    DAY,
    NO_CHECK,
    HealthCheck,
    read_health_check,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._quic import (
    Quic,
    read_quic,
    read_server_id,
    require_server_ids,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._rates import MAX_RATE
from ansible_collections.l4lb.xdp.plugins.module_utils._reader import Fields, Reader, few

ALGORITHMS = ("maglev", "rendezvous")
IDENTITIES = ("five_tuple", "without_source_port", "source_address", "destination_port")
FORWARDING = ("ipip", "l2", "gue")
TRACKING = ("adaptive", "always", "never")
STATES = ("active", "draining", "disabled")
PRESENCE = ("present", "absent")
PROTOCOLS = ("tcp", "udp", "sctp")
ALL_DOWN = ("withdraw", "fail_open")

MAX_WEIGHT = 1000


class ConfigError(L4lbError):
    """Inventory has mistakes; `mistakes` has one line for each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = list(mistakes)


@dataclass(frozen=True)
class Backend:
    """One real server of a pool. server_id: of its connection ids, where the pool has QUIC."""

    address: str
    weight: int = 100
    state: str = "active"
    server_id: int | None = None


@dataclass(frozen=True)
class Pool:
    """Backends, sorted by address, and how flows are spread over them. Times in seconds.

    max_unhealthy: per cent of the backends that health may take out. all_down: what becomes of the
    services when no backend is healthy. slow_start: how long a recovered one's weight rises.
    """

    name: str
    backends: tuple[Backend, ...] = ()
    algorithm: str = "maglev"
    identity: str = "five_tuple"
    forwarding: str = "ipip"
    tracking: str = "adaptive"
    udp_transition: int = 60
    settle: int = 3600
    minimum_healthy: int = 1
    all_down: str = "withdraw"
    max_unhealthy: int = 100
    slow_start: int = 0
    health_check: HealthCheck = NO_CHECK
    quic: Quic | None = None


@dataclass(frozen=True)
class Service:
    """What clients connect to. port 0: any port. allow: prefixes of the clients, empty for
    everybody. new_flows: at most so many a second and node, 0 for as many as come.
    """

    name: str
    address: str
    port: int
    protocol: str
    pool: str
    allow: tuple[str, ...] = ()
    new_flows: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells services apart on the wire."""
        return self.address, self.protocol, self.port


@dataclass(frozen=True)
class Fleet:
    """All of it: pools sorted by name, services by address, protocol and port; deny: prefixes from
    which no service takes a packet, by address.
    """

    pools: tuple[Pool, ...] = ()
    services: tuple[Service, ...] = ()
    deny: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data in inventory's shape, canonical: `parse(**fleet.as_dict()) == fleet`."""
        return {
            "pools": {pool.name: _pool_as_dict(pool) for pool in self.pools},
            "services": [_service_as_dict(service) for service in self.services],
            **({"deny": list(self.deny)} if self.deny else {}),
        }


@dataclass(frozen=True)
class Change:
    """Entries to be there, and those to be gone: pools by name, services by name or key."""

    fleet: Fleet
    absent_pools: frozenset[str] = frozenset()
    absent_services: frozenset[str | tuple[str, str, int]] = frozenset()


def parse(pools: Mapping[str, Any], services: Sequence[Any], deny: Sequence[Any] = ()) -> Fleet:
    """The fleet that `l4lb_pools`, `l4lb_services` and `l4lb_deny` describe, less what is absent.

    Integers may be written as strings, as templates give them. Raises ConfigError, and nothing
    else, for whatever YAML can hold.
    """
    return parse_change(pools, services, deny=deny).fleet


def parse_change(
    pools: Mapping[str, Any],
    services: Sequence[Any],
    known: Iterable[str] = (),
    deny: Sequence[Any] = (),
) -> Change:
    """As `parse`, telling also what has `state: absent`. known: names of pools that are there
    besides.
    """
    of_pools, of_services = Reader(), Reader()
    present, absent = _read_services(of_services, services, _usable_pools(pools, known))
    owners = {service.address: i for i, service in reversed(list(present.items()))}
    found_pools, absent_pools = _read_pools(of_pools, pools, owners)
    by_name = {pool.name: pool for pool in found_pools}
    for i, service in present.items():
        _require_check_port(of_services, i, service, by_name.get(service.pool))
    denied = _read_deny(of_services, deny)
    mistakes = of_pools.mistakes + of_services.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    fleet = Fleet(
        tuple(sorted(found_pools, key=lambda pool: pool.name)),
        tuple(sorted(present.values(), key=_service_order)),
        tuple(denied),
    )
    return Change(fleet, frozenset(absent_pools), frozenset(absent))


def _require_check_port(reader: Reader, i: int, service: Service, pool: Pool | None) -> None:
    """A health check asks at its own port or at the service's: one of them must be one, and not an
    SCTP one.
    """
    if pool is None or pool.health_check.port or pool.health_check.type in ("none", "command"):
        return
    kind, remedy = pool.health_check.type, f"set l4lb_pools.{pool.name}.health_check.port"
    if service.protocol == "sctp":
        reader.add(
            f"l4lb_services[{i}].protocol: the health check of its pool ({kind}) cannot ask at an "
            f"SCTP port: {remedy}, where the backends answer {kind}, or use type command or none"
        )
    elif not service.port:
        reader.add(
            f"l4lb_services[{i}].port: 0 is any port, and the health check of its pool needs one: "
            f"{remedy}"
        )


def _pool_as_dict(pool: Pool) -> dict[str, Any]:
    data = dict(vars(pool))
    del data["name"]
    data["backends"] = [
        {key: value for key, value in vars(backend).items() if value is not None}
        for backend in pool.backends
    ]
    data["health_check"] = pool.health_check.as_dict()
    if pool.quic is None:
        del data["quic"]
    else:
        data["quic"] = dict(vars(pool.quic))
    return data


def _service_as_dict(service: Service) -> dict[str, Any]:
    """Without guards that it does not have."""
    data = dict(vars(service))
    guards = {"allow": list(data.pop("allow")), "new_flows": data.pop("new_flows")}
    return {**data, **{key: value for key, value in guards.items() if value}}


def _service_order(service: Service) -> tuple[Any, ...]:
    return (*order(service.address), service.protocol, service.port)


def _read_pools(
    reader: Reader, value: Any, owners: Mapping[str, int]
) -> tuple[list[Pool], list[str]]:
    """Pools, and the names of those that are absent. owners: the index of the service that has an
    address.
    """
    pools, absent = [], []
    for key, entry in reader.mapping("l4lb_pools", value).items():
        name = reader.name("l4lb_pools", key)
        if name is None:
            continue
        fields = reader.fields(f"l4lb_pools.{name}", entry, Pool, "name", _presence(entry))
        if fields is None:
            continue
        if fields.choice("state", PRESENCE) == "absent":
            absent.append(name)
        else:
            pools.append(_read_pool(fields, name, owners))
    return pools, absent


def _presence(entry: Any) -> str:
    """The state that an entry itself has."""
    gone = isinstance(entry, Mapping) and entry.get("state") == "absent"
    return "absent" if gone else "present"


def _read_pool(fields: Fields, name: str, owners: Mapping[str, int]) -> Pool:
    quic = read_quic(fields)
    size, backends = _read_backends(fields, owners, quic)
    settle = fields.integer("settle", 1, 7 * DAY, "seconds")
    udp_transition = fields.integer("udp_transition", 0, DAY, "seconds")
    if udp_transition > settle and "udp_transition" in fields:
        fields.refuse("udp_transition", udp_transition, f"must not exceed settle ({settle})")
    forwarding = fields.choice("forwarding", FORWARDING)
    health_check = read_health_check(fields)
    if forwarding == "l2" and health_check.type != "none" and health_check.via == "tunnel":
        fields.reader.add(
            f"{fields.where}.health_check.via: tunnel needs one, and the pool has forwarding: l2; "
            "set via: direct"
        )
    return Pool(
        name=name,
        backends=tuple(sorted(backends, key=lambda backend: order(backend.address))),
        algorithm=fields.choice("algorithm", ALGORITHMS),
        identity=fields.choice("identity", IDENTITIES),
        forwarding=forwarding,
        tracking=fields.choice("tracking", TRACKING),
        udp_transition=min(udp_transition, settle),
        settle=settle,
        minimum_healthy=min(size, 1)
        if "minimum_healthy" not in fields
        else fields.integer("minimum_healthy", 0, size, "the number of backends"),
        all_down=fields.choice("all_down", ALL_DOWN),
        max_unhealthy=fields.integer("max_unhealthy", 0, 100, "per cent of the backends"),
        slow_start=fields.integer("slow_start", 0, DAY, "seconds"),
        health_check=health_check,
        quic=quic,
    )


def _read_backends(
    fields: Fields, owners: Mapping[str, int], quic: Quic | None
) -> tuple[int, list[Backend]]:
    """How many were asked for, and those without a mistake."""
    entries = fields.sequence("backends")
    backends: list[Backend] = []
    seen: dict[str, int] = {}
    server_ids: list[tuple[int, int | None]] = []
    for i, entry in enumerate(entries):
        where = f"{fields.where}.backends[{i}]"
        own = fields.reader.fields(where, entry, Backend)
        if own is None:
            continue
        address = own.address("address")
        weight = own.integer("weight", 1, MAX_WEIGHT, "to stop new flows use state: draining")
        state = own.choice("state", STATES)
        server_id = read_server_id(own)
        if server_id is not None or "server_id" not in own:
            server_ids.append((i, server_id))
        if address is None:
            continue
        if address in seen:
            own.refuse("address", address, f"is the address of backends[{seen[address]}], too")
        if address in owners:  # its own packets would come back to it, for ever
            own.refuse("address", address, f"is the address of l4lb_services[{owners[address]}]")
        seen.setdefault(address, i)
        backends.append(Backend(address, weight, state, server_id))
    require_server_ids(fields, quic, server_ids)
    return len(entries), backends


def _read_services(
    reader: Reader, value: Any, known: Sequence[str]
) -> tuple[dict[int, Service], list[str | tuple[str, str, int]]]:
    """Services that have at least a name and an address, by their index in inventory; and names
    and keys of those that are absent.
    """
    services: dict[int, Service] = {}
    names: dict[str, int] = {}
    keys: dict[tuple[str, str, int], int] = {}
    absent: dict[str | tuple[str, str, int], int] = {}
    for i, entry in enumerate(reader.sequence("l4lb_services", value)):
        where = f"l4lb_services[{i}]"
        fields = reader.fields(where, entry, Service, state=_presence(entry))
        if fields is None:
            continue
        if fields.choice("state", PRESENCE) == "absent":
            absent.update(dict.fromkeys(_read_absent(fields), i))
            continue
        service = _read_service(fields, known)
        if service is None:
            continue
        services[i] = service
        first = names.setdefault(service.name, i)
        if first != i:
            fields.refuse("name", service.name, f"is the name of l4lb_services[{first}], too")
        first = keys.setdefault(service.key, i) if fields.good("port", "protocol") else i
        if first != i:
            reader.add(f"{where}: {_key_text(service.key)} is l4lb_services[{first}] already")
    for what, i in absent.items():
        held = keys.get(what) if isinstance(what, tuple) else names.get(what)
        if held is not None:
            text = _key_text(what) if isinstance(what, tuple) else what
            reader.add(f"l4lb_services[{i}]: {text} is absent here, present in [{held}]")
    return services, list(absent)


def _usable_pools(pools: Any, known: Iterable[str]) -> list[str]:
    """Names of pools that a service may name."""
    given = pools if isinstance(pools, Mapping) else {}
    found = {name for name, entry in given.items() if _presence(entry) == "present"}
    return sorted(
        name
        for name in {*found, *known}
        if isinstance(name, str) and (name in found or name not in given)
    )


def _read_absent(fields: Fields) -> list[str | tuple[str, str, int]]:
    """By what a service that shall be gone is known: its name, or its key where it has none."""
    known: list[str | tuple[str, str, int]] = []
    name, address = fields.name("name"), fields.address("address")
    port = fields.integer("port", 0, 65535, "0 is any port")
    protocol = fields.choice("protocol", PROTOCOLS)
    if name is not None:
        known.append(name)
    elif address is not None and fields.good("port", "protocol"):
        known.append((address, protocol, port))
    if not known:
        fields.reader.add(f"{fields.where}: gives neither name nor address, protocol and port")
    return known


def _read_service(fields: Fields, known: Sequence[str]) -> Service | None:
    name, address = fields.name("name"), fields.address("address")
    port = fields.integer("port", 0, 65535, "0 is any port")
    protocol = fields.choice("protocol", PROTOCOLS)
    pool = fields.text("pool")
    if fields.good("pool") and pool not in known:
        fields.refuse("pool", pool, f"is not one of l4lb_pools: {few(known)}")
    if name is None or address is None:
        return None
    allow = _read_allow(fields, address)
    return Service(name, address, port, protocol, pool, allow, _read_new_flows(fields, protocol))


def _read_allow(fields: Fields, address: str) -> tuple[str, ...]:
    if "allow" not in fields:
        return ()
    where, value = f"{fields.where}.allow", fields.value("allow")
    prefixes = fields.reader.prefixes(where, value)
    if value == []:
        fields.refuse("allow", value, "lets nobody in: leave it out to let everybody in")
    for other in [each for each in prefixes if (":" in each) != (":" in address)][:1]:
        fields.refuse("allow", other, f"is of another family than the address, {address}")
    return tuple(prefixes)


def _read_new_flows(fields: Fields, protocol: str) -> int:
    new_flows = fields.integer("new_flows", 0, MAX_RATE, "a second and node; 0 is no limit")
    if new_flows and protocol == "udp":
        fields.refuse("new_flows", new_flows, "is not for udp, whose packets show no beginning")
    return new_flows


def _read_deny(reader: Reader, value: Any) -> list[str]:
    prefixes = reader.prefixes("l4lb_deny", value)
    for each in prefixes:
        if each.endswith("/0"):
            reader.refuse("l4lb_deny", each, "is everybody: withdraw the services instead")
    return prefixes


def _key_text(key: tuple[str, str, int]) -> str:
    address, protocol, port = key
    return f"{address}, {protocol} port {port}"
