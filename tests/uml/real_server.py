# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""In an emulated machine: a real server with the kernel's own tunnels, and a sender beside it.

sender (wire) --- eth0 [real server]
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess

from pyroute2 import netns

from .packets import checksum, ip, packed6, request

UNIT = "ansible_collections.l4lb.xdp.plugins.module_utils._tunnels"
REAL4, REAL6 = "192.0.2.71", "2001:db8:2::71"
NODE = ("192.0.2.11", "2001:db8:1::11")
VIPS = {"4": "203.0.113.10", "6": "2001:db8:100::10"}
CLIENTS = {"4": "198.51.100.2", "6": "2001:db8:3::2"}
"""By IP version."""

REAL_MAC, SENDER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
PORT = 6080

IN_IP = ("4in4", "6in4", "4in6", "6in6")
IN_UDP = ("gue 4in4", "gue 6in4", "gue 4in6", "gue 6in6", "gue 6in6 no sum")

SETUP = f"""
modprobe --all ipv6 veth ipip sit ip6_tunnel fou
ip link set lo up
ip netns add sender
ip link add eth0 type veth peer name wire netns sender
ip link set eth0 address {REAL_MAC} up
ip -n sender link set wire address {SENDER_MAC} up
ip address add {REAL4}/26 dev eth0
ip address add {REAL6}/64 dev eth0 nodad
ip neighbour add 192.0.2.65 lladdr {SENDER_MAC} dev eth0
ip neighbour add 2001:db8:2::1 lladdr {SENDER_MAC} dev eth0
ip route add default via 192.0.2.65
ip route add default via 2001:db8:2::1
ip address add {VIPS["4"]}/32 dev lo
ip address add {VIPS["6"]}/128 dev lo nodad
sysctl -q net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=2
"""


def set_up() -> None:
    for line in SETUP.strip().splitlines():
        subprocess.run(line.split(), check=True)


def unit(*command: str) -> None:
    """What l4lb-tunnels.service runs."""
    subprocess.run(["/usr/bin/python3", "-m", UNIT, *command], check=True)


def frame(form: str, text: str, node: tuple[str, str] = NODE, port: int = PORT) -> bytes:
    """A client's datagram in that form from a node (its addresses), as it is on the wire.

    form: `gue`, if it is; IP in IP, the inner version first; `no sum`, if that is UDP's.
    """
    inside, outside = inner_version(form), form.split("in")[1][0]
    inner = request(CLIENTS[inside], VIPS[inside], text.encode())
    source, real = (node[0], REAL4) if outside == "4" else (node[1], REAL6)
    if form in IN_UDP:
        packet = gue(source, real, inner, port, "no sum" not in form)
    else:
        packet = ip(source, real, 4 if inside == "4" else 41, inner)
    link = bytes.fromhex((REAL_MAC + SENDER_MAC).replace(":", ""))
    return link + struct.pack("!H", 0x0800 if outside == "4" else 0x86DD) + packet


def inner_version(form: str) -> str:
    return form[form.index("in") - 1]


def gue(source: str, destination: str, inner: bytes, port: int, summed: bool = True) -> bytes:
    """IP in UDP; over IPv6 with a checksum, or without."""
    udp = struct.pack("!HHHH", 49152, port, 8 + len(inner), 0) + inner
    if summed and ":" in destination:
        pseudo = packed6(source) + packed6(destination) + struct.pack("!II", len(udp), 17)
        udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    return ip(source, destination, 17, udp)


def service(form: str) -> socket.socket:
    """A socket of the service that packets of this form are for."""
    address = VIPS[inner_version(form)]
    found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    found.bind((address, 80))
    found.settimeout(3)
    return found


def wire() -> socket.socket:
    """The sender's end, for whole frames."""
    netns.pushns("sender")
    try:
        found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        found.bind(("wire", 0))
    finally:
        netns.popns()
    return found


def deliver(form: str, port: int = PORT) -> str | None:
    """Sends one datagram; what the service's socket got, None for nothing."""
    with service(form) as there, wire() as sender:
        sender.send(frame(form, form, port=port))
        try:
            return there.recv(100).decode()
        except socket.timeout:
            return None


def devices() -> list[str]:
    return sorted(os.listdir("/sys/class/net"))
