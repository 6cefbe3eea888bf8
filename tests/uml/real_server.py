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
from pathlib import Path

from .packets import checksum, datagram, ipv4, ipv6, packed6

UNIT = "ansible_collections.l4lb.xdp.plugins.module_utils._tunnels"
REAL4, REAL6 = "192.0.2.71", "2001:db8:2::71"
NODE = ("192.0.2.11", "2001:db8:1::11")
VIP4, VIP6 = "203.0.113.10", "2001:db8:100::10"
CLIENT4, CLIENT6 = "198.51.100.2", "2001:db8:3::2"
SENDER_MAC = "02:00:00:00:00:01"
PORT = 6080

IN_IP = ("4in4", "6in4", "4in6", "6in6")
IN_UDP = ("gue 4in4", "gue 6in4", "gue 4in6", "gue 6in6", "gue 6in6 no sum")

SETUP = f"""
modprobe --all ipv6 veth ipip sit ip6_tunnel fou
ip link set lo up
ip netns add sender
ip link add eth0 type veth peer name wire netns sender
ip link set eth0 up
ip -n sender link set wire address {SENDER_MAC} up
ip address add {REAL4}/26 dev eth0
ip address add {REAL6}/64 dev eth0 nodad
ip neighbour add 192.0.2.65 lladdr {SENDER_MAC} dev eth0
ip neighbour add 2001:db8:2::1 lladdr {SENDER_MAC} dev eth0
ip route add default via 192.0.2.65
ip route add default via 2001:db8:2::1
ip address add {VIP4}/32 dev lo
ip address add {VIP6}/128 dev lo nodad
sysctl -q net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=2
"""
SEND = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("wire", 0))
for frame in sys.argv[1:]:
    wire.send(bytes.fromhex(frame))
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
    words = form.split()
    inside, outside = next(word for word in words if "in" in word).split("in")
    inner = datagram_for(inside, text.encode())
    source, real = (node[0], REAL4) if outside == "4" else (node[1], REAL6)
    if "gue" in words:
        packet = gue(source, real, inner, port, "no sum" not in form)
    elif outside == "4":
        packet = ipv4(source, real, 4 if inside == "4" else 41, inner)
    else:
        packet = ipv6(source, real, 4 if inside == "4" else 41, inner)
    mac = Path("/sys/class/net/eth0/address").read_text().strip()
    link = bytes.fromhex((mac + SENDER_MAC).replace(":", ""))
    return link + struct.pack("!H", 0x0800 if outside == "4" else 0x86DD) + packet


def datagram_for(version: str, text: bytes) -> bytes:
    """From the client to the service of that IP version."""
    if version == "4":
        return ipv4(CLIENT4, VIP4, 17, datagram(text))
    return ipv6(CLIENT6, VIP6, 17, datagram(text, packed6(CLIENT6) + packed6(VIP6)))


def gue(source: str, destination: str, inner: bytes, port: int, summed: bool = True) -> bytes:
    """IP in UDP; over IPv6 with a checksum, or without."""
    udp = struct.pack("!HHHH", 49152, port, 8 + len(inner), 0) + inner
    if ":" not in destination:
        return ipv4(source, destination, 17, udp)
    pseudo = packed6(source) + packed6(destination) + struct.pack("!II", len(udp), 17)
    total = checksum(pseudo + udp)
    if summed:
        udp = udp[:6] + struct.pack("!H", total or 0xFFFF) + udp[8:]
    return ipv6(source, destination, 17, udp)


def service(form: str) -> socket.socket:
    """A socket of the service that packets of this form are for."""
    ipv6 = "6in" in form
    found = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    found.bind((VIP6 if ipv6 else VIP4, 80))
    found.settimeout(3)
    return found


def send(*frames: bytes) -> None:
    """Down the wire, one after the other."""
    command = ["ip", "netns", "exec", "sender", "/usr/bin/python3", "-c", SEND]
    subprocess.run([*command, *(each.hex() for each in frames)], check=True)


def deliver(form: str, port: int = PORT) -> str | None:
    """Sends one datagram; what the service's socket got, None for nothing."""
    with service(form) as there:
        send(frame(form, form, port=port))
        try:
            return there.recv(100).decode()
        except socket.timeout:
            return None


def devices() -> list[str]:
    return sorted(os.listdir("/sys/class/net"))
