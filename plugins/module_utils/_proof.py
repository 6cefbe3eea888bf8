# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proof that a service forwards: a packet through the live program, and the exact bytes it has to
come out as.

Private to the collection. The packet is run by BPF_PROG_TEST_RUN, so it leaves no interface; maps,
routes and neighbours are the live ones. What it leaves behind are counts, which are told (Counted),
and in tracked slots the record of its flow, which is removed. It goes to a slot's current backend:
of TCP and SCTP it opens a connection, of UDP a slot is looked for where that is so, and while
there is none, UDP's transition still lasts. So neither a drain nor settling waits for proofs.
No guard refuses it: it is about the way to the backends, and holds while a service is flooded.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _flows, _links, _nexthop
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._explain import Explainer, Explanation
from ansible_collections.l4lb.xdp.plugins.module_utils._flows import Record
from ansible_collections.l4lb.xdp.plugins.module_utils._golden_frames import SCTP_INIT, sctp
from ansible_collections.l4lb.xdp.plugins.module_utils._guards import PROOF
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import PROTOCOLS, ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._lookup import Lookup
from ansible_collections.l4lb.xdp.plugins.module_utils._nexthop import Hop
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import OPENINGS, Packet
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables

CLIENTS = {4: "198.18.0.1", 16: "2001:2::1"}
"""The source of a proof, by length of address: of the networks for benchmarks (RFC 2544, 5180)."""
SOURCE_PORTS = range(49152, 49168)
ANY_PORTS = range(33434, 33450)
"""Where a service that takes any port is tried: at the first that no other service has."""

XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4
ACTIONS = {"sent": XDP_TX, "redirected": XDP_REDIRECT, "to_kernel": XDP_PASS}
"""What the program returns for the verdicts of packets that go to a backend."""

TTL = 64
_IPV4_DONT_FRAGMENT = 0x4000
_ETHERTYPES = {4: b"\x08\x00", 16: b"\x86\xdd"}
_IN_MACS = bytes.fromhex("02000000000b020000000001")
"""The frame's own, before: of no meaning, as XDP sees what the interface has taken in."""
_SYN = 0x02
_NTF_USE = 0x01
"""Of linux/neighbour.h: find the neighbour out, as if a packet went there."""
FIND_EVERY = 1.0
"""Seconds between two times that the kernel is asked to find a neighbour."""


# --- bytes ---


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def inner(packet: Packet) -> bytes:
    """The IP packet: a TCP SYN, an SCTP INIT or an empty UDP datagram."""
    source, destination = packed(packet.source), packed(packet.destination)
    ports = struct.pack("!HH", packet.source_port, packet.destination_port)
    protocol = PROTOCOLS[packet.protocol]
    if packet.protocol == "sctp":
        transport = sctp((packet.source_port, packet.destination_port), SCTP_INIT)
        return _header(source, destination, protocol, 0, len(transport), 0) + transport
    if packet.protocol == "tcp":
        transport, at = ports + struct.pack("!IIBBHHH", 1, 0, 5 << 4, _SYN, 65535, 0, 0), 16
    else:
        transport, at = ports + struct.pack("!HH", 8, 0), 6
    pseudo = source + destination + struct.pack("!II", len(transport), protocol)
    transport = _with_sum(transport, at, checksum(pseudo + transport) or 0xFFFF)
    return _header(source, destination, protocol, 0, len(transport), 0) + transport


def encapsulated(
    ip: bytes,
    source: str,
    destination: str,
    label: int,
    macs: bytes,
    ports: tuple[int, int] | None = None,
) -> bytes:
    """The frame that an IP packet has to leave in: bpf/encap.h, written a second time to check it.

    label: of the outer header when that is IPv6; the low 20 bits count. macs: destination, source.
    ports: of the UDP header in between where there is one.
    """
    ipv6 = ip[0] >> 4 == 6
    first = int.from_bytes(ip[:2], "big")
    traffic_class = first >> 4 & 0xFF if ipv6 else first & 0xFF
    protocol = socket.IPPROTO_IPV6 if ipv6 else socket.IPPROTO_IPIP
    content = ip
    if ports is not None:
        protocol = socket.IPPROTO_UDP
        content = _gue(ip, packed(source), packed(destination), *ports)
    ends = packed(source), packed(destination)
    outer = _header(*ends, protocol, traffic_class, len(content), label)
    return macs + _ETHERTYPES[len(ends[0])] + outer + content


