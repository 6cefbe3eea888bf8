# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that balances: what is in the kernel, and what becomes of packets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import network
import pytest
from conftest import until
from testinfra.host import Host
from topology import HOSTS, ROUTER

ETH_P_ALL, IPV4 = 0x0003, bytes.fromhex("0800")
PINS = "/run/l4lb/bpf"
NODE, SERVICE, PORT = HOSTS["node1"].address4, "203.0.113.30", 9000
BACKENDS = {HOSTS["real1"].address4, HOSTS["real2"].address4}


def test_program_is_attached_in_native_mode(node: Host) -> None:
    link = json.loads(node.check_output("ip -json link show dev eth0"))[0]
    assert link["xdp"]["mode"] == 1  # XDP_ATTACHED_DRV
    assert link["xdp"]["prog"]["name"] == "balancer"


def test_maps_and_program_are_pinned(node: Host) -> None:
    pinned = set(node.file(PINS).listdir())
    assert {
        "balancer",
        "services4",
        "services6",
        "pools",
        "rings",
        "backends",
        "settings",
    } <= pinned


def test_next_boot_restores_what_was_applied(node: Host) -> None:
    assert node.service("l4lb-restore").is_enabled
    assert node.service("l4lb-restore").is_running
    applied = json.loads(node.file("/var/lib/l4lb/services.json").content_string)
    assert "203.0.113.10" in json.dumps(applied)


def test_kernel_is_set_for_sending_on(node: Host) -> None:
    wanted = {"net.ipv4.ip_forward": 1, "net.ipv4.conf.eth0.rp_filter": 2}
    assert {name: node.sysctl(name) for name in wanted} == wanted


def test_sources_and_library_are_roots(node: Host) -> None:
    for path in ("/usr/lib/l4lb/bpf/balancer.c", "/usr/lib/l4lb/python"):
        assert node.file(path).user == "root"
        assert not node.file(path).mode & 0o022


@pytest.fixture
def routed(router: Host) -> Iterator[None]:
    """The router sends packets of a service to the node, which nobody announces here."""
    router.check_output(f"ip route replace {SERVICE}/32 via {NODE}")
    yield
    router.check_output(f"ip route del {SERVICE}/32")


def tunnelled() -> set[str]:
    """Sends a packet of each of some flows, and says to whom the node has sent them on."""
    with network.inside(ROUTER):
        # Of all protocols: the bridge takes what comes in before others see it.
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with wire:
        wire.bind(("node1", 0))
        with network.inside(HOSTS["client"].namespace):
            for port in range(40000, 40040):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.bind((HOSTS["client"].address4, port))
                    client.sendto(b"hello", (SERVICE, PORT))
        found = set()
        deadline = time.monotonic() + 2
        while found != BACKENDS and (left := deadline - time.monotonic()) > 0:
            wire.settimeout(left)
            with suppress(socket.timeout):
                head = wire.recv(2048)[12:34]
                source, destination = map(socket.inet_ntoa, (head[14:18], head[18:22]))
                if head[:2] == IPV4 and head[11] == socket.IPPROTO_IPIP and source == NODE:
                    found.add(destination)
        return found


@pytest.mark.usefixtures("routed")
def test_flows_are_spread_over_backends_in_tunnels() -> None:
    until(lambda: tunnelled() == BACKENDS)
