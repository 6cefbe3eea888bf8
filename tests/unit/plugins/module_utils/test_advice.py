# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is allowed and warned of, and what a node without an address of a family refuses."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _advice
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError, parse

BACKENDS = [{"address": "192.0.2.71"}, {"address": "192.0.2.72"}]


def service(name: str, port: int, pool: str, protocol: str = "tcp") -> dict[str, Any]:
    return {
        "name": name,
        "address": "203.0.113.10",
        "port": port,
        "protocol": protocol,
        "pool": pool,
    }


def test_usual_fleet_gets_no_warning() -> None:
    fleet = parse({"web": {"backends": BACKENDS}}, [service("www", 80, "web")])
    assert _advice.warnings(fleet, 251) == []


def test_unused_pool() -> None:
    (warning,) = _advice.warnings(parse({"web": {"backends": BACKENDS}}, []), 251)
    assert warning == "l4lb_pools.web: no service uses it; remove it, or name it in a service"


def test_ring_too_small_for_its_backends() -> None:
    fleet = parse({"web": {"backends": BACKENDS}}, [service("www", 80, "web")])
    (warning,) = _advice.warnings(fleet, 199)
    assert "l4lb_ring_size: 199" in warning
    assert "l4lb_pools.web" in warning
    assert "prime above 200" in warning


def test_port_taken_out_of_any_port_for_another_pool() -> None:
    pools = {name: {"backends": BACKENDS} for name in ("web", "rest")}
    both = [service("all", 0, "rest"), service("www", 80, "web")]
    (warning,) = _advice.warnings(parse(pools, both), 251)
    assert "www takes port 80 of 203.0.113.10 out of all" in warning
    assert "(web, not rest)" in warning
    other = [service("all", 0, "rest", "udp"), service("www", 80, "web")]
    assert _advice.warnings(parse(pools, other), 251) == []
    same = [service("all", 0, "web"), service("www", 80, "web")]
    assert _advice.warnings(parse({"web": {"backends": BACKENDS}}, same), 251) == []


def test_node_without_an_address_of_a_backends_family() -> None:
    fleet = parse({"web": {"backends": [*BACKENDS, {"address": "2001:db8:2::71"}]}}, [])
    _advice.require_sources(fleet, "192.0.2.11", "2001:db8:1::11")
    with pytest.raises(ConfigError) as caught:
        _advice.require_sources(fleet, "192.0.2.11", None)
    (mistake,) = caught.value.mistakes
    assert mistake.startswith("l4lb_pools.web.backends: 2001:db8:2::71 is of the other family")
    assert "l4lb_source_ipv6" in mistake
    with pytest.raises(ConfigError, match="l4lb_source_ipv4"):
        _advice.require_sources(fleet, None, "2001:db8:1::11")
