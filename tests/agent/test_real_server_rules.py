# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server's rules in a kernel: whose tunnels they let in, what they make of TCP (root).

far (192.0.2.11, .12, 2001:db8:2::11, ::12) --- eth0 [real: 192.0.2.71, 2001:db8:2::71; services]
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import NetNS, netns

from .bgp import V4, V6, until
from .real_server_rules import NODE4, REAL4, REAL6, render

OTHER4, NODE6, OTHER6 = "192.0.2.12", "2001:db8:2::11", "2001:db8:2::12"


class Real:
    """A real server and somebody far, in namespaces."""

    def __init__(self) -> None:
        self.here, self.far = (f"l4lb-rules-{os.getpid()}-{name}" for name in ("real", "far"))

    def __enter__(self) -> Real:
        for space in (self.here, self.far):
            netns.create(space)
        with NetNS(self.here) as here, NetNS(self.far) as far:
            here.link(
                "add", ifname="eth0", kind="veth", peer={"ifname": "w", "net_ns_fd": self.far}
            )
            ends = (
                (here, "eth0", (REAL4, REAL6), (V4, V6)),
                (far, "w", (NODE4, OTHER4, NODE6, OTHER6), ()),
            )
            for ip, name, links, services in ends:
                for link, addresses in ((name, links), ("lo", services)):
                    index = ip.link_lookup(ifname=link)[0]
                    ip.link("set", index=index, state="up")
                    for address in addresses:
                        size = (64 if link == name else 128) if ":" in address else 24
                        ip.addr("add", index=index, address=address, prefixlen=size, flags=0x02)
            wire = far.link_lookup(ifname="w")[0]
            far.route("add", dst=f"{V4}/32", oif=wire, gateway=REAL4)
            far.route("add", dst=f"{V6}/128", oif=wire, gateway=REAL6, family=socket.AF_INET6)
        return self

    def __exit__(self, *_error: object) -> None:
        for space in (self.here, self.far):
            netns.remove(space)

    def run(self, *command: str, space: str = "") -> str:
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{space or self.here}", *command],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load(self, rules: Path) -> None:
        self.run("nft", "--check", "--file", str(rules))
        self.run("nft", "--file", str(rules))

    def refused(self) -> int:
        """Packets that the rules dropped."""
        listing = json.loads(self.run("nft", "--json", "list", "table", "inet", "l4lb"))
        rules = [each["rule"] for each in listing["nftables"] if "rule" in each]
        return sum(
            part["counter"]["packets"]
            for rule in rules
            if rule["chain"] == "nodes_only"
            for part in rule["expr"]
            if "counter" in part
        )

    def send(self, source: str, protocol: int, payload: bytes = bytes(40)) -> None:
        """From the far end to the address of that family."""
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        with _inside(self.far, family, socket.SOCK_RAW, protocol) as sender:
            sender.bind((source, 0))
            sender.sendto(payload, (REAL6 if ":" in source else REAL4, 0))


def _inside(space: str, *kind: int) -> socket.socket:
    netns.pushns(space)
    try:
        return socket.socket(*kind)
    finally:
        netns.popns()


@pytest.fixture
def real() -> Iterator[Real]:
    with Real() as it:
        yield it


def udp(port: int) -> bytes:
    return (
        (40000).to_bytes(2, "big") + port.to_bytes(2, "big") + (48).to_bytes(2, "big") + bytes(42)
    )


TUNNELS = [(4, bytes(40)), (41, bytes(40)), (17, udp(6080))]


@pytest.mark.parametrize(("node", "other"), [(NODE4, OTHER4), (NODE6, OTHER6)])
def test_tunnels_of_nodes_are_let_in_and_others_are_not(
    real: Real, tmp_path: Path, node: str, other: str
) -> None:
    real.load(render(tmp_path))
    until(lambda: _answers(real, node, REAL6 if ":" in node else REAL4))
    for number, (protocol, payload) in enumerate(TUNNELS, start=1):
        real.send(node, protocol, payload)
        real.send(other, protocol, payload)
        until(lambda n=number: real.refused() >= n)
        assert real.refused() == number
    for protocol, payload in ((47, bytes(40)), (17, udp(6081)), (17, udp(53))):
        real.send(other, protocol, payload)
    assert _answers(real, other, REAL6 if ":" in node else REAL4), "all else is let in"
    assert real.refused() == len(TUNNELS)


