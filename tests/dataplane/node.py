# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node to test on: the real program and maps, in namespaces that vanish with the process.

    router --- eth0 [node] eth1 --- far

Packets are run through the loaded program by BPF_PROG_TEST_RUN, routes and neighbours are the
namespace's.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _bpf,
    _program,
    _shortcuts,
    _wanted,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._apply import Outcome, apply_fleet
from ansible_collections.l4lb.xdp.plugins.module_utils._config import parse
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

SOURCE = Path(__file__).parents[2] / "bpf"

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

ROUTER_MAC = "02:00:00:00:00:01"
NODE_MAC = "02:00:00:00:00:0b"
NODE_MAC1 = "02:00:00:00:00:0c"
FAR_MAC = "02:00:00:00:00:02"

NODE4, NODE6 = "192.0.2.11", "2001:db8:1::11"
VIP4, VIP6 = "203.0.113.10", "2001:db8:100::10"
CLIENT4, CLIENT6 = "198.51.100.2", "2001:db8:3::2"

XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4

SIZES = Sizes(ring=251, services=64, pools=8, backends=1024, flows=4096)


def isolate() -> None:
    """Moves this process into mount and network namespaces of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the data-plane tests need root: unshare failed")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    # The mount of sysfs belongs to the network namespace that made it.
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)


def wire() -> None:
    """Makes the interfaces, routes and neighbours of the picture above."""
    with IPRoute() as ip:
        for name, peer, mac, prefix4, prefix6 in (
            ("eth0", "router", NODE_MAC, f"{NODE4}/26", f"{NODE6}/64"),
            ("eth1", "far", NODE_MAC1, "192.0.2.129/26", "2001:db8:4::1/64"),
        ):
            ip.link("add", ifname=name, kind="veth", peer=peer, address=mac)
            index = ip.link_lookup(ifname=name)[0]
            for end in (index, ip.link_lookup(ifname=peer)[0]):
                ip.link("set", index=end, state="up")
            for prefix in (prefix4, prefix6):
                address, length = prefix.split("/")
                ip.addr("add", index=index, address=address, prefixlen=int(length))
        for conf in ("ipv4", "ipv6"):
            Path(f"/proc/sys/net/{conf}/conf/all/forwarding").write_text("1")
        eth0, eth1 = interface("eth0"), interface("eth1")
        for address, index, mac in (
            ("192.0.2.1", eth0, ROUTER_MAC),
            ("2001:db8:1::1", eth0, ROUTER_MAC),
            ("192.0.2.130", eth1, FAR_MAC),
            ("2001:db8:4::2", eth1, FAR_MAC),
        ):
            ip.neigh("add", dst=address, lladdr=mac, ifindex=index, state="permanent")
        ip.route("add", dst="192.0.2.64/26", gateway="192.0.2.1")
        ip.route("add", dst="2001:db8:2::/64", gateway="2001:db8:1::1")
        ip.route("add", dst="192.0.2.200/32", type="unreachable")


@contextmanager
def bpffs(directory: Path) -> Iterator[Path]:
    """A BPF file system of its own."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@cache
def interface(name: str) -> int:
    """Its index; interfaces of the picture stay."""
    with IPRoute() as ip:
        return int(ip.link_lookup(ifname=name)[0])


