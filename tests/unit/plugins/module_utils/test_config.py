# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory's contract: what is accepted, its canonical form, and every mistake's own message."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils._config import (
    Backend,
    ConfigError,
    Fleet,
    HealthCheck,
    Service,
    parse,
)

BACKENDS = [{"address": "192.0.2.71"}, {"address": "192.0.2.72", "weight": 50}]
WEB = {
    "name": "web",
    "address": "203.0.113.10",
    "port": 80,
    "protocol": "tcp",
    "pool": "web",
}


def mistakes(pools: Any, services: Any = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(pools, services)
    return caught.value.mistakes


def pool_mistakes(**pool: Any) -> list[str]:
    return mistakes({"web": pool})


def backend_mistakes(**backend: Any) -> list[str]:
    return pool_mistakes(backends=[BACKENDS[0], {"address": "192.0.2.72", **backend}])


def service_mistakes(*services: Any) -> list[str]:
    return mistakes({"web": {"backends": BACKENDS}}, services)


def test_defaults_are_filled() -> None:
    fleet = parse({"web": {"backends": [{"address": "192.0.2.71"}]}}, [WEB])
    (pool,) = fleet.pools
    assert pool.backends == (Backend("192.0.2.71", 100, "active"),)
    assert (pool.algorithm, pool.forwarding, pool.tracking) == ("maglev", "ipip", "adaptive")
    assert pool.identity == "five_tuple"
    assert (pool.udp_transition, pool.settle, pool.minimum_healthy) == (60, 3600, 1)
    assert pool.health_check == HealthCheck()
    assert fleet.services == (Service("web", "203.0.113.10", 80, "tcp", "web"),)


def test_order_and_spelling_do_not_matter() -> None:
    pools = {
        "b": {"backends": [{"address": "2001:DB8:0:0::1"}, *BACKENDS], "settle": "60"},
        "a": {},
    }
    turned = {
        "a": {"backends": []},
        "b": {"backends": [*reversed(BACKENDS), {"address": "2001:db8::1"}], "settle": 60},
    }
    six = {**WEB, "name": "web6", "address": "2001:db8:100::0010", "pool": "b", "port": "80"}
    four = {**WEB, "pool": "b"}
    fleet = parse(pools, [six, four])
    assert fleet == parse(turned, [four, {**six, "address": "2001:db8:100::10"}])
    assert [p.name for p in fleet.pools] == ["a", "b"]
    assert [s.name for s in fleet.services] == ["web", "web6"]
    addresses = [b.address for b in fleet.pools[1].backends]
    assert addresses == ["192.0.2.71", "192.0.2.72", "2001:db8::1"]


def test_canonical_form_round_trips() -> None:
    check = {"type": "http", "path": "/healthz", "port": "8080", "interval": 1, "rise": 1}
    pools = {"web": {"backends": BACKENDS, "health_check": check, "algorithm": "rendezvous"}}
    fleet = parse(pools, [WEB])
    data = fleet.as_dict()
    assert json.loads(json.dumps(data)) == data
    assert parse(**data) == fleet
    assert data["pools"]["web"]["backends"][1] == {
        "address": "192.0.2.72",
        "weight": 50,
        "state": "active",
    }


def test_nothing_is_a_fleet() -> None:
    assert parse({}, []) == Fleet()


def test_pool_without_backends_needs_none_healthy() -> None:
    assert parse({"web": {}}, [WEB]).pools[0].minimum_healthy == 0


def test_short_settle_shortens_the_default_udp_transition() -> None:
    assert parse({"web": {"settle": 5}}, []).pools[0].udp_transition == 5


def test_http_check_asks_for_the_root() -> None:
    assert parse({"web": {"health_check": {"type": "http"}}}, []).pools[0].health_check.path == "/"


def test_same_address_and_port_with_another_protocol_is_another_service() -> None:
    services = [WEB, {**WEB, "name": "udp", "protocol": "udp"}, {**WEB, "name": "any", "port": 0}]
    assert len(parse({"web": {}}, services).services) == 3


@pytest.mark.parametrize(
    ("pools", "services", "expected"),
    [
        ([], {}, ["l4lb_pools: [] is not a dictionary", "l4lb_services: {} is not a list"]),
        ({}, "web", ["l4lb_services: 'web' is not a list"]),
        (None, None, ["l4lb_pools: null is not a dictionary", "l4lb_services: null is not a list"]),
        ({"web": None}, [], ["l4lb_pools.web: null is not a dictionary"]),
        ({}, [7], ["l4lb_services[0]: 7 is not a dictionary"]),
    ],
)
def test_wrong_types_at_the_top(pools: Any, services: Any, expected: list[str]) -> None:
    assert mistakes(pools, services) == expected


@pytest.mark.parametrize("name", ["Web", "", "-web", "a b", "w" * 64, "web\n", 5, None, True])
def test_pool_names(name: Any) -> None:
    (mistake,) = mistakes({name: {}})
    assert mistake.startswith("l4lb_pools: ")
    assert "is not a name: a-z 0-9 _ . -" in mistake


@pytest.mark.parametrize(
    ("weight", "value"),
    [
        (0, "0"),
        (1001, "1001"),
        ("0", "'0'"),
        (-5, "-5"),
        (True, "True"),
        (1.0, "1.0"),
        ("a", "'a'"),
        (None, "null"),
        (" 5", "' 5'"),
        ("1_0", "'1_0'"),
        ("٣", "'٣'"),
    ],
)
def test_weights(weight: Any, value: str) -> None:
    assert backend_mistakes(weight=weight) == [
        f"l4lb_pools.web.backends[1].weight: {value} is not an integer from 1 to 1000"
        " (to stop new flows use state: draining)"
    ]


@pytest.mark.parametrize("weight", [1, 1000, "1", "1000"])
def test_weights_at_the_limits(weight: Any) -> None:
    fleet = parse({"web": {"backends": [{"address": "192.0.2.71", "weight": weight}]}}, [])
    assert fleet.pools[0].backends[0].weight == int(weight)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.0.2.1/32", "has a prefix: give the address alone"),
        ("2001:db8::1/128", "has a prefix: give the address alone"),
        ("0.0.0.0", "is an unspecified address"),
        ("::", "is an unspecified address"),
        ("127.0.0.1", "is a loopback address"),
        ("::1", "is a loopback address"),
        ("169.254.1.1", "is a link-local address"),
        ("fe80::1", "is a link-local address"),
        ("224.0.0.1", "is a multicast address"),
        ("ff02::1", "is a multicast address"),
        ("255.255.255.255", "is a reserved address"),
        ("::ffff:192.0.2.1", "is an IPv4-mapped address: write it as IPv4"),
        ("10.1", "is not an IPv4 or IPv6 address"),
        ("fe80::1%eth0", "is not an IPv4 or IPv6 address"),
        ("192.0.2.256", "is not an IPv4 or IPv6 address"),
        ("real1.example", "is not an IPv4 or IPv6 address"),
        ("", "is not an IPv4 or IPv6 address"),
        ("\x00", "is not an IPv4 or IPv6 address"),
    ],
)
def test_addresses(address: str, why: str) -> None:
    expected = f"{address!r} {why}"
    assert backend_mistakes(address=address) == [f"l4lb_pools.web.backends[1].address: {expected}"]
    assert service_mistakes({**WEB, "address": address}) == [
        f"l4lb_services[0].address: {expected}"
    ]


