# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads addresses, routes and neighbours by netlink; sends no packet, and judges nothing.

Private to the collection. Needs pyroute2 and netaddr.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _links
from ansible_collections.l4lb.xdp.plugins.module_utils._address import canonical
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_paths import LocalAddress, Path

try:
    from pyroute2.netlink.exceptions import NetlinkError
except ImportError:  # _links.require_libraries says so
    NetlinkError = OSError

IFF_LOOPBACK, IFF_NOARP = 0x8, 0x80
RTN_LOCAL = 2

# By what the kernel answers when asked for a route, and by the type of the route it answers with.
_REFUSALS = {
    errno.ENETUNREACH: "no route",
    errno.EHOSTUNREACH: "an unreachable route",
    errno.EACCES: "a prohibiting route",
    errno.EINVAL: "a blackhole route",
}
_REFUSING = {6: "a blackhole route", 7: "an unreachable route", 8: "a prohibiting route"}


def local_addresses() -> list[LocalAddress]:
    """Every address of this network namespace."""
    with _links.netlink() as ip:
        interfaces = {link["index"]: link for link in ip.get_links()}
        return [
            LocalAddress(
                message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"),
                message["prefixlen"],
                interfaces[message["index"]].get_attr("IFLA_IFNAME"),
                bool(interfaces[message["index"]]["flags"] & (IFF_LOOPBACK | IFF_NOARP)),
            )
            for message in ip.get_addr()
            if message["index"] in interfaces
        ]


def paths(backends: Iterable[str]) -> list[Path]:
    """The way to each of these addresses."""
    with _links.netlink() as ip:
        interfaces = {link["index"]: link for link in ip.get_links()}
        states = {
            (message["ifindex"], message.get_attr("NDA_DST")): _links.NEIGHBOUR_STATES.get(
                message["state"], ""
            )
            for message in ip.get_neighbours()
        }
        return [_path(ip, address, interfaces, states) for address in backends]


def _path(
    ip: Any, address: str, interfaces: dict[int, Any], states: dict[tuple[int, str], str]
) -> Path:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        route = ip.route("get", dst=address, family=family)[0]
    except NetlinkError as refused:
        if refused.code not in _REFUSALS:
            raise
        return Path(address, refused=_REFUSALS[refused.code])
    if route["type"] in _REFUSING:
        return Path(address, refused=_REFUSING[route["type"]])
    index = route.get_attr("RTA_OIF")
    link = interfaces[index]
    if route["type"] == RTN_LOCAL:
        return Path(address, local=True, interface=link.get_attr("IFLA_IFNAME"))
    next_hop = _next_hop(route, address)
    needs_none = link["flags"] & (IFF_LOOPBACK | IFF_NOARP)
    return Path(
        address,
        interface=link.get_attr("IFLA_IFNAME"),
        next_hop=next_hop,
        mtu=_mtu(route, link),
        neighbour="none needed" if needs_none else states.get((index, next_hop), ""),
    )


def _next_hop(route: Any, address: str) -> str:
    via = route.get_attr("RTA_VIA")  # an IPv4 route by an IPv6 router
    hop = via["addr"] if via else route.get_attr("RTA_GATEWAY") or address
    return canonical_or_same(hop)


def canonical_or_same(address: str) -> str:
    """The kernel's text of an address as ours; a link-local one stays as it is."""
    try:
        return canonical(address)
    except ValueError:
        return address


def _mtu(route: Any, link: Any) -> int:
    mtu = int(link.get_attr("IFLA_MTU"))
    metrics = route.get_attr("RTA_METRICS")
    limit = metrics.get_attr("RTAX_MTU") if metrics else None
    return min(mtu, limit) if limit else mtu
