# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces, their XDP program and their addresses, by netlink.

Private to the collection. Knows nothing of Ansible. Three users: the modules, the restore unit
(which calls `restore_addresses` at boot) and the tunnels unit.

Only what this library put on an interface does it ever take away. What it put there stands in
`addresses.json` of the state directory, written before the kernel is touched, so that a killed run
is repaired by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _address, _applied
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

try:
    import pyroute2
    from pyroute2.netlink.exceptions import NetlinkError
except ImportError as missing:
    pyroute2 = None
    NetlinkError = OSError
    IMPORT_ERROR: str | None = str(missing)
else:
    IMPORT_ERROR = None

STATE_FILE = "addresses.json"
IFA_F_NODAD = 0x02

# What pyroute2 makes of the kernel's XDP_ATTACHED_*. Where several are attached, the native one
# sees a packet first.
_XDP_MODES = {
    "xdp": ("native", "IFLA_XDP_PROG_ID"),
    "xdpgeneric": ("generic", "IFLA_XDP_PROG_ID"),
    "xdpoffload": ("offload", "IFLA_XDP_PROG_ID"),
    "xdpmulti": ("native", "IFLA_XDP_DRV_PROG_ID"),
}


NEIGHBOUR_STATES = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}
"""NUD_* of linux/neighbour.h."""


class LinkError(L4lbError):
    """Something about an interface is not as it must be; the text says what to do."""


class MissingLibrary(LinkError):
    """This Python has no pyroute2."""


class NoSuchInterface(LinkError):
    """The named interface does not exist."""


class InvalidAddress(LinkError):
    """A text that is no address a service can have."""


@dataclass(frozen=True)
class Interface:
    """One network interface as the kernel has it."""

    name: str
    index: int
    mtu: int
    address: str | None


@dataclass(frozen=True)
class XdpAttachment:
    """The XDP program of an interface; mode None and program_id None when there is none."""

    mode: str | None
    program_id: int | None


@dataclass(frozen=True)
class AddressPlan:
    """What has to be done so that exactly the wanted ones of our addresses are on an interface."""

    interface: str
    before: tuple[str, ...]  # those of ours and of the wanted that are there
    after: tuple[str, ...]
    add: tuple[str, ...]
    remove: tuple[str, ...]
    remember: tuple[str, ...]  # ours, once the plan is carried out

    @property
    def changed(self) -> bool:
        return bool(self.add or self.remove)


def require_libraries() -> None:
    """Raises L4lbError with the remedy when this Python lacks what this file needs."""
    _address.require_netaddr()
    if IMPORT_ERROR is not None:
        raise MissingLibrary(
            f"this Python cannot import pyroute2 ({IMPORT_ERROR}): install python3-pyroute2 and "
            "run the module with the distribution's Python (ansible_python_interpreter: "
            "/usr/bin/python3)"
        )


@contextlib.contextmanager
def netlink() -> Iterator[Any]:
    """A netlink socket; the kernel's refusals become LinkError."""
    require_libraries()
    try:
        with pyroute2.IPRoute() as ip:
            yield ip
    except NetlinkError as refused:
        if refused.code == errno.EPERM:
            raise LinkError("the kernel refuses: this must run as root (become: true)") from refused
        raise LinkError(f"the kernel refuses: {refused}") from refused


# --- interfaces ---


def interfaces() -> list[Interface]:
    """Every interface of this network namespace, by index."""
    with netlink() as ip:
        return sorted((_interface(link) for link in ip.get_links()), key=lambda found: found.index)


def interface(name: str) -> Interface:
    """The interface of that name, or NoSuchInterface naming those that exist."""
    with netlink() as ip:
        return _interface(_link(ip, name))


def exists(name: str) -> bool:
    """Whether there is an interface of that name."""
    with netlink() as ip:
        return bool(ip.link_lookup(ifname=name))


def xdp(name: str) -> XdpAttachment:
    """The XDP program attached to an interface and the mode it runs in."""
    with netlink() as ip:
        return attached(_link(ip, name))


def attached(link: Any) -> XdpAttachment:
    """The same of an interface as netlink describes it."""
    nested = link.get_attr("IFLA_XDP")
    if nested is None:
        return XdpAttachment(None, None)
    mode, program = _XDP_MODES.get(nested.get_attr("IFLA_XDP_ATTACHED"), (None, ""))
    return XdpAttachment(mode, nested.get_attr(program) if mode else None)


