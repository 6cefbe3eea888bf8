# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges addresses and the ways to the backends: routes, neighbours, room for the outer header.

Private to the collection. Thousands of backends give a few checks: those alike are one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._address import contains
from ansible_collections.l4lb.xdp.plugins.module_utils._link_kinds import TAKES_NOTHING
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_check import (
    Check,
    counted,
    some,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_links import (
    XDP_BASIC,
    XDP_NDO_XMIT,
    Link,
)

OUTER_HEADER = {4: 20, 6: 40}
"""Bytes, by the IP version of the backend."""
UDP_HEADER = 8
"""What forwarding: gue adds to that."""


@dataclass(frozen=True)
class LocalAddress:
    """An address of the node. loopback: on an interface that does not answer for it by itself,
    lo or dummy.
    """

    address: str
    prefix: int
    interface: str
    loopback: bool

    @property
    def alone(self) -> bool:
        return self.prefix == (128 if ":" in self.address else 32)


@dataclass(frozen=True)
class Path:
    """The way to a backend. refused: why there is none, empty if there is. mtu: of the interface,
    or of the route if that is smaller. neighbour: state of the next hop, as the kernel calls it in
    lower case; empty: it was not asked about yet; `none needed`. direct: packets go there as they
    are (forwarding: l2); udp: some have a UDP header, too (forwarding: gue).
    """

    backend: str
    refused: str = ""
    local: bool = False
    interface: str = ""
    next_hop: str = ""
    mtu: int = 0
    neighbour: str = ""
    direct: bool = False
    udp: bool = False

    @property
    def header(self) -> int:
        """Bytes that packets get on the way, at most."""
        if self.direct:
            return 0
        return OUTER_HEADER[self.version] + (UDP_HEADER if self.udp else 0)

    @property
    def version(self) -> int:
        return 6 if ":" in self.backend else 4

    @property
    def leaves(self) -> bool:
        """Whether a packet goes out to it."""
        return not self.refused and not self.local


def judge_service_addresses(services: Iterable[str], local: Iterable[LocalAddress]) -> list[Check]:
    wanted = set(services)
    checks = [_judge_local(have) for have in local if have.address in wanted]
    return checks or [
        Check("service_addresses", "", "ok", f"none of {len(wanted)} is an address of the node")
    ]


def _judge_local(have: LocalAddress) -> Check:
    where = f"{have.address}/{have.prefix}"
    remedy = (
        f"ip address del {where} dev {have.interface}, and in the network's configuration: "
        "a node announces service addresses and has none"
    )
    if have.loopback and have.alone:
        found = f"on {have.interface}: what the program leaves to the kernel is answered here"
        return Check("service_addresses", have.address, "warning", found, remedy)
    found = f"{where} on {have.interface}: the node draws its packets whether it balances or not"
    remedy = f"if it is the node's own, give the service another one; else {remedy}"
    return Check("service_addresses", have.address, "failed", found, remedy)


def judge_sources(
    backends: Iterable[str],
    sources: Mapping[int, str | None],
    services: Iterable[str],
    local: Iterable[LocalAddress],
) -> list[Check]:
    """sources: the tunnels' source address by IP version."""
    versions = {6 if ":" in address else 4 for address in backends}
    own = {have.address for have in local}
    taken = set(services)
    checks = []
    for version, name in ((4, "source_ipv4"), (6, "source_ipv6")):
        source = sources.get(version)
        if source:
            checks.append(_judge_source(name, source, own, taken))
        elif version in versions:
            found = f"not set, so backends with IPv{version} addresses get nothing"
            remedy = f"set {name} (l4lb_{name}) to an address of the node"
            checks.append(Check("tunnel_source", name, "failed", found, remedy))
    return checks


def _judge_source(name: str, source: str, own: set[str], taken: set[str]) -> Check:
    remedy = f"set {name} (l4lb_{name}) to an address of the node"
    if source in taken:
        return Check("tunnel_source", name, "failed", f"{source} is a service's address", remedy)
    if source not in own:
        found = f"{source} is on no interface: errors about tunnels never come back here"
        return Check("tunnel_source", name, "warning", found, remedy)
    return Check("tunnel_source", name, "ok", source)


def judge_source_prefixes(
    prefixes: Mapping[int, str | None], backends: Iterable[str], services: Iterable[str]
) -> list[Check]:
    """prefixes: what outer sources are spread over, by IP version."""
    taken = [*((a, "a service's") for a in services), *((a, "a backend's") for a in backends)]
    checks = []
    for version, name in ((4, "source_prefix_ipv4"), (6, "source_prefix_ipv6")):
        prefix = prefixes.get(version)
        if not prefix:
            continue
        within = [f"{address}, {whose}" for address, whose in taken if contains(prefix, address)]
        if within:
            found = f"{prefix} holds {some(within)}: who has that address would drop such packets"
            remedy = f"set {name} (l4lb_{name}) to a prefix that nobody has an address of"
            checks.append(Check("tunnel_source", name, "failed", found, remedy))
        else:
            checks.append(Check("tunnel_source", name, "ok", prefix))
    return checks


def judge_routes(paths: Sequence[Path]) -> list[Check]:
    checks = []
    for refused, group in _grouped(paths, lambda path: path.refused).items():
        which = some([path.backend for path in group])
        if refused:
            found = f"{refused} to {counted(len(group), 'backend')}: {which}"
            remedy = "add a route, or take them out of their pools"
            checks.append(Check("routes", "", "failed", found, remedy))
    far = [path for path in paths if path.direct and path.leaves and path.next_hop != path.backend]
    for router, group in _grouped(far, lambda path: path.next_hop).items():
        which = some([path.backend for path in group])
        found = f"through {router} to {counted(len(group), 'backend')} of forwarding: l2: {which}"
        remedy = "put them on a link of the node's, or set forwarding: ipip"
        checks.append(Check("routes", "", "failed", found, remedy))
    if not checks:
        checks.append(Check("routes", "", "ok", f"to {counted(len(paths), 'backend')}"))
    return checks


_NEIGHBOURS = {
    "failed": ("warning", "did not answer", "look at the link, the address and the firewall"),
    "incomplete": ("unknown", "asked for and silent until now", ""),
    "": ("unknown", "not asked for yet; the first packet does", ""),
}


def judge_neighbours(paths: Iterable[Path]) -> list[Check]:
    """One check for each interface and kind of answer."""
    hops = {(path.interface, path.next_hop): path for path in paths if path.leaves}
    checks = []
    for key, group in _grouped(hops.values(), _neighbour_key).items():
        interface, state = key
        status, says, remedy = _NEIGHBOURS.get(state, ("ok", "known", ""))
        names = some([path.next_hop for path in group])
        found = f"{counted(len(group), 'next hop')} {says}: {names}"
        checks.append(Check("neighbours", interface, status, found, remedy))
    return checks or [Check("neighbours", "", "ok", "none is needed")]


def _neighbour_key(path: Path) -> tuple[str, str]:
    state = path.neighbour if path.neighbour in _NEIGHBOURS else "known"
    return path.interface, state


def judge_mtu(paths: Iterable[Path], client_mtu: int) -> list[Check]:
    """client_mtu: bytes of the largest packet that a client sends."""
    checks = []
    leaving = (path for path in paths if path.leaves)
    for key, group in _grouped(leaving, _mtu_key).items():
        interface, version, mtu, header = key
        needed = client_mtu + header
        to = f"to {counted(len(group), f'IPv{version} backend')}"
        if mtu >= needed:
            found = f"MTU {mtu} {to}, {needed} needed"
            checks.append(Check("mtu", interface, "ok", found))
            continue
        found = (
            f"MTU {mtu} {to}, but a client's packet of {client_mtu} bytes has {needed} with its "
            "outer header and would be lost without a word"
        )
        remedy = (
            f"give {interface}, its route and the network to the real servers an MTU of {needed}, "
            f"or have clients send at most {mtu - header} bytes (MSS) and set client_mtu "
            "(l4lb_client_mtu) to that"
        )
        checks.append(Check("mtu", interface, "failed", found, remedy))
    return checks


def _mtu_key(path: Path) -> tuple[str, int, int, int]:
    return path.interface, path.version, path.mtu, path.header


def judge_redirects(
    paths: Iterable[Path], wanted: Sequence[str], egress: Mapping[str, Link], mode: str
) -> list[Check]:
    """Whether the interfaces that lead to backends take packets from the program.

    wanted: the interfaces that get it. A driver usually takes what is redirected to it only while
    it has a program of its own; veth only while its peer has one, or GRO.
    """
    if mode != "native":
        return []
    names = sorted({path.interface for path in paths if path.leaves})
    return [
        _judge_redirect(egress[name], name in wanted, list(wanted) == [name])
        for name in names
        if name in egress
    ]


def _judge_redirect(link: Link, attached: bool, same: bool) -> Check:
    """attached: it gets the program; same: packets go out where they came in, only there."""

    def check(status: str, found: str, remedy: str = "") -> Check:
        return Check("redirect", link.name, status, found, remedy)

    if link.driver == "veth":
        if link.xdp_features is None:
            return check("unknown", "this kernel does not tell whether the peer takes packets")
        if link.xdp_features & XDP_NDO_XMIT:
            return check("ok", "its peer takes packets from the program")
        return check(
            "warning",
            "its peer has neither a program nor GRO: what the program sends by it is lost",
            f"attach a program (one that passes all will do) to the peer of {link.name}",
        )
    shape = link.shape
    if shape and shape.kind in TAKES_NOTHING:
        lower = shape.lower or "an interface below it"
        return check(
            "failed",
            f"{shape.kind} takes no packets from the program, so backends behind it get nothing",
            f"lead their routes by {lower}, or set mode: generic",
        )
    if same:
        return check("ok", "packets go out where they come in")
    if link.xdp_features is None:
        return check("unknown", "this kernel does not tell whether it takes redirected packets")
    if link.xdp_features & XDP_NDO_XMIT or (attached and link.xdp_features & XDP_BASIC):
        return check("ok", "takes packets from the program")
    return check(
        "warning",
        "takes no redirected packets now, so backends behind it would get nothing",
        f"add {link.name} to interfaces (l4lb_interfaces), or set mode: generic",
    )


def _grouped(items: Iterable[Any], key: Callable[[Any], Hashable]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