@pytest.mark.parametrize("address", [3221225985, None, ["192.0.2.1"], True])
def test_addresses_are_text(address: Any) -> None:
    (mistake,) = backend_mistakes(address=address)
    assert mistake.endswith("is not an IPv4 or IPv6 address")


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ({"algorithm": "random"}, ".algorithm: 'random' is not one of: maglev, rendezvous"),
        (
            {"forwarding": "geneve"},
            ".forwarding: 'geneve' is not one of: ipip, l2, gue",
        ),
        (
            {"forwarding": "l2", "health_check": {"type": "tcp"}},
            ".health_check.via: tunnel needs one, and the pool has forwarding: l2; set via: direct",
        ),
        (
            {"identity": "client"},
            ".identity: 'client' is not one of: five_tuple, without_source_port, source_address,"
            " destination_port",
        ),
        ({"tracking": False}, ".tracking: False is not one of: adaptive, always, never"),
        ({"settle": 0}, ".settle: 0 is not an integer from 1 to 604800 (seconds)"),
        (
            {"settle": 10, "udp_transition": 11},
            ".udp_transition: 11 must not exceed settle (10)",
        ),
        (
            {"minimum_healthy": 1},
            ".minimum_healthy: 1 is not an integer from 0 to 0 (the number of backends)",
        ),
        ({"backends": "192.0.2.1"}, ".backends: '192.0.2.1' is not a list"),
        ({"backends": ["192.0.2.1"]}, ".backends[0]: '192.0.2.1' is not a dictionary"),
        ({"backends": [{}]}, ".backends[0].address: is missing"),
        (
            {"helth_check": {}},
            ": unknown key 'helth_check'; known are algorithm, all_down, backends, forwarding,"
            " health_check, identity, max_unhealthy, minimum_healthy, quic, settle, slow_start,"
            " state, tracking, udp_transition",
        ),
        ({"health_check": "http"}, ".health_check: 'http' is not a dictionary"),
        (
            {"health_check": {"type": "ping"}},
            ".health_check.type: 'ping' is not one of: none, tcp, http, https, dns, udp, command",
        ),
        (
            {"health_check": {"type": "tcp", "path": "/"}},
            ".health_check.path: '/' is only for type http or https",
        ),
        (
            {"health_check": {"type": "http", "path": "x"}},
            ".health_check.path: 'x' must begin with /",
        ),
        (
            {"health_check": {"port": 0}},
            ".health_check.port: 0 is not an integer from 1 to 65535",
        ),
    ],
)
def test_pools(pool: dict[str, Any], expected: str) -> None:
    assert pool_mistakes(**pool) == [f"l4lb_pools.web{expected}"]


