# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._probe import mark
from l4lb_agent.checks import Target
from l4lb_agent.subjects import probed_addresses, subjects

BACKEND = "192.0.2.71"
SOURCES = {"ipv4": "192.0.2.11", "ipv6": "2001:db8:1::11"}
INDICES = {("web", BACKEND): 7}
V4 = {"name": "a", "address": "203.0.113.10", "port": 80, "protocol": "tcp", "pool": "web"}
V6 = {**V4, "name": "b", "address": "2001:db8:100::10", "port": 443}


def fleet(check: dict[str, Any], *services: dict[str, Any]) -> Fleet:
    pool = {"backends": [{"address": BACKEND}], "health_check": check}
    return parse({"web": pool}, list(services))


def targets(check: dict[str, Any], *services: dict[str, Any], **more: Any) -> list[Target]:
    given = {"indices": INDICES, "sources": SOURCES, **more}
    found = subjects(fleet(check, *services), given["indices"], given["sources"])
    return [target for subject in found for target in subject.targets]


def test_a_probe_goes_to_every_address_of_the_service_marked_for_the_backend() -> None:
    assert targets({"type": "tcp"}, V6, V4) == [
        Target("203.0.113.10", 80, mark(7), "192.0.2.11"),
        Target("2001:db8:100::10", 443, mark(7), "2001:db8:1::11"),
    ]


def test_where_the_node_has_no_source_the_kernel_chooses() -> None:
    sources = {"ipv4": SOURCES["ipv4"], "ipv6": None}

    assert targets({"type": "tcp"}, V4, V6, sources=sources) == [
        Target("203.0.113.10", 80, mark(7), "192.0.2.11"),
        Target("2001:db8:100::10", 443, mark(7), None),
    ]


def test_services_at_one_place_are_asked_once() -> None:
    udp = {**V4, "name": "u", "protocol": "udp"}

    assert len(targets({"type": "tcp"}, V4, udp)) == 1


def test_the_checks_own_port_wins() -> None:
    assert [t.port for t in targets({"type": "http", "port": 8080}, V4)] == [8080]


def test_directly_the_backend_itself_is_asked() -> None:
    check = {"type": "tcp", "via": "direct"}

    assert targets(check, V4, {**V6, "port": 80}) == [Target(BACKEND, 80)]


def test_a_command_needs_no_port_and_no_service() -> None:
    assert targets({"type": "command", "command": ["true"]}) == [Target(BACKEND, 0)]


@pytest.mark.parametrize(
    ("check", "more"),
    [
        ({"type": "none"}, {}),
        ({"type": "tcp"}, {"indices": {}}),  # not in the kernel yet
    ],
)
def test_who_cannot_be_asked_is_left_out(check: dict[str, Any], more: dict[str, Any]) -> None:
    assert targets(check, V4, **more) == []


def test_a_pool_that_no_service_uses_is_asked_directly_only() -> None:
    assert targets({"type": "tcp", "port": 80}) == []
    assert targets({"type": "tcp", "port": 80, "via": "direct"}) == [Target(BACKEND, 80)]


def test_routes_are_wanted_for_what_is_asked_through_the_tunnel() -> None:
    through = subjects(fleet({"type": "tcp"}, V4, V6), INDICES, SOURCES)
    directly = subjects(fleet({"type": "tcp", "via": "direct"}, V4), INDICES, SOURCES)

    assert probed_addresses(through) == {"203.0.113.10", "2001:db8:100::10"}
    assert probed_addresses(directly) == set()
