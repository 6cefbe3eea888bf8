# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads interfaces, by netlink and from their drivers; changes nothing, and judges nothing.

Private to the collection. Without pyroute2 only drivers are asked.
"""

from __future__ import annotations

import errno
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _bpf,
    _link_kinds,
    _links,
    _program,
)
from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _preflight_see_ethtool as _ethtool,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_links import (
    OFFLOADS,
    Attached,
    Link,
)

try:
    from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool
    from pyroute2.netlink import NLM_F_REQUEST, genlmsg
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic import GenericNetlinkSocket
except ImportError:  # _links.require_libraries says so
    EthtoolError = NetlinkError = OSError
    IoctlEthtool = GenericNetlinkSocket = genlmsg = None
    NLM_F_REQUEST = 0

BONDS = ("bond", "team")
NETDEV_CMD_DEV_GET = 1


def links(names: list[str]) -> dict[str, Link]:
    """Those of these interfaces that exist, by name."""
    if _links.IMPORT_ERROR is not None:
        asked = {name: _driver_only(name) for name in names}
        return {name: link for name, link in asked.items() if link.driver is not None}
    with _links.netlink() as ip:
        every = {message["index"]: message for message in ip.get_links()}
    indexes = {message.get_attr("IFLA_IFNAME"): index for index, message in every.items()}
    return {name: _link(indexes[name], every) for name in names if name in indexes}


def _driver_only(name: str) -> Link:
    return Link(
        name,
        driver=_ethtool.driver(name),
        channels=_ethtool.channels(name),
        hash_fields=_ethtool.hash_fields(name),
        asked=False,
    )


def _link(index: int, every: dict[int, Any]) -> Link:
    message = every[index]
    name = message.get_attr("IFLA_IFNAME")
    driver = _ethtool.driver(name)
    mtu = message.get_attr("IFLA_MTU")
    return Link(
        name=name,
        driver=driver,
        mtu=mtu,
        mtu_limited=_peer_mtu(message, every) if driver == "veth" else mtu,
        xdp_features=xdp_features(index),
        attached=attached(name),
        channels=_ethtool.channels(name),
        offloads=offloads(name),
        hash_fields=_ethtool.hash_fields(name),
        shape=_link_kinds.shape(index, every),
        members=tuple(
            _link(number, every)
            for number, other in every.items()
            if _kind(message) in BONDS and other.get_attr("IFLA_MASTER") == index
        ),
    )


def _kind(message: Any) -> str | None:
    info = message.get_attr("IFLA_LINKINFO")
    return info.get_attr("IFLA_INFO_KIND") if info else None


def _peer_mtu(message: Any, every: dict[int, Any]) -> int | None:
    """The MTU of a veth's other end; if it is in another namespace its own: most are equal."""
    peer = every.get(message.get_attr("IFLA_LINK"))
    if peer is None or message.get_attr("IFLA_LINK_NETNSID") is not None:
        peer = message
    mtu: int | None = peer.get_attr("IFLA_MTU")
    return mtu


def attached(name: str) -> Attached | None:
    """The interface's program, and whether it is the balancer."""
    seen = _links.xdp(name)
    if seen.program_id is None or seen.mode is None:
        return None
    try:
        with _bpf.closing(_bpf.open_program(seen.program_id)) as fd:
            info = _bpf.program_info(fd)
        ours = _program.is_ours("balancer", info)
    except _bpf.BpfError:  # no bcc, or not root
        return Attached(seen.mode, seen.program_id)
    return Attached(seen.mode, info.id, info.name, ours)


def offloads(name: str) -> dict[str, bool] | None:
    """Whether LRO and hardware GRO are on; those that the kernel does not know are missing."""
    ethtool = IoctlEthtool(name)
    try:
        return {
            feature: bool(enabled)
            for feature, enabled, *_rest in ethtool.get_features()
            if feature in OFFLOADS
        }
    except (EthtoolError, OSError):
        return None
    finally:
        ethtool.sock.close()


def xdp_features(index: int) -> int | None:
    """What the driver can do with XDP (netdev_xdp_act); None before Linux 6.3."""
    fields = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "none"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )
    message = type("netdev_message", (genlmsg,), {"nla_map": fields})
    with GenericNetlinkSocket() as netlink:
        netlink.module_err_level = "debug"  # that an old kernel lacks it is no error
        try:
            netlink.bind("netdev", message)
            question = message()
            question["cmd"], question["version"] = NETDEV_CMD_DEV_GET, 1
            question["attrs"] = [("NETDEV_A_DEV_IFINDEX", index)]
            answers = netlink.nlm_request(question, msg_type=netlink.prid, msg_flags=NLM_F_REQUEST)
        except NetlinkError as refused:
            if refused.code in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                return None
            raise
        found: int | None = next(iter(answers)).get_attr("NETDEV_A_DEV_XDP_FEATURES")
        return found