def _answers(real: Real, source: str, address: str) -> bool:
    """Whether something there says that the port is closed."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with _inside(real.far, family, socket.SOCK_STREAM) as client:
        client.bind((source, 0))
        client.settimeout(2)
        try:
            client.connect((address, 9))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return True


def test_a_change_replaces_the_table_in_one_step(real: Real, tmp_path: Path) -> None:
    real.load(render(tmp_path))
    other = render(tmp_path, real_server_tunnel_sources=["192.0.2.0/26", OTHER4])
    real.load(other)
    real.load(other)
    until(lambda: _answers(real, OTHER4, REAL4))
    for _number in range(3):
        real.send(OTHER4, 4)
    assert _answers(real, OTHER4, REAL4)
    assert real.refused() == 0
    assert real.run("nft", "list", "tables") == "table inet l4lb\n"


def test_without_the_firewall_nobody_is_refused(real: Real, tmp_path: Path) -> None:
    rules = render(tmp_path, l4lb_real_server_firewall=False)
    real.load(rules)
    assert "drop" not in rules.read_text()
    assert "# Sources:\n" in rules.read_text().replace(" \n", "\n")


@pytest.mark.parametrize("says", ['"gue_port": 6080,', "_tunnels up 6080\n"])
def test_port_of_gue_stays_until_no_node_sends_there(tmp_path: Path, says: str) -> None:
    """says: the program's file, or the unit of the kernel's tunnels, from before."""
    before = {"results": [{"failed": True}, {"content": b64encode(says.encode()).decode()}]}
    pools = {"web": {"backends": [{"address": REAL4}]}}
    variables = {"l4lb_pools": pools, "__real_server_decap_before": before}
    for purges in (False, True):
        rules = render(tmp_path, real_server_purge=purges, **variables).read_text()
        assert ("udp dport 6080" in rules) is not purges
        assert f"size set {1440 if purges else 1432}" in rules


def segments(real: Real, address: str) -> tuple[int, int]:
    """Largest segments of a connection to the service: those that a client and that it may send."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        _inside(real.here, family, socket.SOCK_STREAM) as server,
        _inside(real.far, family, socket.SOCK_STREAM) as client,
    ):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, 80))
        server.listen()
        client.settimeout(20)
        client.connect((address, 80))
        accepted, _who = server.accept()
        with accepted:
            return tuple(  # without the timestamps, which take 12 bytes of a segment
                each.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) + 12
                for each in (client, accepted)
            )


@pytest.fixture
def wide(real: Real) -> Callable[[], Real]:
    """Links that take more than what lies behind them."""
    for space, name in ((real.here, "eth0"), (real.far, "w")):
        with NetNS(space) as ip:
            ip.link("set", index=ip.link_lookup(ifname=name)[0], mtu=3000)
    return real


@pytest.mark.parametrize(("address", "headers"), [(V4, 40), (V6, 60)])
def test_segments_fit_on_both_ways(wide: Real, tmp_path: Path, address: str, headers: int) -> None:
    until(lambda: _answers(wide, NODE6 if headers == 60 else NODE4, address))
    assert segments(wide, address) == (3000 - headers, 3000 - headers)
    wide.load(render(tmp_path))
    # 28 bytes: GUE over IPv4, which is the pool's
    assert segments(wide, address) == (1472 - headers, 1500 - headers)
    wide.load(render(tmp_path, real_server_tunnel_mtu=0, real_server_client_mtu=0))
    assert segments(wide, address) == (3000 - headers, 3000 - headers)
