# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards in inventory: what is accepted, its canonical form, every mistake; and each CPU's part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils import _rates
from ansible_collections.l4lb.xdp.plugins.module_utils._address import canonical_prefix
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError, Service, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._guards import ServiceGuard, wanted_by

WEB = {
    "name": "web",
    "address": "203.0.113.10",
    "port": 80,
    "protocol": "tcp",
    "pool": "web",
}


def mistakes(deny: Any = (), **service: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse({"web": {}}, [{**WEB, **service}], deny)
    return caught.value.mistakes


def test_prefixes_are_canonical_and_sorted() -> None:
    deny = ["2001:DB8:0::/32", "198.51.100.7", "10.0.0.0/8", "10.0.0.0/16", "2001:db8::1"]
    service = {**WEB, "allow": ["192.0.2.128/25", "192.0.2.1"], "new_flows": "100"}
    fleet = parse({"web": {}}, [service], deny)
    assert fleet.deny == (
        "10.0.0.0/8",
        "10.0.0.0/16",
        "198.51.100.7/32",
        "2001:db8::/32",
        "2001:db8::1/128",
    )
    allow = ("192.0.2.1/32", "192.0.2.128/25")
    assert fleet.services == (Service(**WEB, allow=allow, new_flows=100),)
    assert parse(**fleet.as_dict()) == fleet


def test_fleet_without_guards_says_nothing_of_them() -> None:
    assert parse({"web": {}}, [WEB]).as_dict()["services"] == [WEB]
    assert "deny" not in parse({"web": {}}, [WEB]).as_dict()


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("198.51.100.7/24", "has bits behind its length: write 198.51.100.0/24, or 198.51.100.7"),
        ("2001:db8::1/64", "has bits behind its length: write 2001:db8::/64, or 2001:db8::1"),
        ("198.51.100.0/33", "has a length that is not from 0 to 32"),
        ("198.51.100.0/", "has a length that is not from 0 to 32"),
        ("198.51.100.0/-1", "has a length that is not from 0 to 32"),
        ("2001:db8::/129", "has a length that is not from 0 to 128"),
        ("198.51.100.0/255.255.255.0", "has a length that is not from 0 to 32"),
        ("198.51.100", "is not an IPv4 or IPv6 prefix, such as 198.51.100.0/24"),
        ("fe80::1%eth0", "is not an IPv4 or IPv6 prefix, such as 198.51.100.0/24"),
        ("", "is not an IPv4 or IPv6 prefix, such as 198.51.100.0/24"),
        ("::ffff:192.0.2.0/120", "is an IPv4-mapped prefix: write it as IPv4"),
        (10, "is not text"),
        (None, "is not text"),
    ],
)
def test_what_is_no_prefix_is_named(entry: Any, why: str) -> None:
    shown = "null" if entry is None else repr(entry)
    assert mistakes(["192.0.2.0/24", entry]) == [f"l4lb_deny[1]: {shown} {why}"]
    assert mistakes(allow=[entry]) == [f"l4lb_services[0].allow[0]: {shown} {why}"]


def test_duplicates_are_named_however_they_are_written() -> None:
    deny = ["2001:db8::/32", "192.0.2.1", "2001:DB8:0::/32", "192.0.2.1/32"]
    assert mistakes(deny) == [
        "l4lb_deny[2]: '2001:DB8:0::/32' is [0], too",
        "l4lb_deny[3]: '192.0.2.1/32' is [1], too",
    ]


def test_of_many_mistakes_the_first_are_told() -> None:
    found = mistakes(["x"] * 100_000)
    assert (len(found), found[-1]) == (21, "l4lb_deny: has 99980 more mistakes")


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_everybody_is_not_denied(everybody: str) -> None:
    assert mistakes([everybody]) == [
        f"l4lb_deny: '{everybody}' is everybody: withdraw the services instead"
    ]
    family = {"address": "2001:db8::10"} if ":" in everybody else {}
    assert parse({"web": {}}, [{**WEB, **family, "allow": [everybody]}]).services


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({"allow": []}, ".allow: [] lets nobody in: leave it out to let everybody in"),
        ({"allow": "192.0.2.0/24"}, ".allow: '192.0.2.0/24' is not a list"),
        (
            {"allow": ["2001:db8::/32"]},
            ".allow: '2001:db8::/32' is of another family than the address, 203.0.113.10",
        ),
        (
            {"new_flows": -1},
            ".new_flows: -1 is not an integer from 0 to 10000000 (a second and node; 0 is no "
            "limit)",
        ),
        (
            {"new_flows": 5, "protocol": "udp"},
            ".new_flows: 5 is not for udp, whose packets show no beginning",
        ),
    ],
)
def test_mistakes_of_a_service(service: dict[str, Any], expected: str) -> None:
    assert mistakes(**service) == [f"l4lb_services[0]{expected}"]


def test_deny_is_a_list() -> None:
    assert mistakes("192.0.2.0/24") == ["l4lb_deny: '192.0.2.0/24' is not a list"]


@given(st.ip_addresses(), st.integers(0, 128))
def test_prefixes_are_those_of_another_implementation(address: Any, length: int) -> None:
    import ipaddress

    length = min(length, address.max_prefixlen)
    network = ipaddress.ip_network((address, length), strict=False)
    text = f"{address}/{length}"
    if address.version == 6 and address.ipv4_mapped is not None:
        return
    if network.network_address == address:
        assert ipaddress.ip_network(canonical_prefix(text)) == network
    else:
        with pytest.raises(ValueError, match="has bits behind its length"):
            canonical_prefix(text)


def test_what_a_node_shall_hold() -> None:
    two = {**WEB, "name": "two", "port": 81, "allow": ["192.0.2.0/24"]}
    fleet = parse({"web": {}}, [{**WEB, "new_flows": 3}, two], ["198.51.100.0/24"])
    guards = wanted_by(fleet, {fleet.services[0].key: 5, fleet.services[1].key: 9})
    assert guards.services == {5: ServiceGuard(3, False), 9: ServiceGuard(0, True)}
    assert guards.allow == {(9, "192.0.2.0/24")}
    assert guards.on == {"deny", "services"}


# --- rates ---


@given(st.integers(1, _rates.MAX_RATE), st.integers(1, 512))
def test_parts_of_all_cpus_come_to_the_rate(rate: int, among: int) -> None:
    interval = _rates.interval(rate, among)
    assert among * 1e9 / interval == pytest.approx(rate, rel=0.01)
    assert _rates.rate(interval, rate, among) == rate


def test_rate_of_other_cpus_is_told_as_it_is() -> None:
    made_for_four = _rates.interval(1000, 4)
    assert _rates.rate(made_for_four, 1000, 8) == 2000


def test_no_limit() -> None:
    assert _rates.interval(0, 8) == _rates.rate(0, 0, 8) == 0
