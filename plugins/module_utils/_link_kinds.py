# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interface is built from, and whether the balancer can do its work there.

Private to the collection. `shape` reads netlink's description of an interface, `judge` is pure.
Of a bond the kernel says what it takes in drivers/net/bonding/bond_main.c (bond_xdp_check,
bond_xdp_set; from Linux 5.15), of its members and of all else in net/core/dev.c (dev_xdp_attach).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

GENERIC = "set mode: generic (l4lb_xdp_mode), slower"

FRAMES = (1, 772)
"""ARPHRD_ETHER and ARPHRD_LOOPBACK of linux/if_arp.h: what has Ethernet headers."""

BOND_MODES = (
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
)
"""BOND_MODE_* of linux/if_bonding.h, by number."""
NATIVE_BOND_MODES = ("balance-rr", "active-backup", "balance-xor", "802.3ad")
HASHING_BOND_MODES = ("balance-xor", "802.3ad")
VLAN_SRCMAC = 5
"""BOND_XMIT_POLICY_VLAN_SRCMAC: hashes a tag that XDP's frames often lack."""

ABOVE_ANOTHER = ("macvlan", "macvtap", "ipvlan", "ipvtap")
TUNNELS = ("vxlan", "geneve", "gretap", "ip6gretap", "erspan", "bareudp")
SWITCHES = ("bridge", "openvswitch")
TAKES_NOTHING = ("vlan", "vrf", "team", *SWITCHES, *ABOVE_ANOTHER, *TUNNELS)
"""Kinds to which XDP can redirect nothing in native mode."""


@dataclass(frozen=True)
class Shape:
    """kind: the kernel's word for it (ip -details link), empty for hardware. lower: the interface
    that it lies on, where it lies on one. master, master_kind: what it is a member of.
    """

    kind: str = ""
    frames: bool = True
    lower: str = ""
    master: str = ""
    master_kind: str = ""
    bond_mode: str = ""
    vlan_srcmac: bool = False
    members: tuple[str, ...] = ()


class Judgement(NamedTuple):
    """As Check of _preflight_check.py has it."""

    status: str
    found: str
    remedy: str = ""


def shape(index: int, every: Mapping[int, Any]) -> Shape:
    """every: netlink's description of all interfaces of this namespace, by index."""
    message = every[index]
    info = message.get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA") if info else None
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    mode = data.get_attr("IFLA_BOND_MODE") if kind == "bond" and data else None
    policy = data.get_attr("IFLA_BOND_XMIT_HASH_POLICY") if kind == "bond" and data else None
    master = every.get(message.get_attr("IFLA_MASTER") or 0)
    return Shape(
        kind=kind,
        frames=message["ifi_type"] in FRAMES,
        lower="" if kind == "veth" else _lower(message, every),
        master=master.get_attr("IFLA_IFNAME") if master else "",
        master_kind=_kind(master) if master else "",
        bond_mode=BOND_MODES[mode] if mode is not None and mode < len(BOND_MODES) else "",
        vlan_srcmac=policy == VLAN_SRCMAC,
        members=tuple(
            sorted(
                other.get_attr("IFLA_IFNAME")
                for other in every.values()
                if other.get_attr("IFLA_MASTER") == index
            )
        ),
    )


def _kind(message: Any) -> str:
    info = message.get_attr("IFLA_LINKINFO")
    return (info.get_attr("IFLA_INFO_KIND") if info else None) or ""


def _lower(message: Any, every: Mapping[int, Any]) -> str:
    below = every.get(message.get_attr("IFLA_LINK") or 0)
    if below is None or message.get_attr("IFLA_LINK_NETNSID") is not None:
        return ""
    name: str = below.get_attr("IFLA_IFNAME")
    return name


def judge(name: str, seen: Shape, mode: str) -> Judgement:
    """Whether the balancer can do its work on this interface in this mode, and why not."""
    if not seen.frames:
        return Judgement(
            "failed",
            f"{seen.kind or 'its kind'} has no Ethernet frames, and the balancer reads those",
            "name the interface that its packets come in by",
        )
    if seen.kind == "vrf":
        members = ", ".join(seen.members) or "those that it has"
        return Judgement("failed", "nothing comes in by a VRF", f"name its members: {members}")
    if seen.master:
        judged = _judge_member(seen, mode)
        if judged:
            return judged
    if seen.kind == "bond":
        return _judge_bond(seen, mode)
    return _judge_software(name, seen, mode)


def _judge_member(seen: Shape, mode: str) -> Judgement | None:
    """A member's packets leave by its master, as the routes say."""
    master = seen.master
    if seen.master_kind == "bond":
        found = f"a member of {master}, which gives its program to all members itself"
        return Judgement("failed", found, f"name {master}")
    if seen.master_kind == "team":
        found = f"a member of {master}, and XDP can send nothing by a team"
        return Judgement("failed", found, f"name {master} and {GENERIC}; or make it a bond")
    if seen.master_kind in SWITCHES:
        found = f"a port of {master}, by which routes lead and XDP can send nothing"
        if mode == "native":
            remedy = f"take it out of {master}, or name {master} and {GENERIC}"
            return Judgement("failed", found, remedy)
        return Judgement("warning", f"a port of {master}, by which routes lead", f"name {master}")
    return None


def _judge_bond(seen: Shape, mode: str) -> Judgement:
    over = f"a bond ({seen.bond_mode}) of {', '.join(seen.members) or 'nothing yet'}"
    if mode == "native" and seen.bond_mode and seen.bond_mode not in NATIVE_BOND_MODES:
        modes = ", ".join(NATIVE_BOND_MODES)
        remedy = f"make it one of {modes}, or {GENERIC}"
        return Judgement("failed", f"{over}: in this mode it takes no native program", remedy)
    if mode == "native" and seen.bond_mode in HASHING_BOND_MODES and seen.vlan_srcmac:
        remedy = f"set another xmit_hash_policy, layer3+4 for one, or {GENERIC}"
        found = f"{over}: with xmit_hash_policy vlan+srcmac it takes no native program"
        return Judgement("failed", found, remedy)
    if not seen.members:
        return Judgement("warning", f"{over}: nothing comes in", "give it members")
    return Judgement("ok", over)


def _judge_software(name: str, seen: Shape, mode: str) -> Judgement:
    kind, lower = seen.kind, seen.lower or "the interface below it"
    if kind == "vlan":
        remedy = f"name {lower}: the balancer reads VLAN tags itself"
        if mode == "native":
            return Judgement("failed", f"a VLAN of {lower} has no native XDP", remedy)
        return Judgement("warning", f"a VLAN of {lower}: slower than the program there", remedy)
    if mode != "native":
        return Judgement("ok", f"{kind or 'hardware'}, and the mode is generic")
    if kind == "team":
        return Judgement("failed", "a team has no native XDP", f"make it a bond, or {GENERIC}")
    if kind in SWITCHES:
        remedy = f"name a port that is taken out of {name}, or {GENERIC}"
        return Judgement("failed", f"{kind} has no native XDP", remedy)
    if kind in ABOVE_ANOTHER:
        remedy = f"name {lower}, where its packets come in first, or {GENERIC}"
        return Judgement("failed", f"{kind} has no native XDP", remedy)
    if kind in TUNNELS:
        remedy = f"name an interface where services' packets come in bare, or {GENERIC}"
        return Judgement("failed", f"{kind} has no native XDP", remedy)
    return Judgement("ok", kind or "hardware")
