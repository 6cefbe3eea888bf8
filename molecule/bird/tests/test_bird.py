# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that speaks BGP, and what the router makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from conftest import until
from testinfra.host import Host

ADDRESSES = {"203.0.113.10", "203.0.113.20", "203.0.113.30"}
ADDRESSES6 = {"2001:db8:100::10", "2001:db8:100::20"}
ANNOUNCEMENTS = "/run/l4lb/agent/announce.conf"


def established(host: Host) -> set[str]:
    lines = host.check_output("birdc show protocols").splitlines()
    return {line.split()[0] for line in lines if line.rstrip().endswith("Established")}


def routes(host: Host, *selected: str) -> set[str]:
    """Destinations in the kernel."""
    found: set[str] = set()
    for family in ("-4", "-6"):
        said = host.check_output(f"ip -json {family} route show {' '.join(selected)}")
        found |= {route["dst"] for route in json.loads(said or "[]")}
    return found


@pytest.fixture
def proven(node: Host) -> Iterator[None]:
    """What the agent would have written after it has proven all services."""
    lines = "".join(
        f"protocol static announced{version} {{ ipv{version} {{ table announce{version}; }};"
        + "".join(f" route {address}/{length} unreachable;" for address in sorted(addresses))
        + " }\n"
        for version, length, addresses in ((4, 32, ADDRESSES), (6, 128, ADDRESSES6))
    )
    node.check_output("install -d -o root -g bird -m 0750 /run/l4lb/agent")
    node.check_output("echo %s > " + ANNOUNCEMENTS, lines)
    node.check_output("birdc configure")
    yield
    node.check_output("rm " + ANNOUNCEMENTS)
    node.check_output("birdc configure")


def test_bird_runs_and_starts_at_boot(node: Host) -> None:
    assert node.service("bird").is_running
    assert node.service("bird").is_enabled


def test_both_sessions_stand(node: Host) -> None:
    until(lambda: established(node) == {"router4", "router6"})


def test_nothing_is_announced_that_nobody_has_proven(node: Host, router: Host) -> None:
    until(lambda: established(node) == {"router4", "router6"})
    assert not routes(router, "proto", "bird")


@pytest.mark.usefixtures("proven")
def test_router_hears_what_is_proven_and_nothing_else(router: Host) -> None:
    until(lambda: routes(router, "proto", "bird") == ADDRESSES | ADDRESSES6)


def test_what_is_withdrawn_is_gone_at_the_router(router: Host) -> None:
    until(lambda: not routes(router, "proto", "bird"))


def test_kernel_refuses_what_xdp_leaves(node: Host) -> None:
    assert routes(node, "proto", "bird", "type", "unreachable") == ADDRESSES | ADDRESSES6


def test_guard_stays_without_bird(node: Host) -> None:
    node.check_output("systemctl stop bird")
    try:
        assert routes(node, "proto", "bird", "type", "unreachable") == ADDRESSES | ADDRESSES6
    finally:
        node.check_output("systemctl start bird")
    until(lambda: established(node) == {"router4", "router6"})


def test_password_is_for_bird_alone(node: Host) -> None:
    secrets = node.file("/etc/bird/l4lb-secrets.conf")
    assert (secrets.user, secrets.group, secrets.mode) == ("root", "bird", 0o640)
    assert not node.file("/etc/bird/bird.conf").contains("lab-bgp")


def test_operators_have_a_directory(node: Host) -> None:
    extra = node.file("/etc/bird/l4lb.d")
    assert extra.is_directory
    assert (extra.user, extra.group, extra.mode) == ("root", "bird", 0o750)
