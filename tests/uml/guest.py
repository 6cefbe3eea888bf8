# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inside the emulated machine: a real server with the kernel's own tunnels, and a sender beside it.

    sender --- eth0 [real server]

Prints a line of JSON for what each tunnelled datagram became, and for what was left at the end.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path

from packets import checksum, datagram, ipv4, ipv6, packed6
from telling import tell

COLLECTIONS = Path(__file__).resolve().parents[2] / ".venv/collections"
UNIT = "ansible_collections.l4lb.xdp.plugins.module_utils._tunnels"
REAL4, REAL6 = "192.0.2.71", "2001:db8:2::71"
NODE4, NODE6 = "192.0.2.11", "2001:db8:1::11"
VIP4, VIP6 = "203.0.113.10", "2001:db8:100::10"
CLIENT4, CLIENT6 = "198.51.100.2", "2001:db8:3::2"
SENDER_MAC = "02:00:00:00:00:01"

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
wire.send(bytes.fromhex(sys.argv[1]))
"""


def unit(*command: str) -> None:
    """What l4lb-tunnels.service runs."""
    environment = {**os.environ, "PYTHONPATH": str(COLLECTIONS)}
    subprocess.run(["/usr/bin/python3", "-m", UNIT, *command], env=environment, check=True)


def inner4(text: bytes) -> bytes:
    return ipv4(CLIENT4, VIP4, 17, datagram(text))


def inner6(text: bytes) -> bytes:
    return ipv6(CLIENT6, VIP6, 17, datagram(text, packed6(CLIENT6) + packed6(VIP6)))


def gue(source: str, destination: str, inner: bytes, port: int, summed: bool = True) -> bytes:
    """IP in UDP; over IPv6 with a checksum, or without."""
    udp = struct.pack("!HHHH", 49152, port, 8 + len(inner), 0) + inner
    if ":" not in destination:
        return ipv4(source, destination, 17, udp)
    pseudo = packed6(source) + packed6(destination) + struct.pack("!II", len(udp), 17)
    total = checksum(pseudo + udp + bytes(len(udp) % 2))
    if summed:
        udp = udp[:6] + struct.pack("!H", total or 0xFFFF) + udp[8:]
    return ipv6(source, destination, 17, udp)


def in_udp(port: int) -> dict[str, tuple[int, bytes, str]]:
    """As `tunnelled`."""
    four, six = (NODE4, REAL4), (NODE6, REAL6)
    return {
        "gue 4in4": (0x0800, gue(*four, inner4(b"gue 4in4"), port), VIP4),
        "gue 6in4": (0x0800, gue(*four, inner6(b"gue 6in4"), port), VIP6),
        "gue 4in6": (0x86DD, gue(*six, inner4(b"gue 4in6"), port), VIP4),
        "gue 6in6": (0x86DD, gue(*six, inner6(b"gue 6in6"), port), VIP6),
        "gue no sum": (0x86DD, gue(*six, inner6(b"gue no sum"), port, summed=False), VIP6),
    }


def tunnelled() -> dict[str, tuple[int, bytes, str]]:
    """Each form's ethertype, packet, and the service address it is for."""
    return {
        "4in4": (0x0800, ipv4(NODE4, REAL4, 4, inner4(b"4in4")), VIP4),
        "6in4": (0x0800, ipv4(NODE4, REAL4, 41, inner6(b"6in4")), VIP6),
        "4in6": (0x86DD, ipv6(NODE6, REAL6, 4, inner4(b"4in6")), VIP4),
        "6in6": (0x86DD, ipv6(NODE6, REAL6, 41, inner6(b"6in6")), VIP6),
    }


def deliver(ethertype: int, packet: bytes, address: str) -> str | None:
    """Sends one datagram down the wire; what the service's socket got, None for nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    mac = Path("/sys/class/net/eth0/address").read_text().strip()
    link = bytes.fromhex((mac + SENDER_MAC).replace(":", "")) + struct.pack("!H", ethertype)
    with socket.socket(family, socket.SOCK_DGRAM) as service:
        service.bind((address, 80))
        service.settimeout(3)
        sender = ["ip", "netns", "exec", "sender", "/usr/bin/python3", "-c", SEND]
        subprocess.run([*sender, (link + packet).hex()], check=True)
        try:
            return service.recv(100).decode()
        except socket.timeout:
            return None


def main() -> None:
    for line in SETUP.strip().splitlines():
        subprocess.run(line.split(), check=True)
    before = sorted(os.listdir("/sys/class/net"))
    unit("up")
    unit("up")  # a second time changes nothing
    for form, packet in tunnelled().items():
        tell(form=form, received=deliver(*packet))
    unit("up", "6080")
    unit("up", "6080")
    for form, packet in in_udp(6080).items():
        tell(form=form, received=deliver(*packet))
    unit("up", "9886")
    tell(form="other port", received=deliver(*in_udp(9886)["gue 4in4"]))
    tell(form="old port", received=deliver(*in_udp(6080)["gue 4in4"]))
    unit("down")
    ports = subprocess.run(["ip", "fou", "show"], capture_output=True, text=True, check=True).stdout
    tell(left=sorted(set(os.listdir("/sys/class/net")) - set(before)), ports=ports.split())


if __name__ == "__main__":
    main()
