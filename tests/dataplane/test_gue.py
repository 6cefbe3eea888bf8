# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generic UDP Encapsulation: what it looks like, its checksums, and where it ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _program
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._proof import Prover
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted

from .expect import REAL4, REAL6, Judged, judge, label_of
from .node import (
    CLIENT4,
    CLIENT6,
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
    from_client,
    interface,
)
from .test_explain import arguments, explainer
from .test_explain import parse as packet_of

PORT = 6080
BACKENDS = pytest.mark.parametrize("backend", [REAL4, REAL6], ids=["by IPv4", "by IPv6"])


def serve(node: Node, *backends: str, **pool: Any) -> None:
    node.serve(*backends, forwarding="gue", **pool)


def wrapped(inner: Packet, backend: str, label: int, check: int | None = None) -> Packet:
    """The IP packet that an inner one goes out as. check: the UDP checksum, over IPv6 scapy's."""
    six = isinstance(inner, IPv6)
    tos = inner.tc if six else inner.tos
    udp = UDP(sport=49152 + label % 16384, dport=PORT)
    if ":" in backend:
        header = IPv6(src=NODE6, dst=backend, hlim=64, tc=tos, fl=label & 0xFFFFF)
        if check is not None:
            udp.chksum = check
    else:
        header = IP(src=NODE4, dst=backend, ttl=64, id=0, flags="DF", tos=tos)
        udp.chksum = 0
    # Raw: nobody but scapy's own UDP reads the bytes.
    return header / udp / Raw(bytes(inner))


def out(packet: Packet) -> Packet:
    return Ether(dst=ROUTER_MAC, src=NODE_MAC) / packet


ODD = Raw(b"odd payload")

PLAIN = {
    "TCP": from_client(TCP(sport=4000, dport=80, flags="S") / ODD, tos=0xB9, ttl=7),
    "UDP": from_client(UDP(sport=4000, dport=80) / ODD, tos=1),
    "TCP over IPv6": from_client(TCP(sport=4000, dport=80) / ODD, ipv6=True, tc=0xB9, fl=77),
    "UDP over IPv6": from_client(UDP(sport=4000, dport=80) / ODD, ipv6=True),
    "an empty datagram": from_client(UDP(sport=4000, dport=80)),
}


@BACKENDS
@pytest.mark.parametrize("packet", PLAIN.values(), ids=PLAIN.keys())
def test_packet_is_wrapped(node: Node, packet: Packet, backend: str) -> None:
    serve(node, backend)
    label = label_of(node, packet)
    expected = bytes(out(wrapped(packet.payload, backend, label)))
    assert judge(node, packet) == Judged(XDP_TX, expected, "sent")


@BACKENDS
def test_many_flows_have_many_ports_and_right_checksums(node: Node, backend: str) -> None:
    serve(node, backend)
    ports = set()
    for port in range(1024, 1324):
        for ipv6 in (False, True):
            payload = Raw(os.urandom(port % 41))
            packet = from_client(UDP(sport=port, dport=80) / payload, ipv6=ipv6)
            expected = out(wrapped(packet.payload, backend, label_of(node, packet)))
            assert node.run(packet) == (XDP_TX, bytes(expected))
            ports.add(expected[UDP].sport)
    assert len(ports) > 580
    assert min(ports) >= 49152


def test_a_checksum_of_zero_is_sent_as_all_ones(node: Node) -> None:
    """Or there would be none."""
    serve(node, REAL6)
    packet = from_client(UDP(sport=4000, dport=80) / Raw(b"\0\0"), ipv6=True, fl=0)
    # The flow label is in no inner checksum: it moves the outer one where it shall go.
    packet[IPv6].fl = Ether(node.run(packet)[1])[UDP].chksum
    sent = node.run(packet)[1]
    assert Ether(sent)[UDP].chksum == 0xFFFF
    assert sent == bytes(out(wrapped(packet.payload, REAL6, label_of(node, packet))))


NO_SUM = {
    "UDP without checksum": from_client(UDP(sport=4000, dport=80, chksum=0) / ODD),
    "options": from_client(UDP(sport=4000, dport=80), options=b"\x94\x04\x00\x00"),
    "a shorter datagram": from_client(UDP(sport=4000, dport=80, len=8) / ODD),
    "a first fragment": from_client(UDP(sport=4000, dport=80) / Raw(bytes(16)), id=7, flags="MF"),
    "UDP without checksum, IPv6": from_client(UDP(sport=4000, dport=80, chksum=0), ipv6=True),
}