def _gue(ip: bytes, source: bytes, destination: bytes, own: int, port: int) -> bytes:
    """UDP around an IP packet; its checksum is 0 over IPv4."""
    length = 8 + len(ip)
    datagram = struct.pack("!HHHH", own, port, length, 0) + ip
    if len(source) == 4:
        return datagram
    pseudo = source + destination + struct.pack("!II", length, socket.IPPROTO_UDP)
    return _with_sum(datagram, 6, checksum(pseudo + datagram + bytes(length % 2)) or 0xFFFF)


def _header(
    source: bytes, destination: bytes, protocol: int, traffic_class: int, length: int, label: int
) -> bytes:
    """An IP header of the addresses' family. length: of what follows it."""
    if len(source) == 16:
        first = 6 << 28 | traffic_class << 20 | label & 0xFFFFF
        return struct.pack("!IHBB", first, length, protocol, TTL) + source + destination
    fields = (0x45, traffic_class, length + 20, 0, _IPV4_DONT_FRAGMENT, TTL, protocol, 0)
    header = struct.pack("!BBHHHBBH", *fields) + source + destination
    return _with_sum(header, 10, checksum(header))


def _with_sum(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack("!H", value) + data[at + 2 :]


# --- what proofs add to the counters ---


@dataclass
class Count:
    """Packets and bytes as the program counts them. of: whom the counter was, else it is reset."""

    packets: int = 0
    bytes: int = 0
    of: str = ""


@dataclass
class Counted:
    """What proofs have added to the kernel's counters, for whoever wants those without them.

    services: by name; of: the id. backends: by index; of: the address. verdicts: by word.
    """

    services: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    backends: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    verdicts: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))

    def add(self, kind: str, key: str, of: str, length: int) -> None:
        counts = getattr(self, kind)
        if counts[key].of != of:  # the kernel's counter is another one now
            counts[key] = Count(of=of)
        counts[key].packets += 1
        counts[key].bytes += length

    def as_dict(self) -> dict[str, dict[str, list[Any]]]:
        """For JSON: [packets, bytes, of] of each."""
        return {
            kind: {key: [c.packets, c.bytes, c.of] for key, c in counts.items()}
            for kind, counts in vars(self).items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, Any]]) -> Counted:
        """Raises KeyError, TypeError, AttributeError or ValueError for what is none."""
        made = cls()
        for kind, counts in vars(made).items():
            for key, (packets, octets, of) in data[kind].items():
                counts[key] = Count(int(packets), int(octets), str(of))
        return made


# --- the proof ---


class _Expected(NamedTuple):
    """What has to come out: the verdict and frame by each way the CPU may go by, best first."""

    verdict: str
    frames: dict[bytes, str]


