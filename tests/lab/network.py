# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's wires: namespaces, bridges, veth links, addresses and default routes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from socket import AF_INET, AF_INET6

import topology
import xdp
from common import mounts_below, run, wait_for
from pyroute2 import IPRoute, netns
from topology import HOSTS, MANAGEMENT, ROUTER, SEGMENTS, Host, Segment

RUN_NETNS = Path("/run/netns")
# Numbers under which BIRD and FRR's bgpd put routes into the kernel.
DAEMONS = (12, 186)
# Addresses are usable at once instead of after two seconds; nobody else is on these wires.
NO_DAD = {"net/ipv6/conf/all/accept_dad": "0", "net/ipv6/conf/default/accept_dad": "0"}
# Strict filtering on the router breaks direct server return; layer-4 hashing spreads connections.
ROUTER_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/fib_multipath_hash_policy": "1",
    "net/ipv6/fib_multipath_hash_policy": "1",
}


@contextmanager
def inside(namespace: str) -> Iterator[IPRoute]:
    """Run the body in a network namespace; the calling thread comes back out in any case."""
    netns.pushns(namespace)
    try:
        with IPRoute() as ipr:
            yield ipr
    finally:
        netns.popns()


def exists(namespace: str) -> bool:
    return (RUN_NETNS / namespace).exists()


def usable(namespace: str) -> bool:
    """A name without its mount is what a creation that was killed half-way leaves."""
    return os.path.ismount(RUN_NETNS / namespace)


def sysctl(values: dict[str, str]) -> None:
    """Set sysctls of the current namespace."""
    for name, value in values.items():
        (Path("/proc/sys") / name).write_text(value)


def index_of(ipr: IPRoute, name: str) -> int | None:
    found = ipr.link_lookup(ifname=name)
    return found[0] if found else None


def make_namespace(namespace: str) -> None:
    if usable(namespace):
        return
    (RUN_NETNS / namespace).unlink(missing_ok=True)
    netns.create(namespace)
    with inside(namespace) as ipr:
        sysctl(NO_DAD)
        ipr.link("set", index=index_of(ipr, "lo"), state="up")


def make_bridge(ipr: IPRoute, name: str, mtu: int) -> int:
    index = index_of(ipr, name)
    if index is None:
        # Snooping would hold back neighbour discovery until a querier shows up; there is none.
        ipr.link("add", ifname=name, kind="bridge", br_mcast_snooping=0)
        index = index_of(ipr, name)
    # One that nobody has set changes when a port comes or goes; neighbours do not hear of it.
    (link,) = ipr.get_links(index)
    ipr.link("set", index=index, mtu=mtu, state="up", address=link.get_attr("IFLA_ADDRESS"))
    return index


def make_segment(ipr: IPRoute, segment: Segment) -> None:
    index = make_bridge(ipr, segment.bridge, segment.mtu)
    ipr.addr("replace", index=index, address=segment.gateway4, prefixlen=segment.length4)
    ipr.addr("replace", index=index, address=segment.gateway6, prefixlen=segment.length6)


def make_core() -> None:
    """The router's and the management network's own namespaces, with their bridges."""
    make_namespace(ROUTER)
    with inside(ROUTER) as ipr:
        sysctl(ROUTER_SYSCTLS)
        for segment in SEGMENTS.values():
            make_segment(ipr, segment)
    make_namespace(MANAGEMENT)
    with inside(MANAGEMENT) as ipr:
        index = make_bridge(ipr, "br-mgmt", topology.MANAGEMENT_MTU)
        ipr.addr(
            "replace",
            index=index,
            address=topology.MANAGEMENT_BRIDGE,
            prefixlen=topology.MANAGEMENT_LENGTH,
        )


def make_link(core: str, bridge: str, host: Host, interface: str, mtu: int) -> None:
    """A veth from a bridge (where its end bears the host's name) to the host's interface."""
    with inside(core) as ipr:
        if index_of(ipr, host.name) is not None:
            return
        peer = {"ifname": interface, "net_ns_fd": host.namespace, "mtu": mtu}
        if not host.emulated:
            peer["address"] = host.mac(interface)
        ipr.link("add", ifname=host.name, kind="veth", mtu=mtu, peer=peer)
        index = index_of(ipr, host.name)
        ipr.link("set", index=index, master=index_of(ipr, bridge), state="up")


def prepare_for_xdp(host: Host) -> None:
    """Make the router's end of a link fit for native XDP at the other end.

    Checksums must be complete in the frame (XDP sees bytes, not the kernel's promise to fill them
    in), and XDP_TX needs a native program on the peer.
    """
    with inside(ROUTER) as ipr:
        run(["ethtool", "-K", host.name, "tx", "off"])
        xdp.attach_pass(index_of(ipr, host.name))


