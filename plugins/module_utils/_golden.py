# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden packets: of every kind that the data path tells apart, made from the services that a node
has now.

Private to the collection; pure. Clients are of the networks for benchmarks (198.18.0.0/15, RFC
2544; 2001:2::/48, RFC 5180), which no packet of the Internet comes from. The same maps make the
same packets.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ansible_collections.l4lb.xdp.plugins.module_utils import _golden_frames as frames
from ansible_collections.l4lb.xdp.plugins.module_utils._address import endpoint, order, packed
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import identity_hash
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import slot as slot_number
from ansible_collections.l4lb.xdp.plugins.module_utils._golden_frames import SCTP, TCP, UDP
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceEntry, ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots

KINDS = (
    "ack",
    "syn",
    "syn, ack",
    "fin",
    "udp",
    "init",
    "sctp",
    "options",
    "vlan",
    "full size",
    "fragments",
    "icmp error",
    "echo",
    "neighbour solicitation",
    "lone fragment",
    "lone icmp error",
    "unserved port",
    "unserved protocol",
    "denied",
    "not allowed",
    "malformed",
    "foreign",
)
"""What a packet is, as results and the option `expect` name it."""

TRIES = 4096
"""Source ports tried to find flows of tracked slots."""

_PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
_ANY_PORT = 4660  # what stands for the port of a service that takes any


class Flow(NamedTuple):
    """What a record of the flow tables is about: the first five of `_flows.Record`."""

    source: bytes
    destination: bytes
    source_port: int
    port: int
    protocol: int


@dataclass(frozen=True)
class Case:
    """Frames that come in one after the other: one, or the fragments of a datagram.

    flow: what they may leave a record of. marked: whether guards let them in, as they do proofs.
    """

    kind: str
    text: str
    frames: tuple[bytes, ...]
    flow: Flow | None = None
    marked: bool = True

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class Fleet:
    """What the packets are made from, as the kernel holds it; rings by a pool's index."""

    services: Mapping[ServiceKey, ServiceEntry]
    ring: Callable[[int], Slots | None]
    hash_seed: int
    mac: bytes  # of the interface that the packets come in by
    mtu: int
    identities: Mapping[int, str] = field(default_factory=dict)  # of pools, by index
    denied: Collection[str] = ()
    allowing: Collection[int] = ()  # ids of services that allow some sources only


def cases(fleet: Fleet, services: int, flows: int) -> list[Case]:
    """Packets of `services` services at most, spread over pools, families and protocols, `flows`
    flows of each and more where slots are tracked; and what is nobody's.
    """
    found = list(_foreign(fleet))
    addresses: set[str] = set()
    for key, service in _sample(fleet.services, services):
        found += _of_service(fleet, key, service, flows)
        found += _refused(fleet, key, service)
        if key.address not in addresses:
            addresses.add(key.address)
            found += _of_address(fleet, key.address)
    return found


def _sample(
    services: Mapping[ServiceKey, ServiceEntry], limit: int
) -> list[tuple[ServiceKey, ServiceEntry]]:
    """From each pool, family and protocol in turn."""
    groups: dict[tuple[int, bool, str], list[tuple[ServiceKey, ServiceEntry]]] = {}
    for key, service in sorted(services.items(), key=lambda i: (order(i[0].address), i[0])):
        if key.protocol in _PROTOCOLS:
            group = (service.pool, ":" in key.address, key.protocol)
            groups.setdefault(group, []).append((key, service))
    turns = itertools.zip_longest(*(groups[group] for group in sorted(groups)))
    return [each for turn in turns for each in turn if each is not None][:limit]


def _client(family: int, number: int) -> bytes:
    """The numbered client; 4 or 16 bytes."""
    if family == 4:
        return bytes([198, 18, 1 + (number >> 8) % 255, number & 0xFF])
    return packed("2001:2::")[:12] + number.to_bytes(4, "big")


def _of_service(fleet: Fleet, key: ServiceKey, service: ServiceEntry, flows: int) -> Iterator[Case]:
    picked = [_flow(key, number) for number in range(flows)]
    picked += _tracked(fleet, key, service.pool, flows)
    for place, flow in enumerate(dict.fromkeys(picked)):
        about = f"{key.protocol} {_ends(flow)} (service {service.name})"
        for kind, packets in _kinds(flow, fleet.mtu, all_of_them=place == 0):
            tags = 1 if kind == "vlan" else 0
            made = tuple(frames.ethernet(fleet.mac, packet, tags) for packet in packets)
            yield Case(kind, about, made, flow)