def test_state() -> None:
    assert backend_mistakes(state="drain") == [
        "l4lb_pools.web.backends[1].state: 'drain' is not one of: active, draining, disabled"
    ]


def test_backend_twice_however_it_is_written() -> None:
    backends = [{"address": "2001:db8::1"}, {"address": "2001:DB8:0::1"}]
    assert pool_mistakes(backends=backends) == [
        "l4lb_pools.web.backends[1].address: '2001:db8::1' is the address of backends[0], too"
    ]


def test_backend_with_the_address_of_a_service() -> None:
    backends = [{"address": "203.0.113.10"}]
    assert mistakes({"web": {"backends": backends}}, [{**WEB, "port": "x"}]) == [
        "l4lb_pools.web.backends[0].address: '203.0.113.10' is the address of l4lb_services[0]",
        "l4lb_services[0].port: 'x' is not an integer from 0 to 65535 (0 is any port)",
    ]


def test_service_twice_names_both() -> None:
    assert service_mistakes(WEB, {**WEB, "name": "two"}, {**WEB, "port": 81}) == [
        "l4lb_services[1]: 203.0.113.10, tcp port 80 is l4lb_services[0] already",
        "l4lb_services[2].name: 'web' is the name of l4lb_services[0], too",
    ]


@pytest.mark.parametrize("key", ["name", "address", "port", "protocol", "pool"])
def test_service_needs_all_its_keys(key: str) -> None:
    service = {k: v for k, v in WEB.items() if k != key}
    assert service_mistakes(service) == [f"l4lb_services[0].{key}: is missing"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"port": 65536}, ".port: 65536 is not an integer from 0 to 65535 (0 is any port)"),
        ({"protocol": "TCP"}, ".protocol: 'TCP' is not one of: tcp, udp, sctp"),
        ({"pool": "wbe"}, ".pool: 'wbe' is not one of l4lb_pools: web"),
        ({"pool": 5}, ".pool: 5 is not text"),
        (
            {"vip": "x"},
            ": unknown key 'vip'; known are address, allow, name, new_flows, pool, port, protocol, "
            "state",
        ),
    ],
)
def test_services(change: dict[str, Any], expected: str) -> None:
    assert service_mistakes({**WEB, **change}) == [f"l4lb_services[0]{expected}"]


