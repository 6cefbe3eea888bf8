# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inside the emulated machine: a node whose link is a bond, and a VLAN on it.

    router (a, b) === eth0, eth1 in bond0 [node]

Prints a line of JSON for what is said of each interface, what the kernel does with programs there,
and what a program on a bond sees and can do. Not the balancer: this architecture refuses loads that
are not aligned, as packets' words seldom are.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from .telling import tell

BOUNCE = """
BPF_ARRAY(ingress, u32, 1);
int bounce(struct xdp_md *ctx)
{
    u32 zero = 0, index = ctx->ingress_ifindex;
    ingress.update(&zero, &index);
    return bpf_redirect(BOND, 0);
}
"""

SETUP = """
modprobe --all ipv6 veth bonding 8021q
ip link set dev lo up
ip link add bond0 type bond mode balance-xor xmit_hash_policy layer3+4
ip link add eth0 type veth peer name a
ip link add eth1 type veth peer name b
ip link set dev eth0 master bond0
ip link set dev eth1 master bond0
ip link set dev a up
ip link set dev b up
ip link set dev bond0 up
ip link add link bond0 name bond0.7 type vlan id 7
ip link set dev bond0.7 up
ip link add tlb type bond mode balance-tlb
ip link add tags type bond mode 802.3ad xmit_hash_policy vlan+srcmac
mount -t tmpfs tmpfs /lib/modules
"""


def headers(release: str) -> None:
    """Those of the machine outside: any version's do."""
    for name in ("build", "source"):
        target = os.environ.get(f"HEADERS_{name.upper()}", "")
        Path("/lib/modules", release).mkdir(exist_ok=True)
        Path("/lib/modules", release, name).symlink_to(target)


def main() -> None:
    for line in SETUP.strip().splitlines():
        subprocess.run(line.split(), check=True)
    headers(os.uname().release)

    from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _links
    from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_see_links as see
    from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_links import judge_kind

    seen = see.links(["bond0", "bond0.7", "eth0", "tlb", "tags", "a"])
    for name, link in seen.items():
        check = judge_kind(link, "native")
        tell(kind=name, status=check.status, found=check.found, remedy=check.remedy)

    compiled = _bpf.BPF(text=b"int taker(struct xdp_md *ctx) { return XDP_PASS; }")
    taker = compiled.load_func(b"taker", _bpf.BPF.XDP).fd
    for name in ("a", "b"):
        _bpf.attach_xdp(_links.interface(name).index, taker, "native", None)
    for name in ("bond0.7", "tlb", "tags"):
        try:
            _bpf.attach_xdp(_links.interface(name).index, taker, "native", None)
            tell(attached=name)
        except _bpf.BpfError as error:
            tell(kernel=name, errno=error.errno)

    bond = _links.interface("bond0")
    text = BOUNCE.replace("BOND", str(bond.index)).encode()
    bounce = _bpf.BPF(text=text)
    _bpf.attach_xdp(bond.index, bounce.load_func(b"bounce", _bpf.BPF.XDP).fd, "native", None)
    tell(runs={name: _links.xdp(name).mode for name in ("bond0", "eth0", "eth1")})
    try:
        _bpf.attach_xdp(_links.interface("eth0").index, taker, "native", None)
    except _bpf.BpfError as error:
        tell(kernel="eth0", errno=error.errno)
    out = bounced()
    came_in = _links.interface("eth0").index
    tell(bounced=out, by_member=bounce[b"ingress"][0].value == came_in)


def bounced() -> bool:
    """Whether a frame that goes in at one end of the bond comes back at either."""
    ends = []
    for name in ("a", "b"):
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        end.bind((name, 0))
        end.setblocking(False)
        ends.append(end)
    frame = bytes.fromhex("02000000000b" + "020000000001" + "88b5") + b"there and back" * 4
    ends[0].send(frame)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for end in ends:
            try:
                got, (_name, _type, direction, *_rest) = end.recvfrom(65536)
            except BlockingIOError:
                continue
            if direction != socket.PACKET_OUTGOING and got == frame:
                return True
    return False


if __name__ == "__main__":
    main()