@dataclass
class Node:
    """The balancer, loaded on fresh maps; `send` is a packet that comes in by eth0."""

    pins: Path
    state_dir: Path
    sizes: Sizes = SIZES
    source_ipv4: str | None = NODE4
    source_ipv6: str | None = NODE6
    source_prefix_ipv4: str | None = None
    source_prefix_ipv6: str | None = None
    hash_seed: int = 7220431
    other_ports: str = "drop"
    echo: str = "answer"
    gue_port: int = 6080
    new_records: int = 0
    loaded: _program.Loaded = field(init=False)
    tables: Tables = field(init=False)
    ingress: int = field(init=False)

    def __post_init__(self) -> None:
        self.ingress = interface("eth0")
        self.loaded = _program.prepare(self.wanted())
        self.tables = Tables(self.pins, SOURCE)

    def close(self) -> None:
        """Gives its descriptors back: bcc keeps them until the process ends."""
        for compiled in (self.loaded.compiled, self.tables._maps):
            compiled.cleanup()

    def wanted(self, **changes: Any) -> _wanted.Wanted:
        values = {
            "name": "balancer",
            "interfaces": ("eth0",),
            "source": SOURCE,
            "pins": self.pins,
            "sizes": self.sizes,
            "hash_seed": self.hash_seed,
            "source_ipv4": self.source_ipv4,
            "source_ipv6": self.source_ipv6,
            "source_prefix_ipv4": self.source_prefix_ipv4,
            "source_prefix_ipv6": self.source_prefix_ipv6,
            "other_ports": self.other_ports,
            "echo": self.echo,
            "gue_port": self.gue_port,
            "new_records": self.new_records,
        }
        return _wanted.Wanted(**{**values, **changes})

    def apply(
        self,
        pools: dict[str, Any],
        services: list[dict[str, Any]],
        deny: Sequence[str] = (),
    ) -> Outcome:
        """As l4lb.xdp.services with purge does."""
        return apply_fleet(parse(pools, services, deny), self.tables, self.state_dir)

    def reset(self) -> None:
        """As if just made: no services, flows or counts."""
        for name in ("flows4", "flows6", "fragments", "budgets", "verdicts"):
            self.tables.table(name).clear()
        self.apply({}, [])  # after the flows: their records hold on to indices
        backends = self.tables.table("backends")
        for index in self.tables.actual().backends:  # those of other tests, removed
            backends[index] = backends.Leaf()

    def serve(self, *backends: str | dict[str, Any], **pool: Any) -> Outcome:
        """One pool behind both service addresses, tcp and udp, port 80."""
        entries = [{"address": b} if isinstance(b, str) else b for b in backends]
        services = [
            {
                "name": f"{protocol}{i}",
                "address": address,
                "port": 80,
                "protocol": protocol,
                "pool": "web",
            }
            for protocol in ("tcp", "udp")
            for i, address in enumerate((VIP4, VIP6))
        ]
        return self.apply({"web": {"backends": entries, **pool}}, services)

    def lose(self, key: ServiceKey) -> None:
        """Takes a service out of the maps, as by somebody else's hand."""
        self.tables.remove_shortcut(_shortcuts.place(key, self.sizes.services))
        self.tables.remove_service(key, self.tables.actual().services[key])

    def run(self, frame: bytes | Packet) -> tuple[int, bytes]:
        """Verdict and frame of a packet that came in by eth0."""
        return _bpf.run_xdp(self.loaded.fd, bytes(frame), self.ingress)

    def backend_of(self, packet: Packet) -> str:
        """The address of the backend that the packet was sent to."""
        verdict, out = self.run(packet)
        assert verdict == XDP_TX, f"not sent: {verdict}"
        outer = Ether(out).payload
        return str(outer.dst)

    def flows(self) -> dict[str, int]:
        """How many flows are recorded, by backend address."""
        counts: dict[str, int] = {}
        backends = self.tables.actual().backends
        for name in ("flows4", "flows6"):
            for _key, leaf in self.tables.entries(name):
                address = backends[leaf.backend].address
                counts[address] = counts.get(address, 0) + 1
        return counts


def frame(payload: Packet) -> Packet:
    """An Ethernet frame from the router to the node."""
    return Ether(dst=NODE_MAC, src=ROUTER_MAC) / payload


def from_client(transport: Packet, ipv6: bool = False, **fields: Any) -> Packet:
    """A client's packet to the service's address of that family."""
    if ipv6:
        return frame(IPv6(**{"src": CLIENT6, "dst": VIP6, **fields}) / transport)
    return frame(IP(**{"src": CLIENT4, "dst": VIP4, **fields}) / transport)