@pytest.mark.parametrize("packet", NO_SUM.values(), ids=NO_SUM.keys())
def test_over_ipv6_none_where_the_packet_does_not_tell(node: Node, packet: Packet) -> None:
    serve(node, REAL6)
    label = label_of(node, packet)
    expected = bytes(out(wrapped(packet.payload, REAL6, label, check=0)))
    assert judge(node, packet) == Judged(XDP_TX, expected, "sent")


def checked(node: Node, packet: Packet, summed: bool = True) -> Packet:
    """What comes out, outer headers read by scapy; its checksum is right, or there is none."""
    judged = judge(node, packet)
    assert (judged.action, judged.verdict) == (XDP_TX, "sent")
    frame = Ether(judged.frame)
    assert bytes(frame[UDP].payload) == bytes(packet.payload)
    again = frame.copy()
    if summed:
        del again[UDP].chksum
        assert bytes(again) == judged.frame
    else:
        assert frame[UDP].chksum == 0
    return frame


def test_errors_and_echo_requests_have_checksums(pins: Path, tmp_path: Path) -> None:
    node = Node(pins, tmp_path / "state", echo="forward")
    serve(node, REAL6)
    back4 = IP(src=VIP4, dst=CLIENT4) / UDP(sport=80, dport=4000)
    back6 = IPv6(src=VIP6, dst=CLIENT6) / UDP(sport=80, dport=4000)
    checked(node, from_client(ICMP(type=11) / back4))
    checked(node, from_client(ICMPv6PacketTooBig(mtu=1400) / back6, ipv6=True))
    checked(node, from_client(ICMP(id=1) / ODD))
    checked(node, from_client(ICMPv6EchoRequest(id=1, data=b"odd"), ipv6=True))
    node.close()


def test_extension_headers_and_fragments_have_none(node: Node) -> None:
    serve(node, REAL6)
    checked(node, from_client(IPv6ExtHdrDestOpt() / UDP(dport=80), ipv6=True), summed=False)
    first = IPv6ExtHdrFragment(id=7, m=1) / UDP(sport=4000, dport=80) / Raw(bytes(16))
    later = IPv6ExtHdrFragment(id=7, offset=3, nh=17) / Raw(bytes(40))
    ports = {checked(node, from_client(f, ipv6=True), summed=False).sport for f in (first, later)}
    assert len(ports) == 1, "fragments of a datagram take one way"


def test_wrong_inner_checksum_makes_the_outer_one_wrong(node: Node) -> None:
    """Nothing that was damaged before comes in again as whole."""
    serve(node, REAL6)
    packet = from_client(TCP(sport=4000, dport=80, chksum=1) / ODD)
    frame = Ether(node.run(packet)[1])
    found = frame[UDP].chksum
    del frame[UDP].chksum
    assert Ether(bytes(frame))[UDP].chksum != found != 0


@BACKENDS
def test_padding_and_tags_stay(node: Node, backend: str) -> None:
    serve(node, backend)
    packet = PLAIN["UDP"]
    inner = wrapped(packet.payload, backend, label_of(node, packet))
    link = Ether(dst=NODE_MAC, src=ROUTER_MAC) / Dot1Q(vlan=7) / Dot1Q(vlan=9)
    expected = Ether(dst=ROUTER_MAC, src=NODE_MAC) / Dot1Q(vlan=7) / Dot1Q(vlan=9) / inner
    came = bytes(link / packet.payload) + bytes(5)
    assert judge(node, came) == Judged(XDP_TX, bytes(expected) + bytes(5), "sent")


@pytest.mark.parametrize(("backend", "header"), [(REAL4, 28), (REAL6, 48)])
def test_larger_than_what_fits_is_answered(node: Node, backend: str, header: int) -> None:
    serve(node, backend)
    fits = from_client(UDP(sport=4000, dport=80) / Raw(bytes(1472 - header)))
    assert judge(node, fits).verdict == "sent"
    judged = judge(node, from_client(UDP(sport=4000, dport=80) / Raw(bytes(1473 - header))))
    assert judged.verdict == "answered_too_big"
    assert Ether(judged.frame)[ICMP].nexthopmtu == 1500 - header


def test_unknown_neighbour_is_left_to_the_kernel_wrapped(node: Node) -> None:
    serve(node, "192.0.2.43")
    packet = PLAIN["TCP"]
    inner = wrapped(packet.payload, "192.0.2.43", label_of(node, packet))
    expected = Ether(dst=NODE_MAC, src=ROUTER_MAC) / inner
    assert judge(node, packet) == Judged(XDP_PASS, bytes(expected), "to_kernel")