def _refused(fleet: Fleet, key: ServiceKey, service: ServiceEntry) -> Iterator[Case]:
    """What guards do not let in, as it comes off the wire: whether they still do not."""
    kinds: dict[str, Flow] = {}
    if service.id in fleet.allowing:
        kinds["not allowed"] = _flow(key, 0)
    same = [prefix for prefix in fleet.denied if (":" in prefix) == (":" in key.address)]
    if same:
        source = packed(min(same).partition("/")[0])
        kinds["denied"] = _flow(key, 0)._replace(source=source)
    for kind, flow in kinds.items():
        made = [packets for _kind, packets in _kinds(flow, fleet.mtu, all_of_them=False)]
        plain = made[0][0]
        about = f"{key.protocol} {_ends(flow)} (service {service.name})"
        yield Case(kind, about, (frames.ethernet(fleet.mac, plain),), flow, marked=False)


def _flow(key: ServiceKey, number: int) -> Flow:
    destination = packed(key.address)
    port = key.port or _ANY_PORT
    return Flow(
        _client(len(destination), 1 + number),
        destination,
        32768 + number,
        port,
        _PROTOCOLS[key.protocol],
    )


def _ends(flow: Flow) -> str:
    source, destination = _text(flow.source), _text(flow.destination)
    return f"{endpoint(source, flow.source_port)} -> {endpoint(destination, flow.port)}"


def _tracked(fleet: Fleet, key: ServiceKey, pool: int, flows: int) -> list[Flow]:
    """Flows whose slots remember a change: there the flow table has its say."""
    slots = fleet.ring(pool)
    if slots is None or not slots.tracked_count():
        return []
    candidates = (_flow(key, number) for number in range(TRIES))
    found = (flow for flow in candidates if slots.tracked[_slot(fleet, flow, pool, len(slots))])
    return list(itertools.islice(found, flows))


def _slot(fleet: Fleet, flow: Flow, pool: int, size: int) -> int:
    source, destination, source_port, port, protocol = flow
    identity = fleet.identities.get(pool, "five_tuple")
    hashed = identity_hash(
        identity, fleet.hash_seed, source, destination, protocol, source_port, port
    )
    return slot_number(hashed, size)


