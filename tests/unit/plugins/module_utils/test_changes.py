# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries that are present or absent, and how they meet what was applied before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._applied import AppliedError
from ansible_collections.l4lb.xdp.plugins.module_utils._apply import (
    applied_services,
    merged,
    require_share,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import (
    ConfigError,
    Fleet,
    parse,
    parse_change,
)

POOLS: dict[str, Any] = {
    "web": {"backends": [{"address": "192.0.2.71"}, {"address": "192.0.2.72"}]},
    "api": {"backends": [{"address": "192.0.2.81"}]},
}
SERVICES = [
    {"name": name, "address": "203.0.113.10", "port": port, "protocol": "tcp", "pool": pool}
    for name, port, pool in (("www", 80, "web"), ("tls", 443, "web"), ("api", 8443, "api"))
]
GONE = {"state": "absent"}


def mistakes(pools: Any, services: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_change(pools, services)
    return caught.value.mistakes


def merge(pools: dict[str, Any], services: list[dict[str, Any]]) -> Fleet:
    last = parse(POOLS, SERVICES).as_dict()
    return merged(last, parse_change(pools, services, last["pools"]))


def names(fleet: Fleet) -> tuple[list[str], list[str]]:
    return [p.name for p in fleet.pools], sorted(s.name for s in fleet.services)


def test_state_present_is_what_an_entry_is_without() -> None:
    pools = {name: {**pool, "state": "present"} for name, pool in POOLS.items()}
    services = [{**service, "state": "present"} for service in SERVICES]
    assert parse(pools, services) == parse(POOLS, SERVICES)


def test_absent_entries_are_not_part_of_the_fleet() -> None:
    pools = {**POOLS, "api": {**POOLS["api"], **GONE}, "old": GONE}
    fleet = parse(pools, [*SERVICES[:2], {**SERVICES[2], **GONE}, {"name": "x", **GONE}])
    assert names(fleet) == (["web"], ["tls", "www"])


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "tls"},
        {"address": "203.0.113.10", "port": "443", "protocol": "tcp"},
        SERVICES[1],
    ],
)
def test_absent_service_goes_by_name_or_key(entry: dict[str, Any]) -> None:
    assert names(merge({}, [{**entry, **GONE}])) == (["api", "web"], ["api", "www"])


def test_absent_pool_goes_with_its_service() -> None:
    assert names(merge({"api": GONE}, [{"name": "api", **GONE}])) == (["web"], ["tls", "www"])


def test_absent_pool_that_is_used_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"l4lb_pools\.api: is absent, but service api, applied"):
        merge({"api": GONE}, [])
    assert mistakes({**POOLS, "api": GONE}, SERVICES) == [
        "l4lb_services[2].pool: 'api' is not one of l4lb_pools: web"
    ]


def test_entry_takes_the_place_of_its_namesake_and_of_its_key() -> None:
    moved = {**SERVICES[0], "port": 81}
    taken = {**SERVICES[1], "name": "other"}
    fleet = merge({"web": {"backends": [{"address": "192.0.2.79"}]}}, [moved, taken])
    assert names(fleet) == (["api", "web"], ["api", "other", "www"])
    assert [backend.address for backend in fleet.pools[1].backends] == ["192.0.2.79"]
    assert {service.port for service in fleet.services} == {81, 443, 8443}


def test_name_decides_which_service_is_absent() -> None:
    entry = {**SERVICES[1], "name": "www", **GONE}
    assert names(merge({}, [entry])) == (["api", "web"], ["api", "tls"])


def test_service_may_name_a_pool_that_is_there_already() -> None:
    new = {**SERVICES[0], "name": "new", "port": 81}
    last = parse(POOLS, SERVICES).as_dict()
    fleet = merged(last, parse_change({}, [new, {"name": "tls", **GONE}], last["pools"]))
    assert names(fleet) == (["api", "web"], ["api", "new", "www"])
    with pytest.raises(ConfigError, match=r"'old' is not one of l4lb_pools: api, web"):
        parse_change({}, [{**new, "pool": "old"}], last["pools"])
    with pytest.raises(ConfigError, match=r"'web' is not one of l4lb_pools: api"):
        parse_change({"web": GONE}, [new], last["pools"])


def test_mistake_of_the_whole_says_that_it_is_one() -> None:
    """The address is a backend's in a pool that is not named here."""
    with pytest.raises(ConfigError, match=r"together with what was applied .*192\.0\.2\.81"):
        merge({}, [{**SERVICES[0], "name": "new", "address": "192.0.2.81", "pool": "web"}])


@pytest.mark.parametrize("max_moved", [-1, 100.5, float("nan")])
def test_share_that_is_none(max_moved: float) -> None:
    with pytest.raises(ConfigError, match="max_moved"):
        require_share(max_moved)


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", '{"pools": {"web": 5}, "services": []}', '{"pools": {}, "services": [1]}'],
)
def test_file_that_is_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "services.json").write_text(content)
    with pytest.raises(AppliedError, match=r"services\.json is not what .* remove it"):
        applied_services(tmp_path)


def test_nothing_given_leaves_everything() -> None:
    assert merge({}, []) == parse(POOLS, SERVICES)
    assert merged(None, parse_change(POOLS, SERVICES)) == parse(POOLS, SERVICES)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({**GONE}, "l4lb_services[3]: gives neither name nor address, protocol and port"),
        ({"name": "www", **GONE}, "l4lb_services[3]: www is absent here, present in [0]"),
        (
            {**{k: v for k, v in SERVICES[1].items() if k != "name"}, **GONE},
            "l4lb_services[3]: 203.0.113.10, tcp port 443 is absent here, present in [1]",
        ),
        (
            {"name": "x", "state": "gone"},
            "l4lb_services[3].state: 'gone' is not one of: present, absent",
        ),
    ],
)
def test_contradictions(entry: dict[str, Any], expected: str) -> None:
    assert expected in mistakes(POOLS, [*SERVICES, entry])


def test_any_port_needs_a_port_for_the_health_check() -> None:
    check = {"type": "tcp"}
    pools = {"web": {**POOLS["web"], "health_check": check}}
    service = {**SERVICES[0], "port": 0}
    assert mistakes(pools, [service]) == [
        "l4lb_services[0].port: 0 is any port, and the health check of its pool needs one: "
        "set l4lb_pools.web.health_check.port"
    ]
    check["port"] = 80  # type: ignore[assignment]
    assert parse(pools, [service]).services[0].port == 0
