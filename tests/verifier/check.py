# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Under another kernel or another bcc: loads every program, and runs a few packets through them.

Prints a line of JSON for each program that was loaded, and for each packet whether it became what
it should, byte by byte. Needs the distribution's Python with bcc, pyroute2, netaddr and scapy.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bcc
from pyroute2 import IPRoute
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _nexthop, _probe, _program
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import flow_hash, gue_source_port
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted
from tests.dataplane.expect import (
    REAL4,
    REAL6,
    Judged,
    dropped,
    judge,
    label_of,
    outer4,
    passed,
    sent,
)
from tests.dataplane.node import (
    CLIENT4,
    NODE4,
    NODE6,
    NODE_MAC,
    ROUTER_MAC,
    SOURCE,
    VIP4,
    VIP6,
    XDP_PASS,
    XDP_TX,
    Node,
    bpffs,
    from_client,
    interface,
    isolate,
    wire,
)
from tests.uml.telling import tell

NEAR4, NEAR_MAC = "192.0.2.40", "02:00:00:00:00:20"


def tell_packet(name: str, found: object, wanted: object) -> None:
    if found == wanted:
        tell(packet=name, right=True)
    else:
        tell(packet=name, right=False, found=repr(found), wanted=repr(wanted))


def check_balancer(node: Node) -> None:
    tell(program="balancer")
    tcp = TCP(sport=1025, dport=80)
    node.serve(REAL4)
    for name, packet in {
        "IPv4": from_client(tcp / Raw(b"payload")),
        "IPv6": from_client(tcp, ipv6=True),
        "UDP": from_client(UDP(sport=1025, dport=80)),
        "options": from_client(tcp, options=b"\x94\x04\x00\x00"),
    }.items():
        tell_packet(name, judge(node, packet), sent(packet))
    for name, packet, wanted in refused():
        tell_packet(name, judge(node, packet), wanted)
    tell_packet("tagged", *tagged(node))
    tell_packet("echo", *echo(node))
    node.serve(REAL6)
    for ipv6 in (False, True):
        packet = from_client(tcp, ipv6=ipv6)
        wanted = sent(packet, REAL6, label_of(node, packet))
        tell_packet(f"{'IPv6' if ipv6 else 'IPv4'} in IPv6", judge(node, packet), wanted)
    node.reset()
    node.serve(REAL4, tracking="always")
    packet = from_client(tcp)
    for name in ("recorded", "found"):
        tell_packet(name, judge(node, packet), sent(packet))
    tell_packet("records", node.flows(), {REAL4: 1})
    node.serve(REAL4, forwarding="gue")
    tell_packet("gue", *in_udp(node, packet))
    node.serve(NEAR4, forwarding="l2")
    near = Judged(XDP_TX, bytes(Ether(dst=NEAR_MAC, src=NODE_MAC) / packet.payload), "sent")
    tell_packet("l2", judge(node, packet), near)


def refused() -> Iterator[tuple[str, Packet, Judged]]:
    foreign = from_client(TCP(dport=80), dst="203.0.113.99")
    yield "foreign", foreign, passed(foreign)
    other = from_client(TCP(dport=81))
    yield "other port", other, dropped(other, "drop_unserved")
    lying = from_client(TCP(dport=80), len=1000)
    yield "malformed", lying, dropped(lying, "drop_malformed")
    later = from_client(Raw(bytes(40)), frag=100, proto=17)
    yield "fragment", later, dropped(later, "drop_fragment")


def tagged(node: Node) -> tuple[Judged, Judged]:
    inner = from_client(TCP(dport=80)).payload
    outer = outer4(inner)
    frame = Ether(dst=outer.src, src=outer.dst) / Dot1Q(vlan=7) / inner
    wanted = Ether(dst=outer.dst, src=outer.src) / Dot1Q(vlan=7) / outer.payload
    return judge(node, frame), Judged(XDP_TX, bytes(wanted), "sent")


def echo(node: Node) -> tuple[Judged, Judged]:
    rest = {"id": 7, "seq": 9}
    request = from_client(ICMP(type=8, **rest) / Raw(b"odd"))
    reply = IP(src=VIP4, dst=CLIENT4, ttl=64) / ICMP(type=0, **rest) / Raw(b"odd")
    wanted = Ether(dst=ROUTER_MAC, src=NODE_MAC) / reply
    return judge(node, request), Judged(XDP_TX, bytes(wanted), "answered_echo")


def in_udp(node: Node, packet: Packet) -> tuple[Judged, Judged]:
    inner = packet.payload
    hashed = flow_hash(node.hash_seed, inner.src, inner.dst, 6, inner.sport, inner.dport)
    udp = UDP(sport=gue_source_port(hashed), dport=node.gue_port, chksum=0) / Raw(bytes(inner))
    header = IP(src=NODE4, dst=REAL4, ttl=64, id=0, flags="DF")
    wanted = Ether(dst=ROUTER_MAC, src=NODE_MAC) / header / udp
    return judge(node, packet), Judged(XDP_TX, bytes(wanted), "sent")


def check_decap(pins: Path) -> None:
    wanted = Wanted("decap", ("eth1",), source=SOURCE, pins=pins, addresses=(REAL4, REAL6))
    program = _program.prepare(wanted)
    tell(program="decap")
    for ipv6 in (False, True):
        inner = from_client(TCP(dport=80) / Raw(b"payload"), ipv6=ipv6)
        for outer in (
            IP(dst=REAL4, proto=41 if ipv6 else 4),
            IPv6(dst=REAL6, nh=41 if ipv6 else 4),
        ):
            frame = Ether(dst=inner.dst, src=inner.src) / outer / Raw(bytes(inner.payload))
            found = _bpf.run_xdp(program.fd, bytes(frame))
            name = f"{'IPv6' if ipv6 else 'IPv4'} out of {outer.name}"
            tell_packet(name, found, (XDP_PASS, bytes(inner)))


def check_explain(node: Node) -> None:
    asker = _nexthop.Asker(SOURCE, node.pins, node.sizes)
    tell(program="explain")
    hop = asker.ask(NODE4, REAL4, interface("eth0"))
    tell_packet("next hop", hop, _nexthop.Hop("success", "eth0", "192.0.2.1", ROUTER_MAC))


def check_probe(node: Node) -> None:
    """Its routes are there when the kernel has taken the program for each."""
    probes = _probe.Probes(node.pins, SOURCE, node.sizes)
    tell(program="probe")
    probes.sync((VIP4, VIP6), NODE4, NODE6)
    tell_packet("routes of probes", probes.intact(), True)
    probes.remove()


def main() -> None:
    isolate()
    wire()
    with IPRoute() as ip:
        ip.neigh("add", dst=NEAR4, lladdr=NEAR_MAC, ifindex=interface("eth0"), state="permanent")
    tell(kernel=platform.release(), bcc=bcc.__version__, clang=clang())
    with (
        tempfile.TemporaryDirectory() as directory,
        bpffs(Path(directory, "bpf")) as pins,
        bpffs(Path(directory, "decap")) as decap,
    ):
        node = Node(pins, Path(directory, "state"))
        check_balancer(node)
        check_explain(node)
        check_probe(node)
        check_decap(decap)
    tell(done=True)


def clang() -> str:
    """The version of the LLVM that bcc's library is linked to."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        names = {line.split("/")[-1].strip() for line in maps if "libLLVM" in line}
    return ", ".join(sorted(names))


if __name__ == "__main__":
    main()