def _kinds(flow: Flow, mtu: int, all_of_them: bool) -> Iterator[tuple[str, list[bytes]]]:
    """What one flow can send, as IP packets."""
    source, destination, source_port, port, protocol = flow
    ports = (source_port, port)

    def segment(flags: int, data: int = 8) -> bytes:
        return frames.tcp(source, destination, ports, flags, data)

    def datagram(data: int = 8) -> bytes:
        return frames.udp(source, destination, ports, data)

    def packet(payload: bytes, options: bool = False) -> bytes:
        return frames.ip(source, destination, protocol, payload, options=options)

    if protocol == TCP:
        plain = segment(frames.ACK)
        yield "ack", [packet(plain)]
        yield "syn", [packet(segment(frames.SYN, 0))]
        # After its SYN, where the flow table knows it.
        yield "syn, ack", [packet(segment(frames.SYN, 0)), packet(plain)]
    elif protocol == SCTP:
        plain = frames.sctp(ports, frames.SCTP_DATA)
        yield "sctp", [packet(plain)]
        yield "init", [packet(frames.sctp(ports, frames.SCTP_INIT))]
    else:
        plain = datagram()
        yield "udp", [packet(plain)]
    if not all_of_them:
        return
    headers = 40 if len(source) == 4 else 60
    long = mtu - headers
    if protocol == TCP:
        yield "fin", [packet(segment(frames.FIN | frames.ACK, 0))]
        yield "full size", [packet(segment(frames.ACK, long))]
    elif protocol == SCTP:
        yield "full size", [packet(frames.sctp(ports, frames.SCTP_DATA, (long - 8) // 4 * 4))]
    else:
        yield "full size", [packet(datagram(long + 12))]
    yield "options", [packet(plain, options=True)]
    yield "vlan", [packet(plain)]
    yield "fragments", list(_fragments(flow, plain))
    yield "icmp error", [_icmp_error(source, destination, _answer(flow))]


def _fragments(flow: Flow, payload: bytes) -> Iterator[bytes]:
    source, destination, _source_port, _port, protocol = flow
    whole = payload.ljust(32, b"g")
    for place, more in ((0, True), (3, False)):
        part = whole[:24] if more else whole[24:]
        yield frames.ip(source, destination, protocol, part, fragment=(place, more))


def _answer(flow: Flow) -> bytes:
    """What the backend sent, about which a router complains: cut off behind its ports."""
    source, destination, source_port, port, protocol = flow
    ports = port.to_bytes(2, "big") + source_port.to_bytes(2, "big") + bytes(4)
    return frames.ip(destination, source, protocol, ports)


def _icmp_error(source: bytes, destination: bytes, about: bytes) -> bytes:
    """The path is too narrow, says the client's address."""
    if len(source) == 4:
        message = frames.icmp(source, destination, 3, 4, 1400, about)
        return frames.ip(source, destination, frames.ICMP, message)
    message = frames.icmp(source, destination, 2, 0, 1400, about)
    return frames.ip(source, destination, frames.ICMP6, message)


def _of_address(fleet: Fleet, text: str) -> Iterator[Case]:
    """What a service's address gets that is for none of its services."""
    address = packed(text)
    client = _client(len(address), 0xFFFF)
    for kind, packet in _at_address(fleet, address, client):
        about = f"{_text(client)} -> {text}"
        yield Case(kind, about, (frames.ethernet(fleet.mac, packet),))


def _at_address(fleet: Fleet, address: bytes, client: bytes) -> Iterator[tuple[str, bytes]]:
    ipv6 = len(address) == 16
    protocol = frames.ICMP6 if ipv6 else frames.ICMP

    def packet(number: int, payload: bytes) -> bytes:
        return frames.ip(client, address, number, payload)

    echo = frames.icmp(client, address, 128 if ipv6 else 8, 0, 0x00010001, b"golden packet")
    yield "echo", packet(protocol, echo)
    if ipv6:
        solicited = frames.icmp(client, address, 135, 0, 0, address)
        yield "neighbour solicitation", packet(protocol, solicited)
    ports = (40000, _unserved_port(fleet, _text(address)))
    for number in (TCP, UDP):
        if ports[1]:
            make = frames.udp if number == UDP else _ack
            yield "unserved port", packet(number, make(client, address, ports, 8))
    yield "unserved protocol", packet(frames.GRE, bytes(16))
    yield "lone fragment", frames.ip(client, address, TCP, bytes(16), fragment=(9, False))
    foreign = _icmp_error(client, address, frames.ip(client, client, TCP, bytes(8)))
    yield "lone icmp error", foreign
    whole = packet(TCP, _ack(client, address, (40000, 80), 8))
    yield "malformed", bytes([whole[0] ^ 0x70]) + whole[1:]  # a version that it is not
    yield "malformed", whole[:-12]  # shorter than it says
    yield "malformed", packet(TCP, bytes(12))  # TCP's header is longer


def _ack(source: bytes, destination: bytes, ports: tuple[int, int], data: int) -> bytes:
    return frames.tcp(source, destination, ports, frames.ACK, data)


def _unserved_port(fleet: Fleet, address: str) -> int:
    """A port of the address that has no service; 0 when any has."""
    taken = {key.port for key in fleet.services if key.address == address}
    if 0 in taken:
        return 0
    return next(port for port in range(9, 65536) if port not in taken)


def _foreign(fleet: Fleet) -> Iterator[Case]:
    """What is nobody's: it goes to the kernel as it came."""
    for family in (4, 16):
        source, destination = _client(family, 1), _client(family, 0xFFFE)
        packet = frames.ip(source, destination, TCP, _ack(source, destination, (40000, 80), 8))
        about = f"tcp {_text(source)} -> {_text(destination)}"
        for tags in (0, 3):
            text = f"{about} in {tags} tags" if tags else about
            yield Case("foreign", text, (frames.ethernet(fleet.mac, packet, tags),))
        cut = frames.ethernet(fleet.mac, packet)[: 14 + 8]
        yield Case("foreign", f"{about}, cut off in its IP header", (cut,))
    yield Case("foreign", "an ARP request", (frames.arp(),))
    lldp = bytes.fromhex("0180c200000e") + frames.MAC + bytes.fromhex("88cc") + bytes(46)
    yield Case("foreign", "LLDP", (lldp,))


def _text(raw: bytes) -> str:
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, raw)
