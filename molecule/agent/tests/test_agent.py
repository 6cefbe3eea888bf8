# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose agent announces what works."""

from __future__ import annotations

import json

from conftest import until
from testinfra.host import Host
from topology import HOSTS

LISTEN = f"http://{HOSTS['node1'].management}:9474"
ADDRESSES = {"203.0.113.10", "203.0.113.30"}


def test_agent_and_lease_run_and_start_at_boot(node: Host) -> None:
    for unit in ("l4lb-agent", "l4lb-lease"):
        assert node.service(unit).is_running
        assert node.service(unit).is_enabled


def test_agent_is_not_root(node: Host) -> None:
    assert node.user("l4lb").shell == "/usr/sbin/nologin"
    pid = node.check_output("systemctl show --property MainPID --value l4lb-agent")
    assert node.check_output(f"stat --format %U /proc/{pid}") == "l4lb"


def test_router_hears_both_services(router: Host) -> None:
    def heard() -> set[str]:
        routes = json.loads(router.check_output("ip -json route show proto bird") or "[]")
        return {route["dst"] for route in routes}

    until(lambda: heard() == ADDRESSES)


def test_command_finds_nothing_wrong(node: Host) -> None:
    until(lambda: node.run("l4lb status").rc == 0)


def test_node_says_that_it_is_ready(node: Host) -> None:
    until(lambda: node.run(f"curl --fail --silent {LISTEN}/ready").rc == 0)


def test_metrics_tell_what_is_announced(node: Host) -> None:
    page = node.check_output(f"curl --fail --silent {LISTEN}/metrics")
    lines = [line for line in page.splitlines() if line.startswith("l4lb_address_announced{")]
    assert {line.split('"')[1] for line in lines if line.endswith(" 1.0")} == ADDRESSES


def test_only_the_agent_and_bird_enter_its_directory(node: Host) -> None:
    directory = node.file("/run/l4lb/agent")
    assert (directory.user, directory.group, directory.mode) == ("l4lb", "bird", 0o750)
