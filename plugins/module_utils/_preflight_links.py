# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges interfaces: native XDP, its MTU, queues, offloads, hash fields, foreign programs.

Private to the collection. What the kernel does not tell about a driver stands here, from the
drivers' sources under drivers/net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.l4lb.xdp.plugins.module_utils import _link_kinds
from ansible_collections.l4lb.xdp.plugins.module_utils._link_kinds import Shape
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_check import (
    Check,
    Environment,
    counted,
)

# enum netdev_xdp_act of linux/netdev.h, which the kernel tells from 6.3 on.
XDP_BASIC = 1
XDP_NDO_XMIT = 4

NATIVE = {
    "atlantic": 2048,
    "bnxt_en": 3822,
    "bonding": None,
    "ena": 3498,
    "fsl_dpaa2_eth": None,
    "gve": 2032,
    "hv_netvsc": None,
    "i40e": 3046,
    "ice": 3046,
    "igb": 3046,
    "igc": 1500,
    "ixgbe": 3046,
    "ixgbevf": None,
    "mana": None,
    "mlx4_en": 3498,
    "mlx5_core": 3498,
    "mvneta": None,
    "mvpp2": None,
    "nfp": None,
    "qede": None,
    "sfc": None,
    "st_gmac": 1500,
    "tun": None,
    "veth": 3506,
    "virtio_net": 3506,
}
"""Drivers with native XDP, and the largest MTU at which they take a program that sees a packet in
one piece (pages of 4 KiB); None where it is not known.
"""
SMALLEST_PAGE_MTU = 3046
"""No driver that gives a packet a page refuses this; those that give less are listed."""

NOT_NATIVE = (
    "802.1Q VLAN Support",
    "bridge",
    "dummy",
    "e1000",
    "e1000e",
    "ipvlan",
    "macvlan",
    "r8169",
    "team",
    "tg3",
    "vxlan",
)
"""Drivers without, for kernels that do not tell."""

SWITCH_OFF = ("bnxt_en", "virtio_net")
"""Drivers that switch LRO and hardware GRO off by themselves while a program is attached."""

HALF_OF_QUEUES = ("ena", "gve")
"""Drivers that want as many queues for XDP as there are others, before they take a program."""

SOFTWARE = ("bridge", "dummy", "ipvlan", "macvlan", "tun", "veth", "vxlan", "802.1Q VLAN Support")
"""Drivers without hardware: a packet is handled on the CPU that sends it."""

OFFLOADS = {"rx-lro": "lro", "rx-gro-hw": "rx-gro-hw"}
"""What the kernel calls them, and what ethtool does."""

FLOWS = ("tcp4", "tcp6", "udp4", "udp6", "sctp4", "sctp6")
HASHED_SOURCE = 1 << 4
HASHED_PORT = 1 << 6
"""RXH_IP_SRC and RXH_L4_B_0_1 of linux/ethtool.h: the client's address, and its port."""


@dataclass(frozen=True)
class Channels:
    """Receive queues an interface uses, and how many it could."""

    used: int
    most: int


@dataclass(frozen=True)
class Attached:
    """The XDP program of an interface; ours None: it cannot be told."""

    mode: str
    id: int
    name: str = ""
    ours: bool | None = None


@dataclass(frozen=True)
class Link:
    """An interface as far as the kernel told; None, or nothing, where it did not.

    asked: whether netlink was asked, too, and not only the driver.
    mtu_limited: the MTU that the driver's limit counts for, which is the peer's with veth.
    xdp_features: as XDP_BASIC. hash_fields: bits as HASHED_PORT, by FLOWS. shape: what it is built
    from. members: of a bond.
    """

    name: str
    driver: str | None = None
    mtu: int | None = None
    mtu_limited: int | None = None
    xdp_features: int | None = None
    attached: Attached | None = None
    channels: Channels | None = None
    offloads: Mapping[str, bool] | None = None
    hash_fields: Mapping[str, int | None] = field(default_factory=dict)
    shape: Shape | None = None
    members: tuple[Link, ...] = ()
    asked: bool = True

    @property
    def parts(self) -> tuple[Link, ...]:
        """Where packets come in: a bond's members, else the interface."""
        return self.members or (self,)

    @property
    def runs_ours_native(self) -> bool:
        return bool(self.attached and self.attached.ours and self.attached.mode == "native")

    @property
    def software(self) -> bool:
        return self.driver in SOFTWARE


