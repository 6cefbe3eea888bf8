# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks in inventory: defaults by type, canonical form, and every mistake's own message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _plan
from ansible_collections.l4lb.xdp.plugins.module_utils._config import (
    ConfigError,
    HealthCheck,
    Pool,
    parse,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import KEYS, status_ranges
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import FakeKernel

BACKENDS = [{"address": "192.0.2.71"}, {"address": "192.0.2.72", "weight": 50}]
SERVICE = {"name": "web", "address": "203.0.113.10", "port": 80, "protocol": "tcp", "pool": "web"}

EVERY_KIND: list[dict[str, Any]] = [
    {"type": "none"},
    {"type": "tcp", "via": "direct", "port": 81, "interval": 10, "timeout": 10},
    {"type": "http", "path": "/x?y=%20", "host": "www.example.net", "status": "200,301-303"},
    {"type": "https", "host": "192.0.2.5", "verify": True, "body": "^ok$"},
    {"type": "dns", "query": "_sip._udp.example.net.", "record": "SRV"},
    {"type": "udp", "send": "\x00\xffping", "expect": "pong|\xff"},
    {"type": "command", "command": ["/usr/lib/check", "--fast", ""], "rise": 1, "fall": 1},
]


def pool_of(**fields: Any) -> Pool:
    (pool,) = parse({"web": {"backends": BACKENDS, **fields}}, [SERVICE]).pools
    return pool


def check_of(**check: Any) -> HealthCheck:
    return pool_of(health_check=check).health_check


def mistakes_of(**check: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_of(**check)
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", {}),
        ("tcp", {}),
        ("http", {"path": "/", "status": "200-399"}),
        ("https", {"path": "/", "status": "200-399", "verify": False}),
        ("dns", {"query": ".", "record": "NS"}),
        ("udp", {"send": ""}),
    ],
)
def test_defaults(kind: str, expected: dict[str, Any]) -> None:
    check = check_of(type=kind)
    assert check == HealthCheck(type=kind, **expected)
    assert (check.via, check.port, check.interval, check.timeout) == ("tunnel", None, 2, 1)
    assert (check.rise, check.fall) == (2, 3)


def test_a_command_is_direct() -> None:
    assert check_of(type="command", command=["true"]) == HealthCheck(
        type="command", via="direct", command=("true",)
    )


@pytest.mark.parametrize("check", EVERY_KIND, ids=lambda check: check["type"])
def test_canonical_form_round_trips(check: dict[str, Any]) -> None:
    fleet = parse({"web": {"backends": BACKENDS, "health_check": check}}, [SERVICE])
    data = fleet.as_dict()
    assert json.loads(json.dumps(data)) == data
    assert parse(**data) == fleet
    written = data["pools"]["web"]["health_check"]
    assert {key: written[key] for key in check} == check
    foreign = {key for keys in KEYS.values() for key in keys} - set(KEYS.get(check["type"], ()))
    assert not foreign & set(written)


@pytest.mark.parametrize(
    "check",
    [
        {"type": "none", "interval": 2, "rise": 2, "fall": 3},
        {"type": "http", "interval": 2, "rise": 2, "fall": 3, "path": "/healthz", "port": 8080},
    ],
)
def test_what_was_applied_before_there_was_an_agent_is_understood(check: dict[str, Any]) -> None:
    applied = {"backends": BACKENDS, "minimum_healthy": 1, "health_check": check}
    (pool,) = parse({"web": applied}, [SERVICE]).pools
    assert (pool.all_down, pool.max_unhealthy, pool.slow_start) == ("withdraw", 100, 0)
    assert pool.health_check.timeout == 1


def test_status_is_canonical() -> None:
    assert check_of(type="http", status=" 200 - 299, 401").status == "200-299,401"
    assert check_of(type="http", status=204).status == "204"
    assert status_ranges("200-299, 401") == [(200, 299), (401, 401)]


