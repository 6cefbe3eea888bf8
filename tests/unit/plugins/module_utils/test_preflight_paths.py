# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight makes of addresses and ways to backends, and what it reads of inventory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_check import Check
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_links import (
    XDP_BASIC,
    XDP_NDO_XMIT,
    Link,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_paths import (
    LocalAddress,
    Path,
    judge_mtu,
    judge_neighbours,
    judge_redirects,
    judge_routes,
    judge_service_addresses,
    judge_sources,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import WantedError

VIP = "203.0.113.10"
OWN = LocalAddress("192.0.2.11", 24, "eth0", loopback=False)


# --- addresses ---


@pytest.mark.parametrize(
    ("have", "status"),
    [
        (OWN, "ok"),
        (LocalAddress(VIP, 32, "lo", loopback=True), "warning"),
        (LocalAddress("2001:db8:100::10", 128, "dummy0", loopback=True), "warning"),
        (LocalAddress(VIP, 24, "lo", loopback=True), "failed"),
        (LocalAddress(VIP, 32, "eth0", loopback=False), "failed"),
    ],
)
def test_service_address_on_the_node(have: LocalAddress, status: str) -> None:
    (check,) = judge_service_addresses([VIP, "2001:db8:100::10"], [have])
    assert check.status == status
    assert (
        f"ip address del {have.address}/{have.prefix} dev {have.interface}" in check.remedy
    ) == (status != "ok")


def sources(backend: str, source4: str | None = None, source6: str | None = None) -> list[str]:
    checks = judge_sources([backend], {4: source4, 6: source6}, [VIP], [OWN])
    return [f"{check.subject} {check.status}" for check in checks]


def test_source_of_tunnels() -> None:
    assert sources("192.0.2.71", "192.0.2.11") == ["source_ipv4 ok"]
    assert sources("192.0.2.71", "192.0.2.12") == ["source_ipv4 warning"]
    assert sources("192.0.2.71", VIP) == ["source_ipv4 failed"]
    assert sources("2001:db8:2::71", "192.0.2.11") == ["source_ipv4 ok", "source_ipv6 failed"]
    assert sources("192.0.2.71") == ["source_ipv4 failed"]


# --- ways to backends ---


def way(backend: str, **fields: Any) -> Path:
    usual = {"interface": "eth0", "next_hop": "192.0.2.1", "mtu": 1520, "neighbour": "reachable"}
    return Path(backend, **{**usual, **fields})


def backends(count: int) -> list[str]:
    return [f"198.18.{i // 250}.{i % 250 + 1}" for i in range(count)]


def test_routes() -> None:
    assert [check.status for check in judge_routes([way("192.0.2.71")])] == ["ok"]
    none, unreachable = judge_routes(
        [
            way("192.0.2.71"),
            Path("198.18.0.1", refused="no route"),
            Path("198.18.0.2", refused="an unreachable route"),
            Path("198.18.0.3", refused="no route"),
        ]
    )
    assert none.status == unreachable.status == "failed"
    assert none.found == "no route to 2 backends: 198.18.0.1, 198.18.0.3"


def test_backend_behind_a_router_cannot_be_had_by_its_mac() -> None:
    near = Path("192.0.2.71", interface="eth0", next_hop="192.0.2.71", direct=True)
    far = replace(near, backend="198.51.100.7", next_hop="192.0.2.1")
    assert statuses(judge_routes([near])) == ["ok"]
    assert statuses(judge_routes([replace(far, direct=False)])) == ["ok"]
    (check,) = judge_routes([near, far])
    assert check.status == "failed"
    assert check.found == "through 192.0.2.1 to 1 backend of forwarding: l2: 198.51.100.7"


def test_packet_without_outer_header_needs_no_room() -> None:
    path = Path("192.0.2.71", interface="eth0", next_hop="192.0.2.71", mtu=1500)
    assert statuses(judge_mtu([path], 1500)) == ["failed"]
    assert statuses(judge_mtu([replace(path, direct=True)], 1500)) == ["ok"]
    assert statuses(judge_mtu([replace(path, direct=True)], 1501)) == ["failed"]


def test_packet_in_udp_needs_more_room() -> None:
    path = Path("192.0.2.71", interface="eth0", next_hop="192.0.2.71", mtu=1528, udp=True)
    assert statuses(judge_mtu([path], 1500)) == ["ok"]
    (check,) = judge_mtu([path], 1501)
    assert check.status == "failed"
    assert "1529 with its outer header" in check.found
    assert "at most 1500 bytes" in check.remedy


def statuses(checks: list[Check]) -> list[str]:
    return [check.status for check in checks]


def test_nine_thousand_backends_are_a_few_lines() -> None:
    refused = [Path(address, refused="no route") for address in backends(9000)]
    (check,) = judge_routes(refused)
    assert "9000 backends" in check.found
    assert len(check.found) < 200
    near = [way(address, next_hop=address, neighbour="stale") for address in backends(9000)]
    assert len(judge_neighbours(near)) == len(judge_mtu(near, 1500)) == 1


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("reachable", "ok"),
        ("stale", "ok"),
        ("delay", "ok"),
        ("probe", "ok"),
        ("permanent", "ok"),
        ("none needed", "ok"),
        ("failed", "warning"),
        ("incomplete", "unknown"),
        ("", "unknown"),
    ],
)
def test_neighbour(state: str, status: str) -> None:
    (check,) = judge_neighbours([way("198.18.0.1", neighbour=state)])
    assert (check.subject, check.status) == ("eth0", status)


