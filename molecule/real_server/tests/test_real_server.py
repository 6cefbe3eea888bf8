# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server: packets of a node's tunnels come in, answers go straight to the client."""

from __future__ import annotations

import json

import pytest
import tunnelled
from conftest import until
from testinfra.host import Host

SERVICE = tunnelled.SERVICE4
ADDRESSES = {"203.0.113.10", "203.0.113.20", SERVICE, "2001:db8:100::10", "2001:db8:100::20"}


@pytest.mark.parametrize("form", tunnelled.FORMS)
def test_tunnelled_packet_is_answered_straight_to_the_client(form: str) -> None:
    assert until(lambda: tunnelled.answer(form, "real1")) == b"real1 hello!"


@pytest.mark.parametrize("form", tunnelled.FORMS)
def test_tunnels_of_others_than_nodes_are_closed(form: str) -> None:
    assert tunnelled.answer(form, "real1", sender="real2") == b""


def test_rules_are_there_for_the_next_boot(real: Host) -> None:
    assert real.service("l4lb-nftables").is_enabled
    assert real.service("l4lb-nftables").is_running
    assert "chain tunnels" in real.check_output("nft list table inet l4lb")


def test_service_addresses_are_on_the_loopback_interface(real: Host) -> None:
    links = json.loads(real.check_output("ip -json address show dev lo"))
    have = {each["local"]: each["prefixlen"] for each in links[0]["addr_info"]}
    assert set(have) >= ADDRESSES
    assert all(have[address] == (128 if ":" in address else 32) for address in ADDRESSES)


def test_neighbours_are_not_told_of_them(real: Host, router: Host) -> None:
    wanted = {"net.ipv4.conf.all.arp_ignore": 1, "net.ipv4.conf.all.arp_announce": 2}
    assert {name: real.sysctl(name) for name in wanted} == wanted
    router.run(f"ip route get {SERVICE}")
    assert SERVICE not in router.check_output("ip -4 neighbour show dev br-real")


def test_next_boot_finds_all_of_it(real: Host) -> None:
    assert real.service("l4lb-restore").is_enabled
    assert real.file("/etc/sysctl.d/60-l4lb-real-server.conf").exists