def judge_link(
    link: Link, mode: str, cpus: int, flows: Sequence[str], environment: Environment
) -> list[Check]:
    """All checks of one interface but those of its program and of the paths through it; one alone
    when the balancer has no business there.
    """
    kind = judge_kind(link, mode)
    if kind.status == "failed":
        return [kind]
    checks = [kind, judge_native(link, mode)]
    for part in link.parts:
        if part is not link:
            checks.append(judge_native(part, mode))
        checks += [
            judge_xdp_mtu(part, mode, link.runs_ours_native),
            judge_queues(part, mode, cpus, environment),
            judge_offloads(part, mode),
            judge_hash_fields(part, flows),
        ]
    return checks


def judge_kind(link: Link, mode: str) -> Check:
    if link.shape is None:
        return Check("link_kind", link.name, "skipped", "needs pyroute2")
    return Check("link_kind", link.name, *_link_kinds.judge(link.name, link.shape, mode))


def judge_native(link: Link, mode: str) -> Check:
    def check(status: str, found: str, remedy: str = "") -> Check:
        return Check("native_xdp", link.name, status, found, remedy)

    driver = link.driver or "its driver"
    generic = "set mode: generic (l4lb_xdp_mode), slower but everywhere"
    if mode != "native":
        return check("ok", "not needed: mode is generic")
    if link.runs_ours_native:
        return check("ok", f"runs our program in {driver}")
    if link.xdp_features is not None:
        if link.xdp_features & XDP_BASIC:
            return check("ok", f"{driver} has it")
        if link.driver in HALF_OF_QUEUES:
            generic = f"let it use at most half of its queues, or {generic}"
        if link.driver == "veth":
            generic = f"give it at least as many receive queues as its peer sends by, or {generic}"
        return check("failed", f"{driver} does not take a program now", generic)
    if link.driver in NATIVE:
        return check("ok", f"{driver} is known to have it")
    if link.driver in NOT_NATIVE:
        return check("failed", f"{driver} has none", generic)
    return check(
        "unknown", f"this kernel does not tell whether {driver} has it", f"try, or {generic}"
    )


def judge_xdp_mtu(link: Link, mode: str, attached: bool) -> Check:
    """attached: our program runs there already."""

    def check(status: str, found: str, remedy: str = "") -> Check:
        return Check("xdp_mtu", link.name, status, found, remedy)

    if mode != "native":
        return check("ok", "no limit: mode is generic")
    if link.mtu_limited is None:
        return check("unknown" if link.asked else "skipped", "the MTU is not known")
    whose = "its peer's MTU" if link.driver == "veth" else "MTU"
    found = f"{whose} {link.mtu_limited}"
    limit = NATIVE.get(link.driver or "")
    if attached or link.mtu_limited <= (limit or SMALLEST_PAGE_MTU):
        return check("ok", found + (f", {link.driver} takes {limit}" if limit else ""))
    remedy = f"lower the MTU of {link.name}, or set mode: generic"
    if link.driver == "veth":
        remedy = f"lower the MTU of the peer of {link.name}, or set mode: generic"
    if limit:
        found += f", but {link.driver} takes a program up to {limit} only"
        return check("failed", found, remedy)
    found += f", and the limit of {link.driver or 'its driver'} with a program is not known"
    return check("unknown", found, f"if attaching is refused, {remedy}")


