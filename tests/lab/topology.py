# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab consists of: segments, hosts, addresses. Nothing here touches the system."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "l4lb-"
ROUTER = f"{PREFIX}router"
MANAGEMENT = f"{PREFIX}mgmt"
MANAGEMENT_MTU = 1500

ROUTER_AS = 65000
NODE_AS = 65001
BGP_PASSWORD = "lab-bgp"  # noqa: S105 - a value of the lab, not a secret
SERVICE_PREFIXES = ("203.0.113.0/24", "2001:db8:100::/64")


@dataclass(frozen=True)
class Segment:
    """A bridge in the router's namespace; the router is the gateway of everyone on it."""

    name: str
    mtu: int
    gateway4: str
    gateway6: str
    length4: int
    length6: int = 64

    @property
    def bridge(self) -> str:
        return f"br-{self.name}"


@dataclass(frozen=True)
class Host:
    """A member of the lab; without a management address it is a bare network namespace."""

    name: str
    kind: str
    segment: str = ""
    address4: str = ""
    address6: str = ""
    management: str = ""

    @property
    def namespace(self) -> str:
        return PREFIX + self.name

    @property
    def number(self) -> int:
        return list(HOSTS).index(self.name) + 1

    def mac(self, interface: str) -> str:
        """The same after a power cycle, as a machine's is: neighbours remember it."""
        return f"02:4c:34:00:0{interface[-1]}:{self.number:02x}"

    @property
    def boots(self) -> bool:
        return bool(self.management)

    @property
    def emulated(self) -> bool:
        """A machine with a kernel of its own, user-mode Linux; the others are containers."""
        return self.kind == "emulated"


# 1600 leaves room for the outer header: a tunnelled full segment is 1540 bytes at most.
SEGMENTS = {
    "nodes": Segment("nodes", 1600, "192.0.2.1", "2001:db8:1::1", 26),
    "real": Segment("real", 1600, "192.0.2.65", "2001:db8:2::1", 26),
    "client": Segment("client", 1500, "198.51.100.1", "2001:db8:3::1", 25),
}
MANAGEMENT_BRIDGE = "198.51.100.129"
MANAGEMENT_LENGTH = 25

HOSTS = {
    host.name: host
    for host in (
        Host("router", "router", management="198.51.100.131"),
        Host("node1", "node", "nodes", "192.0.2.11", "2001:db8:1::11", "198.51.100.141"),
        Host("node2", "node", "nodes", "192.0.2.12", "2001:db8:1::12", "198.51.100.142"),
        Host("real1", "real_server", "real", "192.0.2.71", "2001:db8:2::71", "198.51.100.151"),
        Host("real2", "real_server", "real", "192.0.2.72", "2001:db8:2::72", "198.51.100.152"),
        Host("real3", "real_server", "real", "192.0.2.73", "2001:db8:2::73", "198.51.100.153"),
        Host("client", "client", "client", "198.51.100.2", "2001:db8:3::2"),
        # A real server whose kernel has tunnels, whatever this machine's has: not in every lab.
        Host("real4", "emulated", "real", "192.0.2.74", "2001:db8:2::74", "198.51.100.154"),
    )
}


def booted() -> list[Host]:
    """Those that `up` boots."""
    return [host for host in HOSTS.values() if host.boots and not host.emulated]


def bootable() -> list[Host]:
    return [host for host in HOSTS.values() if host.boots]


def of_kind(kind: str) -> list[Host]:
    return [host for host in HOSTS.values() if host.kind == kind]


def namespaces() -> list[str]:
    return [MANAGEMENT, *(host.namespace for host in HOSTS.values())]