def test_another_port(pins: Path, tmp_path: Path) -> None:
    node = Node(pins, tmp_path / "state", gue_port=9886)
    serve(node, REAL4)
    assert Ether(node.run(PLAIN["TCP"])[1])[UDP].dport == 9886
    assert node.tables.settings()["gue_port"] == 9886
    node.close()


def test_pool_changes_its_forwarding(node: Node) -> None:
    packet = PLAIN["TCP"]
    for forwarding, more in (("ipip", 20), ("gue", 28), ("ipip", 20)):
        node.serve(REAL4, forwarding=forwarding)
        assert len(judge(node, packet).frame) == len(packet) + more


@BACKENDS
def test_explained_as_it_is(node: Node, backend: str) -> None:
    serve(node, backend)
    packet = from_client(UDP(sport=4000, dport=80))
    answer = explainer(node).explain(packet_of(**arguments(packet)), "eth0")
    sent = Ether(judge(node, packet).frame)[UDP]
    tunnel = {k: answer["tunnel"][k] for k in ("kind", "source_port", "destination_port")}
    assert tunnel == {"kind": "gue", "source_port": sent.sport, "destination_port": PORT}
    assert answer["verdict"] == "sent"


def test_proof_knows_the_bytes(node: Node) -> None:
    prover = Prover(node.tables, SOURCE, node.pins)
    prover.open(os.dup(node.loaded.fd), "eth0", interface("eth0"))
    for backend in (REAL4, REAL6):
        serve(node, backend)
        prover.renew()
        for address in (VIP4, VIP6):
            for protocol in ("tcp", "udp"):
                assert prover.prove(ServiceKey(address, 80, protocol)) is None
    prover.close()


# --- the far end ---


@pytest.fixture
def decap(pins: Path) -> int:
    """Opens GUE at the backends' addresses."""
    wanted = Wanted("decap", ("eth1",), source=SOURCE, pins=pins, addresses=(REAL4, REAL6))
    return _program.prepare(wanted).fd


@BACKENDS
@pytest.mark.parametrize("packet", PLAIN.values(), ids=PLAIN.keys())
def test_what_a_node_wraps_is_opened(node: Node, decap: int, packet: Packet, backend: str) -> None:
    serve(node, backend)
    sent = node.run(packet)[1]
    inner = Ether(dst=ROUTER_MAC, src=NODE_MAC) / packet.payload
    assert _bpf.run_xdp(decap, sent) == (XDP_PASS, bytes(inner))


def gue(udp: UDP, payload: bytes = bytes(PLAIN["TCP"].payload), dst: str = REAL4) -> Packet:
    header = IPv6(src=NODE6, dst=dst) if ":" in dst else IP(src=NODE4, dst=dst)
    return out(header / udp / Raw(payload))


@pytest.mark.parametrize(
    "packet",
    [
        gue(UDP(dport=PORT + 1)),
        gue(UDP(sport=PORT, dport=53)),
        gue(UDP(dport=PORT), dst="192.0.2.99"),
        gue(UDP(dport=PORT), dst="2001:db8:2::99"),
        gue(UDP(dport=PORT), b""),
        gue(UDP(dport=PORT), b"\x00\x04\x00\x00" + bytes(40)),
        gue(UDP(dport=PORT), b"\x50" + bytes(40)),
        out(IP(src=NODE4, dst=REAL4, flags="MF") / UDP(dport=PORT) / Raw(b"\x45" + bytes(40))),
    ],
    ids=["port", "from the port", "end", "end, IPv6", "empty", "variant 0", "no IP", "fragment"],
)
def test_all_else_is_passed_untouched(decap: int, packet: Packet) -> None:
    assert _bpf.run_xdp(decap, bytes(packet)) == (XDP_PASS, bytes(packet))


def test_port_of_the_far_end_follows(pins: Path) -> None:
    packet = bytes(gue(UDP(dport=PORT)))
    values = {"source": SOURCE, "pins": pins, "addresses": (REAL4,)}
    fd = _program.prepare(Wanted("decap", ("eth1",), **values)).fd
    assert len(_bpf.run_xdp(fd, packet)[1]) == len(packet) - 28
    for port in (0, PORT + 1):
        assert _program.prepare(Wanted("decap", ("eth1",), gue_port=port, **values)).changed
        assert _bpf.run_xdp(fd, packet)[1] == packet
