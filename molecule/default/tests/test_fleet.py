# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet as inventory says it: everything is announced, all requests are answered."""

from __future__ import annotations

import json

import fleet
import pytest
import verify
import view
from conftest import on, until
from topology import HOSTS, of_kind

INVENTORY = fleet.read_inventory(verify.INVENTORY)
ADDRESSES = {service["address"] for service in INVENTORY.services}
NODES = [host.name for host in of_kind("node")]
REAL_SERVERS = [host.name for host in of_kind("real_server")]
UNITS = ["run-l4lb-bpf.mount", "l4lb-restore", "bird", "l4lb-agent", "l4lb-lease"]


def asked(node: str, path: str) -> str:
    """What the agent answers."""
    return on(node).check_output(f"curl --fail --silent http://{HOSTS[node].management}:9474{path}")


def test_everything_is_announced_and_every_backend_is_healthy() -> None:
    until(lambda: view.look(ADDRESSES).is_well())


@pytest.mark.parametrize("node", NODES)
def test_units_run_and_start_at_boot(node: str) -> None:
    for unit in UNITS:
        assert on(node).service(unit).is_running
        assert on(node).service(unit).is_enabled


@pytest.mark.parametrize("node", NODES)
def test_balancer_is_attached_in_native_mode(node: str) -> None:
    (link,) = json.loads(on(node).check_output("ip -json link show dev eth0"))
    assert link["xdp"]["mode"] == 1  # XDP_ATTACHED_DRV
    assert link["xdp"]["prog"]["name"] == "balancer"


@pytest.mark.parametrize("node", NODES)
def test_node_finds_nothing_wrong(node: str) -> None:
    status = json.loads(asked(node, "/status"))
    assert (status["node"]["state"], status["problems"]) == ("announcing", [])
    announced = {address for address, said in status["addresses"].items() if said["announced"]}
    assert announced == ADDRESSES
    assert on(node).run("l4lb status").rc == 0
    assert asked(node, "/ready").startswith("announces ")


def test_nodes_steer_alike() -> None:
    (steering,) = {view.fingerprint(node) for node in NODES}
    assert steering


@pytest.mark.parametrize("real_server", REAL_SERVERS)
def test_neighbours_are_not_told_of_services_and_answers_leave_directly(real_server: str) -> None:
    wanted = {"all.arp_ignore": 1, "all.arp_announce": 2, "eth0.rp_filter": 2}
    found = {name: on(real_server).sysctl(f"net.ipv4.conf.{name}") for name in wanted}
    assert found == wanted


def test_traffic_is_spread_over_all_and_every_request_is_answered() -> None:
    verify.wait_for_routes(INVENTORY)
    assert verify.show_traffic(verify.INVENTORY, INVENTORY) == []
    assert verify.show_echo(INVENTORY) == []
