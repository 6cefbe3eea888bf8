# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes with the role's BIRD, and a router with FRR as docs/routers.md configures it (root)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyroute2 import NetNS

from l4lb_agent.announcer import Announcer

from .bgp import V4, V6, Bird, documented, namespaces, render, until
from .frr import Frr

BOTH4, BOTH6 = {"192.0.2.11", "192.0.2.12"}, {"2001:db8:1::11", "2001:db8:1::12"}
SESSIONS = BOTH4 | BOTH6


@dataclass
class Node:
    bird: Bird
    announcements: Path

    def announce(self, *addresses: str, draining: bool = False) -> None:
        told = Announcer(self.announcements, self.bird.config, self.bird.control)
        told.announce(addresses, draining)


@dataclass
class Fleet:
    nodes: list[Node]
    router: Frr
    kernel: NetNS

    def ways(self, address: str) -> set[str]:
        """The nodes to which the router's kernel sends packets for this address."""
        found: set[str] = set()
        for route in self.kernel.get_routes(family=10 if ":" in address else 2):
            if route.get_attr("RTA_DST") == address:
                for hop in route.get_attr("RTA_MULTIPATH") or [route]:
                    found.add(str(hop.get_attr("RTA_GATEWAY")))
        return found

    def protocols(self, address: str) -> set[str]:
        """From whom the router has routes to this IPv4 address."""
        routes = self.router.show(f"ip route {address}/32").get(f"{address}/32", [])
        return {route["protocol"] for route in routes}

    def established(self) -> set[str]:
        peers = self.router.show("bgp neighbors")
        return {name for name, it in peers.items() if it.get("bgpState") == "Established"}


@pytest.fixture(scope="module")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with _fleet(tmp_path_factory.mktemp("frr")) as made:
        yield made


@contextmanager
def _fleet(directory: Path) -> Iterator[Fleet]:
    """Two nodes with BFD and GTSM, as the router has them."""
    names = ("node1", "node2")
    with namespaces("l4lb-frr", "router", *names) as spaces:
        nodes = []
        for number, name in enumerate(names, start=11):
            own = directory / name
            (own / "run").mkdir(parents=True)
            config = render(
                own,
                l4lb_bgp_router_id=f"192.0.2.{number}",
                bird_bfd=True,
                bird_ttl_security=True,
            )
            bird = Bird(spaces[name], config, own / "bird.ctl")
            nodes.append(Node(bird, own / "run/announce.conf"))
        router = Frr(spaces["router"], documented("frr"))
        kernel = NetNS(spaces["router"])
        fleet = Fleet(nodes, router, kernel)
        try:
            for node in nodes:
                node.bird.start()
            router.start()
            until(lambda: fleet.established() == SESSIONS, patience=40)
            yield fleet
        finally:
            for node in nodes:
                node.bird.stop()
            router.stop()
            kernel.close()


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    """All sessions up, and both nodes announce both addresses."""
    until(lambda: shared_fleet.established() == SESSIONS, patience=40)
    for node in shared_fleet.nodes:
        node.announce(V4, V6)
    until(lambda: shared_fleet.ways(V4) == BOTH4 and shared_fleet.ways(V6) == BOTH6)
    yield shared_fleet
    for node in shared_fleet.nodes:
        node.announce()
    until(lambda: not shared_fleet.ways(V4) | shared_fleet.ways(V6))


def test_kernel_spreads_over_both_nodes(fleet: Fleet) -> None:
    assert fleet.ways(V4) == BOTH4
    assert fleet.ways(V6) == BOTH6


def test_draining_node_is_left_without_a_session_lost_and_taken_back(fleet: Fleet) -> None:
    node, since = fleet.nodes[0], fleet.nodes[0].bird.sessions()
    node.announce(V4, V6, draining=True)
    until(lambda: fleet.ways(V4) == {"192.0.2.12"})
    until(lambda: fleet.ways(V6) == {"2001:db8:1::12"})
    paths = fleet.router.show(f"bgp ipv4 unicast {V4}")["paths"]
    assert sorted(path.get("locPrf", 100) for path in paths) == [0, 100]
    node.announce(V4, V6)
    until(lambda: fleet.ways(V4) == BOTH4 and fleet.ways(V6) == BOTH6)
    assert node.bird.stood_since(since)


def test_the_last_nodes_have_the_traffic_though_they_drain(fleet: Fleet) -> None:
    for node in fleet.nodes:
        node.announce(V4, V6, draining=True)
    for node in fleet.nodes:
        until(
            lambda node=node: (
                "(65535,0)"
                in node.bird.ask("show", "route", "all", "for", V4, "table", "announce4")
            )
        )
    until(
        lambda: all(
            path.get("locPrf", 100) == 0
            for path in fleet.router.show(f"bgp ipv4 unicast {V4}")["paths"]
        )
    )
    until(lambda: fleet.ways(V4) == BOTH4)


def test_withdrawn_address_goes_to_the_other_node_only(fleet: Fleet) -> None:
    fleet.nodes[1].announce(V6)
    until(lambda: fleet.ways(V4) == {"192.0.2.11"})
    assert fleet.ways(V6) == BOTH6


def test_static_route_of_last_resort_waits_behind_all_announcements(fleet: Fleet) -> None:
    documented4, _documented6 = documented("frr static").splitlines()
    last = documented4.replace("192.0.2.13", "192.0.2.12")
    fleet.router.configure(last)
    try:
        until(lambda: "static" in fleet.protocols(V4))
        assert fleet.ways(V4) == BOTH4
        fleet.nodes[1].announce(V6)
        until(lambda: fleet.ways(V4) == {"192.0.2.11"})
        fleet.nodes[0].announce(V6)
        until(lambda: fleet.ways(V4) == {"192.0.2.12"})
    finally:
        fleet.router.configure(f"no {last}")


def test_router_hears_services_and_nothing_else(fleet: Fleet) -> None:
    for family, own in (("ipv4", f"{V4}/32"), ("ipv6", f"{V6}/128")):
        assert set(fleet.router.show(f"bgp {family} unicast")["routes"]) == {own}


# The last one: sessions go up and down for a while after it.
def test_bfd_takes_a_node_that_hangs_out_in_a_moment(fleet: Fleet) -> None:
    process = fleet.nodes[0].bird.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        assert until(lambda: fleet.ways(V4) == {"192.0.2.12"}) < 3
        until(lambda: fleet.ways(V6) == {"2001:db8:1::12"})
    finally:
        process.send_signal(signal.SIGCONT)
