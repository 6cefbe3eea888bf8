# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's own tunnel devices as the far end, where the kernel has them.

Private to the collection. Run by `l4lb-tunnels.service` as `python3 -m ..._tunnels up|down`; the
unit has loaded the kernel's modules before.

`l4lb4` (ipip) takes IPv4 in IPv4 and `l4lb6` (ip6tnl) anything in IPv6, both from any sender:
"collect metadata" devices have no ends of their own. IPv6 in IPv4 has no such form, so it comes in
through `sit0`, the device that the kernel makes for any sender.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils import _links
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

OURS = {
    "l4lb4": {"kind": "ipip", "ipip_collect_metadata": True},
    "l4lb6": {"kind": "ip6tnl", "ip6tnl_collect_metadata": True},
}
KERNELS = "sit0"

# Without an address of its own a device fails reverse path filtering even in its loose form, and a
# device's rp_filter can only be stricter than that of "all". This address is never sent from.
ADDRESS = "127.0.0.42"
LOOSE = "2"


def up() -> None:
    """Makes the devices and sets them up; what is there already stays."""
    with _links.netlink() as ip:
        for name, settings in OURS.items():
            if not ip.link_lookup(ifname=name):
                ip.link("add", ifname=name, **settings)
        for name in (*OURS, KERNELS):
            ip.link("set", index=_links.interface(name).index, state="up")
    for name in (*OURS, KERNELS):
        _links.add_address(name, ADDRESS)
        Path("/proc/sys/net/ipv4/conf", name, "rp_filter").write_text(LOOSE, encoding="ascii")


def down() -> None:
    """Removes our devices and closes the kernel's."""
    with _links.netlink() as ip:
        for name in OURS:
            for index in ip.link_lookup(ifname=name):
                ip.link("del", index=index)
        for index in ip.link_lookup(ifname=KERNELS):
            ip.link("set", index=index, state="down")
    if _links.exists(KERNELS):
        _links.remove_address(KERNELS, ADDRESS)


def main(arguments: list[str]) -> int:
    """The unit's entry."""
    command = {"up": up, "down": down}.get(" ".join(arguments))
    if command is None:
        sys.stderr.write("usage: _tunnels up|down\n")
        return 2
    try:
        command()
    except L4lbError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