def judge_queues(link: Link, mode: str, cpus: int, environment: Environment) -> Check:
    def check(status: str, found: str, remedy: str = "") -> Check:
        return Check("queues", link.name, status, found, remedy)

    if link.software:
        return check("ok", f"not of interest: {link.driver} is no hardware")
    if link.channels is None:
        return check("unknown", "the driver does not tell its queues")
    used, most = link.channels.used, link.channels.most
    found = f"{used} of {most} receive queues used, {counted(cpus, 'CPU')}"
    halved = mode == "native" and link.driver in HALF_OF_QUEUES
    if halved and not link.runs_ours_native:
        most = max(most // 2, 1)
        if used > most:
            remedy = f"ethtool -L {link.name} combined {min(most, cpus)}"
            found += f", and {link.driver} may want half of them for XDP"
            return check("warning", found, remedy)
    if used < min(most, cpus):
        remedy = f"ethtool -L {link.name} combined {min(most, cpus)} (or rx, by the driver)"
        return check("warning", f"{found}: the others do no balancing", remedy)
    if used < cpus and environment.virtual:
        remedy = "have the hypervisor give this interface a queue for each CPU"
        return check("warning", f"{found}: the others do no balancing", remedy)
    return check("ok", found)


def judge_offloads(link: Link, mode: str) -> Check:
    def check(status: str, found: str, remedy: str = "") -> Check:
        return Check("offloads", link.name, status, found, remedy)

    if link.offloads is None:
        status = "unknown" if link.asked else "skipped"
        return check(status, "whether LRO and hardware GRO are on is not known")
    on = [ours for theirs, ours in OFFLOADS.items() if link.offloads.get(theirs)]
    if not on:
        return check("ok", "LRO and hardware GRO are off")
    found = f"{' and '.join(on)} on"
    if mode != "native":
        return check("ok", f"{found}; the kernel switches it off while a program is attached")
    if link.driver in SWITCH_OFF and not link.attached:
        return check("ok", f"{found}; {link.driver} switches it off while a program is attached")
    found += ": drivers refuse the program, or merge packets into ones that fit nowhere"
    off = " ".join(f"{name} off" for name in on)
    return check("warning", found, f"ethtool -K {link.name} {off}")


def judge_hash_fields(link: Link, flows: Sequence[str]) -> Check:
    """flows: those of the services, as FLOWS."""

    def check(status: str, found: str, remedy: str = "") -> Check:
        return Check("hash_fields", link.name, status, found, remedy)

    if link.software:
        return check("ok", f"not of interest: {link.driver} is no hardware")
    if link.channels and link.channels.used == 1:
        return check("ok", "not of interest: one receive queue")
    told = {flow: link.hash_fields.get(flow) for flow in flows}
    if all(bits is None for bits in told.values()):
        return check("unknown", "the driver does not tell what it spreads packets by")
    poor = [
        flow
        for flow, bits in told.items()
        if bits is not None and not (bits & HASHED_SOURCE and bits & HASHED_PORT)
    ]
    if not poor:
        return check("ok", f"clients' addresses and ports, for {', '.join(flows)}")
    found = f"{', '.join(poor)}: not by the client's address and port, so one CPU gets too much"
    remedy = "; ".join(f"ethtool -N {link.name} rx-flow-hash {flow} sdfn" for flow in poor)
    return check("warning", found, remedy)


def judge_foreign(link: Link, replace: bool) -> Check:
    """replace: whether a foreign program may be replaced."""

    def check(status: str, found: str, remedy: str = "") -> Check:
        return Check("foreign_program", link.name, status, found, remedy)

    program = link.attached
    if program is None:
        return check("ok", "runs no XDP program")
    what = f"{program.name or 'a program'} (id {program.id}, {program.mode})"
    if program.ours:
        return check("ok", f"runs ours: {what}")
    if replace:
        return check("ok", f"runs {what}, which may be replaced")
    if program.ours is None:
        return check("skipped", f"runs {what}; bcc, and root, can tell whose it is")
    return check("failed", f"runs {what}, which is not ours", "detach it, or set replace_foreign")
