# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A router with FRR: sessions, the kernel's routes, traffic."""

from __future__ import annotations

import json
from typing import Any

import client
import pytest
import routes
from conftest import until
from testinfra.host import Host
from topology import of_kind

ADDRESSES = ("203.0.113.10", "2001:db8:100::10")
URLS = ["http://203.0.113.10:80/", "http://[2001:db8:100::10]:80/"]
NODES = {host.name for host in of_kind("node")}
SESSIONS = {address for host in of_kind("node") for address in (host.address4, host.address6)}


def show(router: Host, what: str) -> Any:
    return json.loads(router.check_output(f"vtysh -c 'show {what} json'") or "{}")


def established(router: Host) -> set[str]:
    peers = show(router, "bgp neighbors")
    return {name for name, peer in peers.items() if peer.get("bgpState") == "Established"}


def test_bird_is_not_there(router: Host) -> None:
    assert not router.service("bird").is_running


def test_all_sessions_stand(router: Host) -> None:
    until(lambda: established(router) == SESSIONS)


def test_bfd_watches_all_of_them(router: Host) -> None:
    def watched() -> set[str]:
        return {peer["peer"] for peer in show(router, "bfd peers") if peer["status"] == "up"}

    until(lambda: watched() == SESSIONS)


@pytest.mark.parametrize("address", ADDRESSES)
def test_kernel_spreads_over_both_nodes(address: str) -> None:
    until(lambda: routes.nodes_for(address) == NODES)


def test_router_hears_services_and_nothing_else(router: Host) -> None:
    until(lambda: set(show(router, "bgp ipv4 unicast")["routes"]) == {f"{ADDRESSES[0]}/32"})
    until(lambda: set(show(router, "bgp ipv6 unicast")["routes"]) == {f"{ADDRESSES[1]}/128"})


def test_every_request_is_answered() -> None:
    for address in ADDRESSES:
        until(lambda address=address: routes.nodes_for(address) == NODES)
    traffic = client.send_requests(URLS, 300)
    assert traffic["answered"] == 300
