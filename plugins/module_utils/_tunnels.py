# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's own tunnel devices as the far end, where the kernel has them.

Private to the collection. Run by `l4lb-tunnels.service` as `python3 -m ..._tunnels up [PORT]|down`;
the unit has loaded the kernel's modules before. PORT: of GUE, which the kernel takes off at that
port, for what is in it to come in by the same devices.

`l4lb4` (ipip) takes IPv4 in IPv4 and `l4lb6` (ip6tnl) anything in IPv6, both from any sender:
"collect metadata" devices have no ends of their own. IPv6 in IPv4 has no such form, so it comes in
through `sit0`, the device that the kernel makes for any sender.
"""

from __future__ import annotations

import subprocess
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

PORT_FILE = Path("/run/l4lb-tunnels.port")
"""The port that we have opened: it is closed again when it becomes another one."""


class TunnelError(L4lbError):
    """The kernel does not take tunnels as it should."""


def up(port: int = 0) -> None:
    """Makes the devices and sets them up; what is there already stays. port: of GUE; 0: none."""
    with _links.netlink() as ip:
        for name, settings in OURS.items():
            if not ip.link_lookup(ifname=name):
                ip.link("add", ifname=name, **settings)
        for name in (*OURS, KERNELS):
            ip.link("set", index=_links.interface(name).index, state="up")
    for name in (*OURS, KERNELS):
        _links.add_address(name, ADDRESS)
        Path("/proc/sys/net/ipv4/conf", name, "rp_filter").write_text(LOOSE, encoding="ascii")
    before = _own_port()
    if before != port:
        _close(before)
    if port:
        _open(port)


def down() -> None:
    """Removes our devices, closes the kernel's and the port of GUE."""
    _close(_own_port())
    with _links.netlink() as ip:
        for name in OURS:
            for index in ip.link_lookup(ifname=name):
                ip.link("del", index=index)
        for index in ip.link_lookup(ifname=KERNELS):
            ip.link("set", index=index, state="down")
    if _links.exists(KERNELS):
        _links.remove_address(KERNELS, ADDRESS)


def _own_port() -> int:
    try:
        return int(PORT_FILE.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0


def _open(port: int) -> None:
    """Lets the kernel take GUE at the port, over both families."""
    PORT_FILE.write_text(str(port), encoding="ascii")
    have = [line.split() for line in _fou("show").splitlines()]
    for family in ("-4", "-6"):
        ours = [words for words in have if words[:3] == ["port", str(port), "gue"]]
        if not any(("-6" in words) == (family == "-6") for words in ours):
            _fou("add", "port", str(port), "gue", family=family)


def _close(port: int) -> None:
    if not port:
        return
    have = [line.split() for line in _fou("show").splitlines()]
    for words in have:
        if words[:3] == ["port", str(port), "gue"]:
            _fou("del", "port", str(port), family="-6" if "-6" in words else "-4")
    PORT_FILE.unlink()


def _fou(*arguments: str, family: str = "-4") -> str:
    command = ["ip", family, "fou", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TunnelError(
            f"{' '.join(command)}: {done.stderr.strip()}; GUE needs the kernel's module fou and a "
            "port that no socket has: set real_server_decap: bpf, or another l4lb_gue_port"
        )
    return done.stdout


def main(arguments: list[str]) -> int:
    """The unit's entry."""
    command, *rest = arguments or [""]
    try:
        if command == "up" and len(rest) < 2 and all(word.isdecimal() for word in rest):
            up(*map(int, rest))
        elif arguments == ["down"]:
            down()
        else:
            sys.stderr.write("usage: _tunnels up [PORT]|down\n")
            return 2
    except L4lbError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