def configure_host(host: Host, segment: Segment) -> None:
    with inside(host.namespace) as ipr:
        index = index_of(ipr, "eth0")
        ipr.addr("replace", index=index, address=host.address4, prefixlen=segment.length4)
        ipr.addr("replace", index=index, address=host.address6, prefixlen=segment.length6)
        ipr.link("set", index=index, state="up")
        ipr.route("replace", dst="0.0.0.0/0", gateway=segment.gateway4)
        ipr.route("replace", dst="::/0", gateway=segment.gateway6)


def make_tap(host: Host, interface: str) -> None:
    """The far end of an emulated machine's interface, which has address and MAC: a bridge leads to
    the link.
    """
    with inside(host.namespace) as ipr:
        tap = f"tap-{interface}"
        if index_of(ipr, tap) is None:
            ipr.link("add", ifname=tap, kind="tuntap", mode="tap")
        bridge = make_bridge(ipr, f"br-{interface}", topology.MANAGEMENT_MTU)
        for name in (tap, interface):
            ipr.link("set", index=index_of(ipr, name), master=bridge, state="up")


def plug(host: Host) -> None:
    """Give a host its namespace and its links; what is there already stays."""
    make_namespace(host.namespace)
    if host.segment:
        segment = SEGMENTS[host.segment]
        make_link(ROUTER, segment.bridge, host, "eth0", segment.mtu)
        prepare_for_xdp(host)
        if not host.emulated:
            configure_host(host, segment)
    if host.management:
        make_link(MANAGEMENT, "br-mgmt", host, "eth1", topology.MANAGEMENT_MTU)
    if host.emulated:
        for interface in ("eth0", "eth1"):
            make_tap(host, interface)
    elif host.management:
        with inside(host.namespace) as ipr:
            index = index_of(ipr, "eth1")
            ipr.addr(
                "replace",
                index=index,
                address=host.management,
                prefixlen=topology.MANAGEMENT_LENGTH,
            )
            ipr.link("set", index=index, state="up")
    if host.kind == "client":
        # The same at the client: nodes must see whole checksums and no segment above the MTU.
        with inside(host.namespace):
            run(["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off"])


def unplug(host: Host) -> None:
    """Take a host's links and namespace away, and with them all that it kept in the kernel."""
    for core in (ROUTER, MANAGEMENT):
        if not usable(core):
            continue
        with inside(core) as ipr:
            index = index_of(ipr, host.name)
            if index is not None:
                ipr.link("del", index=index)
    if exists(host.namespace):
        netns.remove(host.namespace)


def power_cycle(host: Host) -> None:
    """What a reboot of a machine loses: XDP programs, addresses, routes, sysctls.

    A network namespace outlives the container in it, so a leaf gets a new one. The router keeps
    its own, the bridges of the others are in there.
    """
    if host.segment:
        unplug(host)
        plug(host)


def forget(host: Host) -> None:
    """Take away what a host leaves outside of itself: its links, ways into it, the router's routes.

    An SSH master to a host that is gone takes the sessions of the next one, and hangs them.
    """
    for pid in inhabitants([MANAGEMENT]):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[0] == b"nc" and host.management.encode() in words:
                os.kill(pid, signal.SIGKILL)
    if host.segment:
        unplug(host)
    elif usable(host.namespace):
        with inside(host.namespace) as ipr:
            # A daemon that was killed has not taken its routes away.
            for family, protocol in product((AF_INET, AF_INET6), DAEMONS):
                ipr.flush_routes(family=family, proto=protocol)


def inhabitants(namespaces: Iterable[str]) -> list[int]:
    """Processes in these namespaces; once the hosts are off: shells, traffic, nc for SSH."""
    ours = {(RUN_NETNS / name).stat().st_ino for name in namespaces if exists(name)}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "ns/net").stat().st_ino in ours:
                found.append(int(process.name))
    return found


def evict() -> None:
    """End what still runs in the namespaces; it would keep them alive without a name.

    An SSH master that outlived its lab would also take the next lab's sessions, and hang them.
    """
    ours = topology.namespaces()
    for pid in inhabitants(ours):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not inhabitants(ours), 5, "processes in the lab's namespaces do not end")


def remove_all() -> None:
    evict()
    for host in HOSTS.values():
        if host.namespace != ROUTER:
            unplug(host)
    for namespace in topology.namespaces():
        if exists(namespace):
            netns.remove(namespace)
    # `netns.create` turns the directory into a mount point of its own; leave none behind.
    if str(RUN_NETNS) in mounts_below(RUN_NETNS) and not any(RUN_NETNS.iterdir()):
        run(["umount", str(RUN_NETNS)])