class Prover:
    """Proves services of a node; opens everything once. `open` names the program to prove."""

    def __init__(self, tables: Tables, source: Path, pins: Path) -> None:
        self.counted = Counted()
        self._tables = tables
        self._lookup = Lookup(tables)
        self._explainer = Explainer(tables, source, pins)
        self._fd: int | None = None
        self._ingress = ("", 0)
        self._macs: dict[str, bytes] = {}
        self._sought: dict[Hop, float] = {}
        self._turn = 0

    def open(self, fd: int, interface: str, index: int) -> None:
        """From now on proofs run this program, as if by that interface; takes the descriptor."""
        self.close()
        self._fd, self._ingress = fd, (interface, index)
        self._macs.clear()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def renew(self) -> None:
        """Takes in what l4lb.xdp.program may have changed: once before some proofs."""
        self._explainer.renew()

    def prove(self, service: ServiceKey) -> str | None:
        """None when a packet of the service goes out as it must, else the reason.

        Source ports are tried until one's backend has a resolved next hop.
        """
        unresolved: dict[str, Hop] = {}
        for only_current in (True, False):
            for packet in self._packets(service):
                reason = self._try(packet, unresolved, only_current)
                if reason is None or reason:
                    return reason
            if unresolved:
                break
        return self._unresolved_text(unresolved)

    def _packets(self, service: ServiceKey) -> Iterator[Packet]:
        """One a source port, each time beginning with another: the slots are tried in turn."""
        client = CLIENTS[len(packed(service.address))]
        port = service.port or self._free_port(service)
        self._turn += 1
        opens = service.protocol in OPENINGS
        for i in range(len(SOURCE_PORTS)):
            source_port = SOURCE_PORTS[(self._turn + i) % len(SOURCE_PORTS)]
            yield Packet(client, service.address, service.protocol, source_port, port, opens)

    def _free_port(self, service: ServiceKey) -> int:
        for port in ANY_PORTS:
            found = self._lookup.service(
                Packet("", service.address, service.protocol, destination_port=port)
            )
            if found is None or found[0].port == 0:
                return port
        return ANY_PORTS[0]

    def _try(self, packet: Packet, unresolved: dict[str, Hop], only_current: bool) -> str | None:
        """None: proven. A text: refuted. An empty one: try another, its next hop is not resolved,
        or it would go to a slot's previous backend and only_current is set.
        """
        ip = inner(packet)
        frame = _IN_MACS + _ETHERTYPES[len(packed(packet.source))] + ip
        wrong = ""
        for _attempt in range(2):  # routes, neighbours and rings change under us
            answer, index = self._explainer.steer(packet, self._ingress[0])
            if not index:
                return _said(answer)
            if only_current and _backend(answer)["address"] != (answer.slot or {})["current"]:
                return ""
            expected = self._expected(answer, index, ip)
            if isinstance(expected, str):
                return expected
            if isinstance(expected, Hop):
                unresolved[_backend(answer)["address"]] = expected
                return ""
            action, out = _bpf.run_xdp(self._fd or 0, frame, self._ingress[1], PROOF)
            self._after(packet, answer, index, action, out != frame, len(ip))
            if action == ACTIONS.get(expected.frames.get(out, "")):
                return None
            self._macs.clear()
            wrong = _wrong_text(packet, answer, action, out, expected)
        return wrong

    def _expected(self, answer: Explanation, index: int, ip: bytes) -> _Expected | Hop | str:
        """What has to come out; the hop when it is not resolved; why nothing comes out."""
        tunnel, ingress = answer.tunnel or {}, self._ingress
        source, destination = tunnel["source"], tunnel["destination"]
        if source is None:
            family = "ipv6" if ":" in destination else "ipv4"
            return f"backend {destination}: the node has no source_{family} (l4lb.xdp.program)"
        asker = self._explainer.asker
        hop = asker.ask(self._explainer.own_source(destination) or source, destination, ingress[1])
        ways: list[tuple[bytes, str, str]] = []
        if hop.result == "success" and hop.interface and hop.mac:
            ways.append((_mac(hop.mac), hop.interface, _nexthop.verdict(hop, ingress[0])))
        for cached in asker.in_use(self._lookup.hops(index)):  # CPUs go by them for a second
            name = _nexthop.interface_name(cached.interface)
            verdict = "sent" if cached.interface == ingress[1] else "redirected"
            ways.append((_mac(cached.mac), name, verdict))
        bare = tunnel["kind"] == "l2"
        if bare and hop.address not in (None, destination):
            return f"backend {destination}: {_nexthop.off_link(hop, destination)}"
        if hop.result in _nexthop.DROPPED:
            return f"backend {destination}: the route there is of type {hop.result}"
        if not ways:
            return hop
        label = int(answer.hash or "0", 16)
        ports = None
        if tunnel["kind"] == "gue":
            ports = tunnel["source_port"], tunnel["destination_port"]
        frames: dict[bytes, str] = {}
        for mac, name, verdict in ways:
            macs = mac + self._mac_of(name)
            frame = encapsulated(ip, source, destination, label, macs, ports)
            if bare:
                frame = macs + _ETHERTYPES[4 if ip[0] >> 4 == 4 else 16] + ip
            frames.setdefault(frame, verdict)
        return _Expected(ways[0][2], frames)

    def _mac_of(self, interface: str) -> bytes:
        if interface not in self._macs:
            with contextlib.suppress(_links.NoSuchInterface):
                address = _links.interface(interface).address
                self._macs[interface] = _mac(address) if address else bytes(6)
        return self._macs.get(interface, bytes(6))

    def _after(
        self, packet: Packet, answer: Explanation, index: int, action: int, new: bool, length: int
    ) -> None:
        """Notes what was counted, and removes the flow's record where one was made."""
        verdicts = {number: verdict for verdict, number in ACTIONS.items()}
        verdict = verdicts.get(action, "")
        if action == XDP_PASS and not new:
            verdict = "pass_foreign"
        self.counted.add("verdicts", verdict or "drop", "", length)
        if verdict in ACTIONS:
            found = self._lookup.service(packet)
            if found:
                self.counted.add("services", found[1].name, str(found[1].id), length)
            self.counted.add("backends", str(index), _backend(answer)["address"], length)
        pool, slot = answer.pool or {}, answer.slot or {}
        if pool["tracking"] == "always" or slot["state"] == "tracked":
            _flows.forget(self._tables, _record(packet))

    def _find_out(self, hop: Hop) -> None:
        """Lets the kernel look for a neighbour: XDP only takes what the kernel knows."""
        now = time.monotonic()
        if hop.interface is None or now - self._sought.get(hop, -FIND_EVERY) < FIND_EVERY:
            return
        self._sought = {h: at for h, at in self._sought.items() if now - at < FIND_EVERY}
        self._sought[hop] = now
        with contextlib.suppress(_links.LinkError):
            index = _links.interface(hop.interface).index
            with _links.netlink() as ip:
                ip.neigh("replace", dst=hop.address, ifindex=index, state="none", flags=_NTF_USE)

    def _unresolved_text(self, unresolved: Mapping[str, Hop]) -> str:
        """Why no packet has a next hop; whoever is not known yet is asked for."""
        for hop in unresolved.values():
            if hop.result == "no_neighbour":
                self._find_out(hop)
        backend, hop = next(iter(unresolved.items()))
        why = _nexthop.explain(hop, backend, self._ingress[0], _nexthop.neighbour_state(hop))
        more = f" (and so for {len(unresolved)} backends)" if len(unresolved) > 1 else ""
        return f"no next hop: {why}{more}"


def _said(answer: Explanation) -> str:
    """Why a packet goes to nobody."""
    return f"{answer.why[-1]} (l4lb.xdp.services brings back what was applied)"


def _wrong_text(
    packet: Packet, answer: Explanation, action: int, out: bytes, expected: _Expected
) -> str:
    want = ACTIONS[expected.verdict]
    backend = _backend(answer)["address"]
    if action != want and action not in ACTIONS.values():
        what = f"XDP action {action}, not {want}"
    else:
        frame = next(iter(expected.frames))
        first = next((i for i, (a, b) in enumerate(zip(out, frame)) if a != b), len(frame))
        what = f"action {action}, {len(out)} bytes, other than expected from byte {first} on"
    return (
        f"the program does not send {packet} to {backend} as it must ({what}): run "
        "l4lb.xdp.program, which proves and attaches it again"
    )


def _backend(answer: Explanation) -> dict[str, Any]:
    return answer.backend or {}


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _record(packet: Packet) -> Record:
    ports = packet.source_port, packet.destination_port
    source, destination = packed(packet.source), packed(packet.destination)
    return source, destination, *ports, PROTOCOLS[packet.protocol], 0, 0
