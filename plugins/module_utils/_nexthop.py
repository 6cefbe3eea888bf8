# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The next hop of an encapsulated packet, and why it is that one.

Private to the collection. The kernel is asked as bpf/nexthop.h asks it, by a program of our own
(bpf/explain.c), because netlink's answer differs: it knows nothing of the interface that the packet
came in by, of forwarding that is off, nor of which path a packet in transit takes. Netlink only
adds what people want to know besides.
"""

from __future__ import annotations

import ctypes as ct
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _links
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._lookup import CachedHop
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import (
    Sizes,
    compile_unit,
    load,
)

RESULTS = (
    "success",
    "blackhole",
    "unreachable",
    "prohibit",
    "not_forwarded",
    "forwarding_off",
    "encapsulated",
    "no_neighbour",
    "too_big",
)
"""BPF_FIB_LKUP_RET_* of linux/bpf.h, by number."""

DROPPED = ("blackhole", "unreachable", "prohibit")

_ROUTE_TYPES = {2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"}
"""RTN_* of linux/rtnetlink.h that are not forwarded."""


@dataclass(frozen=True)
class Hop:
    """The kernel's answer.

    result: one of RESULTS, or `error`. interface: by name, None where there is no way out. address:
    of the neighbour, which is a router or the backend itself. mac: None while it is unknown.
    """

    result: str
    interface: str | None = None
    address: str | None = None
    mac: str | None = None


class Asker:
    """Asks the kernel by a program of our own, loaded for as long as this lives."""

    def __init__(self, source: Path, pins: Path, sizes: Sizes) -> None:
        self._compiled = compile_unit(source / "explain.c", pins, sizes)
        self._way = self._compiled[b"ways"].Leaf()
        self._fd = load(self._compiled, "explain")

    def ask(self, source: str, destination: str, ingress: int) -> Hop:
        """The next hop of a packet that came in by the interface with that index."""
        table = self._compiled[b"ways"]
        self._way = way = table.Leaf(ipv6=":" in destination)
        for name, address in (("source", source), ("destination", destination)):
            raw = packed(address)
            ct.memmove(ct.addressof(way) + getattr(table.Leaf, name).offset, raw, len(raw))
        zero = ct.c_uint32(0)
        _bpf.update(table.map_fd, zero, way, "ask for a next hop")
        _bpf.run_xdp(self._fd, bytes(64), ingress)
        _bpf.look_up(table.map_fd, zero, way)
        return _hop(way)

    def in_use(self, cached: Sequence[CachedHop]) -> list[CachedHop]:
        """Those that their CPUs went by when the kernel was asked."""
        now, lifetime = self._way.now, self._way.lifetime
        return [hop for hop in cached if (now - hop.asked) % 2**32 < lifetime]


def _hop(way: Any) -> Hop:
    result = RESULTS[way.result] if 0 <= way.result < len(RESULTS) else "error"
    if result not in ("success", "no_neighbour"):
        return Hop(result)
    raw = bytes(way.via)
    family = socket.AF_INET6 if way.via_ipv6 else socket.AF_INET
    address = socket.inet_ntop(family, raw if way.via_ipv6 else raw[:4])
    mac = bytes(way.via_mac).hex(":") if result == "success" else None
    return Hop(result, interface_name(way.interface), address, mac)


def interface_name(index: int) -> str:
    """The name of an interface, or its number when it is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"


def verdict(hop: Hop, ingress: str) -> str:
    """The verdict of a packet that came in by that interface."""
    if hop.result == "success":
        return "sent" if hop.interface == ingress else "redirected"
    return "drop_no_route" if hop.result in DROPPED else "to_kernel"


# --- what netlink adds ---


def neighbour_state(hop: Hop) -> str | None:
    """What the kernel knows of the neighbour: a word of linux/neighbour.h, or `none`."""
    if hop.address is None or hop.interface is None:
        return None
    try:
        index = _links.interface(hop.interface).index
        with _links.netlink() as ip:
            (entry,) = ip.neigh("get", dst=hop.address, ifindex=index)
    except _links.LinkError:  # there is none
        return "none"
    return _links.NEIGHBOUR_STATES.get(entry["state"], "none")


def route(destination: str) -> tuple[str, str | None]:
    """How the node's own packets go there: `unicast`, `local` ..., or `none`; and by which
    interface.
    """
    try:
        with _links.netlink() as ip:
            (found,) = ip.route("get", dst=destination)
    except _links.LinkError:  # there is none, or one that says that there is none
        return "none", None
    index = found.get_attr("RTA_OIF")
    kind = _ROUTE_TYPES.get(found["type"], "unicast")
    return kind, interface_name(index) if index else None


# --- in words ---

_TO_KERNEL = "the packet, encapsulated, is left to the kernel"


def explain(hop: Hop, destination: str, ingress: str, state: str | None) -> str:
    """Why the packet gets the verdict that it gets; state: of the neighbour."""
    if hop.result == "success":
        goes = f"redirected there from {ingress}"
        if hop.interface == ingress:
            goes = "sent out of the interface it came in by"
        return f"{_way(hop, destination)} ({hop.mac}, {state}): the packet is {goes}"
    if hop.result == "no_neighbour":
        return (
            f"{_way(hop, destination)}, whose link address the kernel does not know "
            f"(neighbour: {state}): {_TO_KERNEL}, which has to find it"
        )
    if hop.result == "not_forwarded":
        return _not_forwarded_text(destination)
    if hop.result == "forwarding_off":
        family = "ipv6" if ":" in destination else "ipv4"
        return (
            f"forwarding is off on {ingress} (sysctl net.{family}.conf.{ingress}.forwarding), so "
            f"XDP is told no next hop: {_TO_KERNEL}, which does not forward it either"
        )
    if hop.result in DROPPED:
        return f"the route to {destination} is of type {hop.result}: the packet is dropped"
    reason = "has an encapsulation of its own" if hop.result == "encapsulated" else "is not for XDP"
    return f"the route to {destination} {reason}: {_TO_KERNEL}"


def off_link(hop: Hop, destination: str) -> str:
    """Why a backend that has to be on a link of the node's is not."""
    return (
        f"{_way(hop, destination)}, but its pool forwards by MAC addresses (forwarding: l2), which "
        "only reaches backends on the node's own links: the packet is dropped"
    )


def _way(hop: Hop, destination: str) -> str:
    if hop.address == destination:
        return f"{destination} is reached directly by {hop.interface}"
    return f"{destination} is reached by {hop.interface} through {hop.address}"


def _not_forwarded_text(destination: str) -> str:
    kind, _interface = route(destination)
    if kind == "none":
        return f"there is no route to {destination}: {_TO_KERNEL}, which cannot deliver it"
    if kind == "local":
        return f"{destination} is this node's own address: {_TO_KERNEL}, which takes it in"
    return f"packets to {destination} are not forwarded (route: {kind}): {_TO_KERNEL}"


def stale(hop: Hop, in_use: Sequence[CachedHop]) -> list[str]:
    """The CPUs that for a moment still use another next hop, found before; a line each way."""
    cpus: dict[str, list[str]] = {}
    for seen in in_use:
        interface = interface_name(seen.interface)
        if (interface, seen.mac) != (hop.interface, hop.mac):
            cpus.setdefault(f"{seen.mac} by {interface}", []).append(str(seen.cpu))
    return [
        f"for about a second more, some CPUs ({', '.join(numbers)}) still send to {way}, as found "
        "before"
        for way, numbers in cpus.items()
    ]