def _link(ip: Any, name: str) -> Any:
    indexes = ip.link_lookup(ifname=name)
    if not indexes:
        present = sorted(link.get_attr("IFLA_IFNAME") for link in ip.get_links())
        raise NoSuchInterface(f"no interface {name!r} here; there are: {', '.join(present)}")
    return ip.get_links(indexes[0])[0]


def _interface(link: Any) -> Interface:
    return Interface(
        link.get_attr("IFLA_IFNAME"),
        link["index"],
        link.get_attr("IFLA_MTU"),
        link.get_attr("IFLA_ADDRESS"),
    )


# --- addresses ---


def addresses(name: str) -> list[str]:
    """All addresses on an interface, sorted, without prefix lengths."""
    with netlink() as ip:
        return _addresses(ip, _link(ip, name)["index"])


def _addresses(ip: Any, index: int) -> list[str]:
    found = set()
    for message in ip.get_addr(index=index):
        # On point-to-point links IFA_ADDRESS is the peer's; IPv6 usually has nothing else.
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        found.add(address)
    return sorted(found, key=_address.order)


def add_address(name: str, address: str) -> None:
    """Put a host address (/32 or /128) on an interface; nothing happens when it is there."""
    _change_address("add", name, address, harmless=errno.EEXIST)


def remove_address(name: str, address: str) -> None:
    """Take a host address off an interface; nothing happens when it is gone."""
    _change_address("del", name, address, harmless=errno.EADDRNOTAVAIL)


def _change_address(command: str, name: str, address: str, harmless: int) -> None:
    with netlink() as ip:
        request: dict[str, Any] = {
            "index": _link(ip, name)["index"],
            "address": address,
            "family": socket.AF_INET,
            "prefixlen": 32,
        }
        if ":" in address:
            request.update(family=socket.AF_INET6, prefixlen=128)
            if command == "add":
                # Every server of the pool has it: duplicate address detection would refuse it.
                request["flags"] = IFA_F_NODAD
        try:
            ip.addr(command, **request)
        except NetlinkError as refused:
            if refused.code != harmless:
                raise


# --- the addresses we put there ---


def plan_addresses(
    name: str, wanted: Iterable[str], purge: bool = True, state_dir: str = _applied.STATE_DIR
) -> AddressPlan:
    """Compare what is wanted with what is there and with what we put there before."""
    asked = {_canonical(address) for address in wanted}
    present = set(addresses(name))
    ours = set(_remembered(state_dir).get(name, []))
    add = asked - present
    remove = ours - asked if purge else set()
    before = present & (ours | asked)
    # An address that somebody else put there serves as well, but it is not ours to remove later.
    remember = (ours | add) - remove
    return AddressPlan(
        name,
        *(
            tuple(sorted(each, key=_address.order))
            for each in (before, (before | add) - remove, add, remove, remember)
        ),
    )


def apply_addresses(plan: AddressPlan, state_dir: str = _applied.STATE_DIR) -> None:
    """Carry a plan out. An address is claimed before it is added, given up after it is removed."""
    if not plan.changed:
        return
    state = _remembered(state_dir)
    _remember(state_dir, {**state, plan.interface: [*plan.remember, *plan.remove]})
    for address in plan.add:
        add_address(plan.interface, address)
    for address in plan.remove:
        remove_address(plan.interface, address)
    _remember(state_dir, {**state, plan.interface: list(plan.remember)})


def restore_addresses(state_dir: str = _applied.STATE_DIR) -> list[str]:
    """Put every remembered address back; nothing happens without a state file.

    Called by the restore unit at boot. Returns what it added, as texts for the journal.
    """
    added = []
    for name, ours in _remembered(state_dir).items():
        plan = plan_addresses(name, ours, purge=False, state_dir=state_dir)
        apply_addresses(plan, state_dir)
        added += [f"{address} on {name}" for address in plan.add]
    return added


def _canonical(address: str) -> str:
    require_libraries()
    try:
        return _address.canonical(address)
    except ValueError as wrong:
        raise InvalidAddress(f"address {address!r} {wrong}") from None


def _remembered(state_dir: str) -> dict[str, list[str]]:
    state = _applied.load(Path(state_dir, STATE_FILE))
    return dict(state["interfaces"]) if state else {}


def _remember(state_dir: str, ours: dict[str, list[str]]) -> None:
    kept = {name: sorted(here, key=_address.order) for name, here in ours.items() if here}
    _applied.save(Path(state_dir, STATE_FILE), {"interfaces": kept})
