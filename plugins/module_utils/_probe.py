# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of health probes: a client's, through the tunnel, to the one backend asked about.

Private to the collection. A probe is an ordinary socket that connects to a service's address and
has SO_MARK = `mark(index of the backend)`, set before it connects. A rule leads what it sends to a
table with a route for each service address; the route's program (bpf/probe.c) wraps it for that
backend as the balancer would. The answer comes as a client's does, straight from the real server.

Two facts keep the guard against loops (a service's address is unreachable in the main table): the
rule is for what this node itself sends, and the program drops what carries no mark. The rule also
serves the reverse path check (rp_filter) of the answers, whose source is a service's address.

The routes outlive the process, and are harmless without it. They are for CAP_NET_ADMIN to write; to
load the program needs CAP_BPF, CAP_NET_ADMIN and, as bcc opens pinned maps, CAP_SYS_ADMIN. To set a
mark takes CAP_NET_ADMIN, or since Linux 5.17 CAP_NET_RAW.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _address, _bpf, _links
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import (
    Sizes,
    check_pins,
    compile_unit,
    load,
    prepared_sizes,
)

try:
    from pyroute2.netlink.exceptions import NetlinkError
except ImportError:  # _links says so in its own words
    NetlinkError = OSError

MARK = 0x4C340000
MARK_INDEX = 0x0000FFFF
"""As in bpf/probe.c: the mark of a probe is MARK and the index of a backend."""

TABLE = 20020
PRIORITY = 20020
"""Of the rule: after `local` (0), before `main` (32766)."""

MTU = 1280
"""Of the routes: IPv6 needs it, and with outer headers of 40 bytes it passes where 1,320 do, in UDP
1,328."""

NAME = "l4lb_probe"
"""Our routes' programs have names that begin so; all else in the table is somebody else's."""

FAMILIES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
IFF_LOOPBACK = 0x8
MAIN_TABLE = 254
SCOPE_LINK = 253
RTM_F_FIB_MATCH = 0x2000
"""Of linux/rtnetlink.h: to get the route itself, not what it comes to for a packet."""


class ProbeError(L4lbError):
    """Probes cannot go through the tunnel from this node; the text says what to do."""


@dataclass(frozen=True)
class Route:
    """A route of ours. interface: its index; program: its name, which tells code and maps."""

    interface: int
    program: str
    source: str | None
    mtu: int | None = MTU


Routes = dict[str, Route]
"""By the address, canonical."""


def mark(index: int) -> int:
    """SO_MARK of the probes of the backend with this index. Raises ValueError when there is none
    such: 0 is nobody's.
    """
    if not 0 < index <= MARK_INDEX:
        raise ValueError(f"{index} is no index of a backend")
    return MARK | index


class Probes:
    """The loaded program, and the routes that lead to it. Rules and routes stay when the process
    ends.
    """

    def __init__(self, pins: Path, source: Path, sizes: Sizes) -> None:
        """Compiles and loads. Raises SchemaError when no balancer is prepared here, or one of other
        sizes.
        """
        prepared_sizes(pins, source)
        unit = source / "probe.c"
        self._compiled = compile_unit(unit, pins, sizes)  # owns the descriptor
        check_pins(unit, pins, self._compiled)
        self._fd = load(self._compiled, "probe", "LWT_XMIT")
        self.program = program_name(_bpf.program_info(self._fd))
        self._synced: set[str] = set()

    def sync(
        self, addresses: Collection[str], source_ipv4: str | None, source_ipv6: str | None
    ) -> list[str]:
        """Makes rules and routes those of these service addresses; returns what it changed, a line
        each.

        source: what probes are sent from unless they are bound, None: the kernel chooses. A family
        in which it has nothing to choose from gets no routes: its probes find no way.
        Raises ProbeError or LinkError; the next call goes on where this one stopped.
        """
        sources = {
            family: source and _address.canonical(source)
            for family, source in zip(FAMILIES, (source_ipv4, source_ipv6))
        }
        wanted = {_address.canonical(address) for address in addresses}
        with _links.netlink() as ip:
            changed: list[str] = []
            synced: set[str] = set()
            for family, source in sources.items():
                here = {address for address in wanted if _family(address) == family}
                interface = _interface(ip, family, source) if here else None
                route = Route(interface, self.program, source) if interface else None
                changed += self._sync_family(ip, family, here if route else (), route)
                synced |= here if route else set()
        self._synced = synced
        return changed

    def intact(self) -> bool:
        """Whether one route of each family is still found as synced: a cheap look for what takes
        them all (an interface that went down, a network manager that began anew); then sync again.
        """
        samples = {_family(address): address for address in self._synced}
        with _links.netlink() as ip:
            return all(self._leads(ip, address) for address in samples.values())

    def _leads(self, ip: Any, address: str) -> bool:
        """Whether the rules lead the node's own packets to our route."""
        question = {"family": _family(address), "dst": address, "flags": RTM_F_FIB_MATCH}
        try:
            (found,) = ip.route("get", **question)
        except NetlinkError:  # such as: unreachable, by the guard in the main table
            return False
        return _program(found) == self.program

    def _sync_family(
        self, ip: Any, family: int, addresses: Collection[str], route: Route | None
    ) -> Iterator[str]:
        have = routes(ip, family)
        if route:
            for address in sorted(addresses, key=_address.order):
                if have.get(address) != route:
                    self._put(ip, address, route)
                    yield f"{address}: {'route replaced' if address in have else 'route added'}"
            if not _rules(ip, family):
                ip.rule("add", **_rule(family))
                yield f"rule to table {TABLE} added ({FAMILIES[family]})"
        for address in sorted(have.keys() - set(addresses), key=_address.order):
            _remove(ip, address)
            yield f"{address}: route removed"

    def _put(self, ip: Any, address: str, route: Route) -> None:
        encap = {"type": "bpf", "xmit": {"fd": self._fd, "name": route.program}}
        request = {**_to(address), "oif": route.interface, "encap": encap}
        if route.source:
            request["prefsrc"] = route.source
        try:
            ip.route("replace", **request, metrics={"mtu": route.mtu})
        except NetlinkError as refused:
            raise ProbeError(why_not(address, refused.code, str(refused))) from refused

    def remove(self) -> None:
        """Takes rules and routes away, whoever made them."""
        remove()


def remove() -> list[str]:
    """Takes our rules and routes away, whichever process made them; returns a line each."""
    changed = []
    with _links.netlink() as ip:
        for family, word in FAMILIES.items():
            for _one in range(_rules(ip, family)):
                ip.rule("del", **_rule(family))
                changed.append(f"rule to table {TABLE} removed ({word})")
            for address in sorted(routes(ip, family), key=_address.order):
                _remove(ip, address)
                changed.append(f"{address}: route removed")
    return changed


def program_name(info: _bpf.ProgramInfo) -> str:
    """The name that a route shows. To the kernel, programs of the same name are the same, and it
    would keep the old one: so the name has all that tells two apart, the code's tag and the maps.
    """
    return "/".join([NAME, info.tag, *map(str, sorted(info.map_ids))])


def why_not(address: str, code: int, text: str) -> str:
    """What to do when the kernel refuses a route with that errno."""
    if code == errno.EOPNOTSUPP:
        return (
            "this kernel cannot send probes through the tunnel (it is built without "
            "CONFIG_LWTUNNEL_BPF): take another kernel, or set via: direct in the pools' "
            "health_check"
        )
    if code == errno.EPERM:
        return f"the kernel refuses the route for probes to {address}: this needs CAP_NET_ADMIN"
    if code == errno.ENETDOWN:
        return (
            f"no route for probes to {address}, as the interface of their source address is down: "
            "bring it up"
        )
    return f"the kernel refuses the route for probes to {address}: {text}"


# --- what the kernel holds ---


def routes(ip: Any, family: int) -> Routes:
    """Our routes of a family."""
    return dict(_routes(ip, family))


def _routes(ip: Any, family: int) -> Iterator[tuple[str, Route]]:
    for message in ip.get_routes(family=family, table=TABLE):
        program = _program(message)
        if program is None:
            continue
        metrics = message.get_attr("RTA_METRICS")
        yield (
            message.get_attr("RTA_DST"),
            Route(
                message.get_attr("RTA_OIF"),
                program,
                message.get_attr("RTA_PREFSRC"),
                metrics and metrics.get_attr("RTAX_MTU"),
            ),
        )


def _program(message: Any) -> str | None:
    """The name of our program, None when the route is not ours."""
    part = message.get_attr("RTA_ENCAP")
    for name in ("LWT_BPF_XMIT", "LWT_BPF_PROG_NAME"):
        if not hasattr(part, "get_attr"):
            return None
        part = part.get_attr(name)
    return part if isinstance(part, str) and part.startswith(f"{NAME}/") else None


def _rules(ip: Any, family: int) -> int:
    """How many rules there are that are ours."""
    return sum(
        rule.get_attr("FRA_TABLE") == TABLE
        and rule.get_attr("FRA_PRIORITY") == PRIORITY
        and rule.get_attr("FRA_IIFNAME") == "lo"
        for rule in ip.get_rules(family=family)
    )


def _rule(family: int) -> dict[str, Any]:
    """`iif lo`: packets that this node makes, and the question which way an answer should come."""
    return {"family": family, "table": TABLE, "priority": PRIORITY, "iifname": "lo"}


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _to(address: str) -> dict[str, Any]:
    length = 128 if ":" in address else 32
    return {"family": _family(address), "dst": f"{address}/{length}", "table": TABLE}


def _remove(ip: Any, address: str) -> None:
    try:
        ip.route("del", **_to(address))
    except NetlinkError as refused:
        if refused.code != errno.ESRCH:  # it went with its interface meanwhile
            raise


# --- the interface ---


def _interface(ip: Any, family: int, source: str | None) -> int | None:
    """The index of the routes' interface. Where packets leave is the outer header's affair, but a
    strict reverse path check wants the answers to come in there: so it is the one with the source
    address. A loopback will not do, as IPv6 has no routes there.

    None when no source is set and the node has no address of the family that others could answer.
    """
    loopbacks = {link["index"] for link in ip.get_links() if link["flags"] & IFF_LOOPBACK}
    if source is None:
        held = _holders(ip, family)
        elsewhere = [index for index in held if index not in loopbacks]
        return (_way_out(ip, family) or next(iter(elsewhere), None)) if held else None
    index = _holder(ip, family, source)
    found = index if index not in loopbacks else _way_out(ip, family)
    if found is None:
        raise ProbeError(
            f"no interface for probes to {FAMILIES[family]} services, as the source address "
            f"{source} is on a loopback and there is no default route of that family: add one, set "
            f"balancer_source_{FAMILIES[family].lower()} to an address on an interface, or set "
            "via: direct in the pools' health_check"
        )
    return found


def _way_out(ip: Any, family: int) -> int | None:
    """The interface of the default route."""
    for message in _default_routes(ip, family):
        out = message.get_attr("RTA_OIF") or _first_hop(message)
        if out:
            return int(out)
    return None


def _holders(ip: Any, family: int) -> list[int]:
    """Interfaces with an address that is valid beyond its link."""
    return [
        int(message["index"])
        for message in ip.get_addr(family=family)
        if message["scope"] < SCOPE_LINK
    ]


def _holder(ip: Any, family: int, source: str) -> int:
    for message in ip.get_addr(family=family):
        if source in (message.get_attr("IFA_LOCAL"), message.get_attr("IFA_ADDRESS")):
            return int(message["index"])
    raise ProbeError(
        f"probes are to be sent from {source}, which no interface of this node has: put it on one, "
        f"or correct balancer_source_{FAMILIES[family].lower()}"
    )


def _default_routes(ip: Any, family: int) -> list[Any]:
    """Those of the main table, the preferred one first."""
    found = (
        message
        for message in ip.get_routes(family=family, table=MAIN_TABLE)
        if message["dst_len"] == 0
    )
    return sorted(found, key=lambda message: message.get_attr("RTA_PRIORITY") or 0)


def _first_hop(message: Any) -> int | None:
    hops = message.get_attr("RTA_MULTIPATH")
    return hops[0]["oif"] if hops else None