@pytest.mark.parametrize(
    "check", [{}, {"type": "command", "command": ["true"]}, {"type": "tcp", "port": 8080}]
)
def test_backends_of_sctp_are_asked_elsewhere(check: dict[str, Any]) -> None:
    fleet = parse({"web": {"health_check": check}}, [{**WEB, "protocol": "sctp"}])
    assert fleet.services[0].protocol == "sctp"


@pytest.mark.parametrize("port", [0, 80])
def test_no_health_check_asks_at_an_sctp_port(port: int) -> None:
    pools = {"web": {"health_check": {"type": "http"}}}
    assert mistakes(pools, [{**WEB, "protocol": "sctp", "port": port}]) == [
        "l4lb_services[0].protocol: the health check of its pool (http) cannot ask at an SCTP port:"
        " set l4lb_pools.web.health_check.port, where the backends answer http, or use type "
        "command or none"
    ]


def test_all_mistakes_at_once() -> None:
    pools = {"web": {"backends": [{"address": "x", "weight": 0}], "settle": -1}, "Bad": {}}
    assert len(mistakes(pools, [{**WEB, "port": -1, "pool": "none"}])) == 6


def test_message_stays_short() -> None:
    assert all(len(m) < 250 for m in pool_mistakes(settle=16**9000, algorithm="x" * 10**6))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.dates()
    | st.binary(max_size=4)
)


def is_nan(value: object) -> bool:
    """A key that is never found again."""
    return isinstance(value, float) and math.isnan(value)


WORDS = st.sampled_from(
    """l4lb name address port protocol pool web tcp udp backends weight state active settle 80
    health_check type http path / minimum_healthy 192.0.2.1 2001:db8::1 algorithm maglev""".split()
)
YAML = st.recursive(
    SCALARS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(WORDS | SCALARS.filter(lambda key: not is_nan(key)), inner, max_size=5)
    ),
    max_leaves=20,
)
BACKEND = st.dictionaries(st.sampled_from(["address", "weight", "state"]), YAML, max_size=3)
POOL = st.dictionaries(WORDS, YAML | st.lists(BACKEND, max_size=3), max_size=6)
SERVICE = st.fixed_dictionaries({}, optional=dict.fromkeys(WEB, YAML))


@settings(max_examples=300, deadline=None)
@given(YAML | st.dictionaries(WORDS, POOL | YAML, max_size=3), YAML | st.lists(SERVICE, max_size=4))
def test_whatever_yaml_holds_is_a_fleet_or_a_config_error(pools: Any, services: Any) -> None:
    try:
        fleet = parse(pools, services)
    except ConfigError as error:
        assert error.mistakes
        assert all(m.startswith(("l4lb_pools", "l4lb_services")) for m in error.mistakes)
    else:
        assert parse(**fleet.as_dict()) == fleet


def addresses(version: int) -> st.SearchStrategy[str]:
    first = 0x0A000000 if version == 4 else 0x20010DB8 << 96
    return st.integers(0, 40).map(lambda n: (first + n, version)).map(_text)


def _text(address: tuple[int, int]) -> str:
    number, version = address
    if version == 4:
        return ".".join(map(str, number.to_bytes(4, "big")))
    return ":".join(f"{number >> shift & 0xFFFF:04X}" for shift in range(112, -1, -16))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(addresses(4) | addresses(6), unique=True, max_size=12),
    st.randoms(use_true_random=False),
    st.integers(1, 1000),
)
def test_canonical_form_depends_on_no_order(members: list[str], shuffle: Any, weight: int) -> None:
    backends = [{"address": address, "weight": str(weight)} for address in members]
    fleet = parse({"web": {"backends": backends}}, [WEB])
    shuffle.shuffle(backends)
    again = parse({"web": {"backends": backends}}, [WEB])
    assert json.dumps(again.as_dict()) == json.dumps(fleet.as_dict())
    assert parse(**fleet.as_dict()) == fleet