def test_next_hop_of_many_backends_is_one() -> None:
    (check,) = judge_neighbours([way(address) for address in backends(300)])
    assert check.found == "1 next hop known: 192.0.2.1"


def test_backend_on_the_node_needs_no_neighbour() -> None:
    (check,) = judge_neighbours([Path("192.0.2.11", local=True, interface="lo")])
    assert check.status == "ok"
    assert judge_mtu([Path("192.0.2.11", local=True, interface="lo")], 1500) == []


@pytest.mark.parametrize(
    ("backend", "mtu", "status"),
    [
        ("198.18.0.1", 1520, "ok"),
        ("198.18.0.1", 1519, "failed"),
        ("2001:db8:2::71", 1540, "ok"),
        ("2001:db8:2::71", 1539, "failed"),
    ],
)
def test_room_for_the_outer_header(backend: str, mtu: int, status: str) -> None:
    (check,) = judge_mtu([way(backend, mtu=mtu)], 1500)
    assert check.status == status


def test_remedy_of_the_mtu_names_both_numbers() -> None:
    (check,) = judge_mtu([way("198.18.0.1", mtu=1500)], 1500)
    assert "1520" in check.remedy
    assert "1480" in check.remedy
    assert judge_mtu([way("198.18.0.1", mtu=1500)], 1480)[0].status == "ok"


NOTHING, BASIC, ALL = 0, XDP_BASIC, XDP_BASIC | XDP_NDO_XMIT


@pytest.mark.parametrize(
    ("driver", "features", "wanted", "status"),
    [
        ("ice", BASIC, ["eth1"], "ok"),
        ("ice", BASIC, ["eth0", "eth1"], "ok"),
        ("ice", ALL, ["eth0"], "ok"),
        ("ice", BASIC, ["eth0"], "warning"),
        ("ice", None, ["eth0"], "unknown"),
        ("veth", ALL, ["eth1"], "ok"),
        ("veth", BASIC, ["eth1"], "warning"),
        ("veth", None, ["eth1"], "unknown"),
    ],
)
def test_interface_to_a_backend_takes_packets(
    driver: str, features: int | None, wanted: list[str], status: str
) -> None:
    egress = {"eth1": Link("eth1", driver=driver, xdp_features=features)}
    (check,) = judge_redirects([way("198.18.0.1", interface="eth1")], wanted, egress, "native")
    assert (check.subject, check.status) == ("eth1", status)