def test_values_as_templates_give_them() -> None:
    check = check_of(type="https", host="a.example", verify="True", timeout="2", interval="2")
    assert (check.verify, check.timeout, check.interval) == (True, 2, 2)


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (
            {"timeout": 3},
            ".timeout: 3 is not an integer from 1 to 2 (seconds, at most the interval)",
        ),
        (
            {"timeout": 0},
            ".timeout: 0 is not an integer from 1 to 2 (seconds, at most the interval)",
        ),
        ({"interval": 0}, ".interval: 0 is not an integer from 1 to 86400 (seconds)"),
        ({"fall": 0}, ".fall: 0 is not an integer from 1 to 1000"),
        ({"via": "tunel"}, ".via: 'tunel' is not one of: tunnel, direct"),
        (
            {"type": "command", "command": ["true"], "via": "tunnel"},
            ".via: 'tunnel' is not possible for type command, which is always direct",
        ),
        ({"type": "tcp", "path": "/"}, ".path: '/' is only for type http or https"),
        ({"type": "none", "body": "x"}, ".body: 'x' is only for type http or https"),
        ({"type": "http", "verify": False}, ".verify: False is only for type https"),
        ({"type": "http", "query": "."}, ".query: '.' is only for type dns"),
        ({"type": "dns", "expect": "x"}, ".expect: 'x' is only for type udp"),
        ({"type": "udp", "command": ["x"]}, ".command: ['x'] is only for type command"),
        ({"type": "http", "path": "x"}, ".path: 'x' must begin with /"),
        (
            {"type": "http", "path": "/a b"},
            ".path: '/a b' is not a path as a request has it: printable ASCII, no spaces "
            "(write %20), up to 2000",
        ),
        (
            {"type": "http", "host": "a:80"},
            ".host: 'a:80' is not a name in ASCII or an address, without a port",
        ),
        (
            {"type": "http", "host": "a\r\nX: y"},
            ".host: 'a\\r\\nX: y' is not a name in ASCII or an address, without a port",
        ),
        (
            {"type": "https", "verify": True},
            ".verify: True needs host: the name that the certificate must have",
        ),
        ({"type": "https", "verify": 1, "host": "a"}, ".verify: 1 is not true or false"),
        (
            {"type": "http", "status": "2xx"},
            ".status: '2xx' is not codes from 200 to 599 and ranges of them, with commas: "
            "200-299,401",
        ),
        (
            {"type": "http", "status": "399-200"},
            ".status: '399-200' has a range that ends before it begins: 399-200",
        ),
        ({"type": "http", "status": [200]}, '.status: [200] is not text, such as "200-299,401"'),
        (
            {"type": "http", "body": "("},
            ".body: '(' is not a regular expression: missing ), unterminated subpattern at "
            "position 0",
        ),
        (
            {"type": "udp", "expect": "*"},
            ".expect: '*' is not a regular expression: nothing to repeat at position 0",
        ),
        (
            {"type": "http", "body": "(a+)+$"},
            ".body: '(a+)+$' repeats a group that ends with a repeat, and may take for ever to "
            "search: write (?:a+)+ as a+",
        ),
        ({"type": "http", "body": ""}, ".body: '' is not text"),
        ({"type": "dns", "query": "a..b"}, ".query: 'a..b' is not a domain name in ASCII"),
        ({"type": "udp", "send": 5}, ".send: 5 is not text"),
        (
            {"type": "udp", "send": "\u0142"},
            '.send: \'\u0142\' is one byte a character, "\\x00" to "\\xff"',
        ),
        ({"type": "command"}, ".command: is missing: give the program and its arguments"),
        (
            {"type": "command", "command": []},
            ".command: [] is empty: give the program and its arguments",
        ),
        ({"type": "command", "command": "true"}, ".command: 'true' is not a list"),
        (
            {"type": "command", "command": ["sleep", 5]},
            ".command[1]: 5 is not a word: quote what is not text",
        ),
        (
            {"type": "command", "command": [""]},
            ".command[0]: '' is not a word: quote what is not text",
        ),
    ],
)
def test_mistakes(check: dict[str, Any], expected: str) -> None:
    assert mistakes_of(**check) == [f"l4lb_pools.web.health_check{expected}"]


def test_record_is_a_known_one() -> None:
    (mistake,) = mistakes_of(type="dns", record="ns")
    assert mistake.startswith(
        "l4lb_pools.web.health_check.record: 'ns' is not one of: A, AAAA, ANY, CAA,"
    )


def test_a_wrong_type_is_the_only_mistake() -> None:
    (mistake,) = mistakes_of(type="htpp", path="/healthz", status="200")
    assert ".type: 'htpp' is not one of: none, tcp, http," in mistake