def test_generic_mode_sends_by_any_interface() -> None:
    egress = {"eth1": Link("eth1", driver="veth", xdp_features=NOTHING)}
    assert judge_redirects([way("198.18.0.1", interface="eth1")], ["eth0"], egress, "generic") == []


# --- what is read of inventory ---


def asked(**arguments: Any) -> _preflight.Asked:
    usual = {
        "interfaces": ["eth0"],
        "mode": "native",
        "replace_foreign": False,
        "ring_size": 65537,
        "max_services": 4096,
        "max_pools": 512,
        "max_backends": 16384,
        "max_flows": 1000000,
        "max_deny": 8,
        "max_allow": 8,
        "source_ipv4": "192.0.2.11",
        "source_ipv6": None,
        "pools": None,
        "services": None,
        "client_mtu": 1500,
        "source": "/usr/lib/l4lb/bpf",
        "pins": "/run/l4lb/bpf",
    }
    return _preflight._asked({**usual, **arguments})


def test_addresses_are_read_canonical_and_once() -> None:
    pool = {"backends": [{"address": "2001:DB8:2::0071"}, {"address": "192.0.2.71"}]}
    web = {"name": "web", "address": "2001:db8:100:0::10", "protocol": "udp"}
    found = asked(pools={"a": pool, "b": pool}, services=[web, {**web, "protocol": "tcp"}])
    assert found.backends == ("2001:db8:2::71", "192.0.2.71")
    assert found.services == ("2001:db8:100::10",)
    assert found.flows == ("tcp6", "udp6")
    assert found.pools == 2


def test_backend_is_direct_when_no_pool_wraps_its_packets() -> None:
    near, both, far = ({"address": f"192.0.2.{last}"} for last in (71, 72, 73))
    pools = {
        "near": {"backends": [near, both], "forwarding": "l2"},
        "far": {"backends": [both, far]},
    }
    assert asked(pools=pools).direct == {"192.0.2.71"}
    assert asked(pools={"web": 7, "mail": [{"forwarding": "l2"}]}).direct == set()


def test_backend_of_a_gue_pool_gets_udp() -> None:
    one, both = ({"address": f"192.0.2.{last}"} for last in (71, 72))
    pools = {
        "gue": {"backends": [one, both], "forwarding": "gue"},
        "near": {"backends": [both], "forwarding": "l2"},
        "odd": {"backends": [{"address": "192.0.2.73"}], "forwarding": ["gue"]},
    }
    assert asked(pools=pools).udp == {"192.0.2.71", "192.0.2.72"}
    assert asked(pools=pools).direct == set()


def test_backend_that_gets_nothing_needs_no_way() -> None:
    entries = [{"address": "192.0.2.71", "state": "disabled"}, {"address": "192.0.2.72"}]
    assert asked(pools={"web": {"backends": entries}}).backends == ("192.0.2.72",)


@pytest.mark.parametrize(
    "wrong",
    [
        "web",
        7,
        [7, None, "x"],
        {"web": None},
        {"web": {"backends": None}},
        {"web": {"backends": [None, 7, {"address": 7}, {"address": "10.1"}, {}]}},
    ],
)
def test_mistakes_in_pools_and_services_are_left_to_others(wrong: Any) -> None:
    found = asked(pools=wrong, services=wrong)
    assert (found.backends, found.services) == ((), ())


def test_nothing_given_is_not_nothing_asked_for() -> None:
    found = asked()
    assert (found.backends, found.services, found.flows) == (None, None, ("tcp4", "tcp6"))


def test_mistaken_argument_is_named() -> None:
    with pytest.raises(WantedError, match="ring_size: 65536 is not a prime"):
        asked(ring_size=65536)