@pytest.mark.parametrize("name", ["a" * 64, ".a", "a.", "..", "::g", "a\n", "b\u00fccher.example"])
def test_hosts_that_are_none(name: str) -> None:
    (mistake,) = mistakes_of(type="http", host=name)
    assert mistake.endswith("is not a name in ASCII or an address, without a port")


@pytest.mark.parametrize("name", ["a" * 63, "_dmarc.example.net", "192.0.2.1", "2001:db8::1"])
def test_hosts(name: str) -> None:
    assert check_of(type="http", host=name).host == name


def test_a_datagram_fits_into_a_packet() -> None:
    (mistake,) = mistakes_of(type="udp", send="x" * 1201)
    assert mistake.endswith("is longer than 1200 bytes")
    assert check_of(type="udp", send="x" * 1200).send == "x" * 1200


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"all_down": "stay"}, ".all_down: 'stay' is not one of: withdraw, fail_open"),
        (
            {"max_unhealthy": 101},
            ".max_unhealthy: 101 is not an integer from 0 to 100 (per cent of the backends)",
        ),
        ({"slow_start": -1}, ".slow_start: -1 is not an integer from 0 to 86400 (seconds)"),
    ],
)
def test_mistakes_of_a_pools_policy(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pool_of(**fields)
    assert caught.value.mistakes == [f"l4lb_pools.web{expected}"]


def test_policy_of_a_pool_is_read() -> None:
    pool = pool_of(all_down="fail_open", max_unhealthy="50", slow_start=30)
    assert (pool.all_down, pool.max_unhealthy, pool.slow_start) == ("fail_open", 50, 30)


@pytest.mark.parametrize("check", EVERY_KIND, ids=lambda check: check["type"])
def test_the_kernel_does_not_know_how_health_is_asked(check: dict[str, Any]) -> None:
    kernel = FakeKernel()
    plain = parse({"web": {"backends": BACKENDS}}, [SERVICE])
    _plan.apply(
        _plan.make(plain, kernel.actual(), kernel.ring, kernel.named_by_flows, 1), kernel, lambda: 1
    )
    policy = {"all_down": "fail_open", "max_unhealthy": 5, "slow_start": 9, "minimum_healthy": 0}
    asked = parse({"web": {"backends": BACKENDS, "health_check": check, **policy}}, [SERVICE])
    plan = _plan.make(asked, kernel.actual(), kernel.ring, kernel.named_by_flows, 1)
    assert asked != plain
    assert not plan.changed
    assert plan.before == plan.after


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 600)
    | st.floats()
    | st.binary(max_size=3)
    | st.text(max_size=8)
    | st.sampled_from(["/", "200-399", "a.example", ".", "NS", "tunnel", "direct", "(", "true"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
CHECKS = st.fixed_dictionaries(
    {"type": st.sampled_from([check["type"] for check in EVERY_KIND])},
    optional={key: VALUES for key in vars(HealthCheck()) if key != "type"},
)


@settings(max_examples=300, deadline=None)
@given(CHECKS)
def test_whatever_yaml_holds_is_a_check_or_a_config_error(check: dict[str, Any]) -> None:
    try:
        fleet = parse({"web": {"health_check": check}}, [])
    except ConfigError as error:
        assert all(m.startswith("l4lb_pools.web.health_check") for m in error.mistakes)
    else:
        assert parse(**json.loads(json.dumps(fleet.as_dict()))) == fleet


@pytest.mark.parametrize(
    "pattern", [r"(.*)*x", r"(?:\w+\s*)+$", "((a{2,})){3}", "(a+?){,9}", "(a*)*?"]
)
def test_patterns_that_may_take_for_ever_are_refused(pattern: str) -> None:
    for check in ({"type": "https", "body": pattern}, {"type": "udp", "expect": pattern}):
        (mistake,) = mistakes_of(**check)
        assert "a group that ends with a repeat" in mistake


@pytest.mark.parametrize(
    "pattern",
    [r"(\d+\.)+", r"\(a+\)+", "([*)*]x)+", r"(\+)+", "([])+]x)*", "(ok)+", "(a+)?", "(a{3})+"],
)
def test_patterns_with_repeats_that_end(pattern: str) -> None:
    assert check_of(type="http", body=pattern).body == pattern
