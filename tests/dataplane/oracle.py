# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of a frame that comes out, told from the one that went in, without reading it
as the program does.
"""

from __future__ import annotations

import socket

from .corpus import BACKENDS, DENIED4, DENIED6, FAR, FAR6, GUE4, GUE6, LINK4, LINK6, VIPS
from .node import (
    FAR_MAC,
    NODE4,
    NODE6,
    NODE_MAC,
    NODE_MAC1,
    ROUTER_MAC,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
)

MTU = 1500
OUTER = {4: 20, 6: 40}
UDP = 8
GUE_PORT = b"\x17\xc0"


class Wrong(Exception):
    """The program did what no packet may meet."""


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


_DENIED = (_packed(DENIED4)[:3], _packed(DENIED6)[:6])
_VIPS = {_packed(address) for address in VIPS}
_BARE = {_packed(LINK4), _packed(LINK6)}
_GUE = {_packed(GUE4), _packed(GUE6)}
_BACKENDS = {_packed(address) for address in BACKENDS}
_FAR = {_packed(address) for address in (FAR, FAR6)}
_SOURCES = {_packed(NODE4), _packed(NODE6)}
_NEAR_MACS = _mac(ROUTER_MAC) + _mac(NODE_MAC)
_FAR_MACS = _mac(FAR_MAC) + _mac(NODE_MAC1)


def check(frame: bytes, action: int, out: bytes, passing: bool = False) -> None:
    """Raises Wrong when this must not come of the frame.

    passing: whether the node's options let something to a service's address pass.
    """
    link, version = _link(frame)
    packet = frame[link:]
    if not version or _destination(packet, version) not in _VIPS:
        _require((action, out) == (XDP_PASS, frame), "a foreign frame is not passed untouched")
    elif _source(packet, version).startswith(_DENIED):
        untouched = version == 6 and (action, out) == (XDP_PASS, frame)  # between neighbours
        _require(action == XDP_DROP or untouched, "a denied source came in")
    elif action == XDP_PASS:
        _require(out == frame, "a frame is passed, but not as it came")
        _require(
            passing or version == 6, "nothing over IPv4 to a service's address goes to the kernel"
        )
    elif _destination(packet, version) in _BARE and out.endswith(packet) and action != XDP_DROP:
        _check_bare(frame, link, version, action, out)
    elif action == XDP_TX and len(out) == len(frame):
        _check_echo(frame, link, version, out)
    elif action == XDP_TX and out.endswith(packet):
        _require(out[:12] == _NEAR_MACS, "wrong MAC addresses")
        _require(out[12 : link - 2] == frame[12 : link - 2], "tags are not kept")
        _require(_check_outer(packet, version, out, link) not in _FAR, "not sent to the far side")
    elif action == XDP_TX:
        _check_too_big(frame, link, version, out)
    elif action == XDP_REDIRECT:
        _require(out[:12] == _FAR_MACS, "wrong MAC addresses")
        _require(_check_outer(packet, version, out, 14) in _FAR, "redirected to the near side")
    else:
        _require(action == XDP_DROP, "no action of ours")


def _check_bare(frame: bytes, link: int, version: int, action: int, out: bytes) -> None:
    """Only the MAC addresses are others; on another link the tags are gone."""
    packet = frame[link:]
    _require(packet[0] >> 4 == version, "a lying version went on")
    _require(OUTER[version] <= _length(packet, version) <= MTU, "a lying or large length went on")
    if action == XDP_TX:
        _require(out == _NEAR_MACS + frame[12:], "a frame for a neighbour is changed")
    else:
        _require(action == XDP_REDIRECT, "no action of ours")
        _require(out == _FAR_MACS + frame[link - 2 :], "a redirected frame is changed")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Wrong(otherwise)


def _link(frame: bytes) -> tuple[int, int]:
    """Length of the Ethernet header with its tags, and the IP version that it announces."""
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8") and at < 20:
        at += 4
    return at + 2, {b"\x08\x00": 4, b"\x86\xdd": 6}.get(frame[at : at + 2], 0)


def _destination(packet: bytes, version: int) -> bytes | None:
    """None when the packet ends before its header does."""
    if len(packet) < OUTER[version]:
        return None
    return packet[16:20] if version == 4 else packet[24:40]


def _source(packet: bytes, version: int) -> bytes:
    return packet[12:16] if version == 4 else packet[8:24]


def _sums(header: bytes) -> bool:
    """Whether a checksum is right: 2^16 is 1 modulo 2^16 - 1."""
    return int.from_bytes(header, "big") % 0xFFFF == 0


def _length(packet: bytes, version: int) -> int:
    if version == 4:
        return int.from_bytes(packet[2:4], "big")
    return int.from_bytes(packet[4:6], "big") + 40


def _traffic_class(packet: bytes, version: int) -> int:
    return packet[1] if version == 4 else int.from_bytes(packet[:2], "big") >> 4 & 0xFF


def _check_outer(packet: bytes, version: int, out: bytes, link: int) -> bytes:
    """The outer header against the packet in it; returns the backend's address."""
    outer = {b"\x08\x00": 4, b"\x86\xdd": 6}[out[link - 2 : link]]
    header = out[link : link + OUTER[outer]]
    udp = UDP if _destination(packet, version) in _GUE else 0
    behind = out[link + OUTER[outer] :]
    _require(behind[udp:] == packet, "the packet inside is another one")
    length = _length(packet, version)
    _require(packet[0] >> 4 == version, "a lying version went on")
    _require(OUTER[version] <= length <= len(packet), "a lying length went on")
    _require(_length(header, outer) == OUTER[outer] + udp + length <= MTU, "wrong outer length")
    _require(_traffic_class(header, outer) == _traffic_class(packet, version), "wrong DSCP or ECN")
    inner = 17 if udp else 4 if version == 4 else 41
    if outer == 4:
        _require(header[0] == 0x45 and header[4:8] == b"\0\0\x40\0", "wrong id or flags")
        _require(header[8:10] == bytes((64, inner)), "wrong TTL or protocol")
        _require(_sums(header), "wrong outer checksum")
        source, backend = header[12:16], header[16:20]
    else:
        _require(header[6:8] == bytes((inner, 64)), "wrong next header or hop limit")
        source, backend = header[8:24], header[24:40]
    _require(source in _SOURCES and backend in _BACKENDS, "wrong outer addresses")
    if udp:
        pseudo = source + backend + (udp + length).to_bytes(4, "big") + b"\0\0\0\x11"
        _check_gue(behind[: udp + length], pseudo, version, outer)
    return backend


def _check_gue(datagram: bytes, pseudo: bytes, version: int, outer: int) -> None:
    """A checksum over IPv6 is right when those inside are, wherever they are looked at."""
    _require(datagram[0] >= 0xC0 and datagram[2:4] == GUE_PORT, "wrong ports of UDP")
    _require(datagram[4:6] == len(datagram).to_bytes(2, "big"), "wrong length of UDP")
    if datagram[6:8] == b"\0\0":
        return
    _require(outer == 6, "UDP over IPv4 has a checksum")
    if _is_right(datagram[UDP:], version):
        _require(_sums(pseudo + datagram + bytes(len(datagram) % 2)), "wrong checksum of UDP")


def _is_right(packet: bytes, version: int) -> bool:
    """Whether the checksums of a packet without options are right."""
    header, behind = packet[: OUTER[version]], packet[OUTER[version] :]
    protocol = header[9 if version == 4 else 6]
    pseudo = header[12:20] if version == 4 else header[8:40]
    pseudo += len(behind).to_bytes(4, "big") + bytes((0, 0, 0, protocol))
    if protocol == 1:
        pseudo = b""
    return (version == 6 or _sums(header)) and _sums(pseudo + behind + bytes(len(behind) % 2))


def _check_echo(frame: bytes, link: int, version: int, out: bytes) -> None:
    """The reply differs from the request in MAC addresses, addresses, TTL, type, checksums."""
    _require(out[:12] == frame[6:12] + frame[:6], "the reply does not go back")
    _require(out[12:link] == frame[12:link], "the reply has other tags")
    asked, reply = frame[link:], out[link:]
    if version == 4:
        header = (asked[0] & 15) * 4
        same, ttl = ((0, 8), (9, 10), (20, header)), 8
        addresses = asked[16:20] + asked[12:16] == reply[12:20]
        types = (8, 0)
        _require(_sums(asked[:header]) == _sums(reply[:header]), "wrong checksum of the header")
    else:
        # Behind extension headers the message begins where the frames begin to differ.
        header = next(i for i in range(40, len(asked)) if asked[i] != reply[i])
        same, ttl = ((0, 7), (40, header)), 7
        addresses = asked[24:40] + asked[8:24] == reply[8:40]
        types = (128, 129)
    _require(addresses and reply[ttl] == 64, "wrong addresses or TTL")
    _require(all(asked[a:b] == reply[a:b] for a, b in same), "the reply's header is another one")
    _require((asked[header], reply[header]) == types, "not an echo and its reply")
    _require(asked[header + 1] == reply[header + 1], "another code")
    _require(asked[header + 4 :] == reply[header + 4 :], "the reply says something else")
    wanted = int.from_bytes(asked[header + 2 : header + 4], "big") + (types[0] - types[1] << 8)
    got = int.from_bytes(reply[header + 2 : header + 4], "big")
    _require((got - wanted) % 0xFFFF == 0, "wrong checksum")


def _check_too_big(frame: bytes, link: int, version: int, out: bytes) -> None:
    """An error that quotes the beginning of the packet."""
    _require(out[:12] == frame[6:12] + frame[:6], "the answer does not go back")
    _require(out[12:link] == frame[12:link], "the answer has other tags")
    packet, answer = frame[link:], out[link:]
    header = OUTER[version]
    _require(_length(packet, version) > MTU - 48, "the packet would have fitted")
    _require(_length(answer, version) == len(answer), "wrong length")
    _require(packet.startswith(answer[header + 8 :]), "the answer quotes something else")
    if version == 4:
        _require(answer[12:20] == packet[16:20] + packet[12:16], "wrong addresses")
        _require(answer[20:22] == b"\3\4" and len(answer) <= 576, "not fragmentation needed")
        _require(_sums(answer[:20]) and _sums(answer[20:]), "wrong checksum")
    else:
        _require(answer[8:40] == packet[24:40] + packet[8:24], "wrong addresses")
        _require(answer[40:42] == b"\2\0" and len(answer) <= 1280, "not packet too big")
        pseudo = answer[8:40] + (len(answer) - 40).to_bytes(4, "big") + b"\0\0\0\x3a"
        _require(_sums(pseudo + answer[40:]), "wrong checksum")
    mtu = int.from_bytes(answer[header + 4 : header + 8], "big")
    bare = _destination(packet, version) in _BARE
    fits = (MTU,) if bare else (MTU - 20, MTU - 40, MTU - 28, MTU - 48)
    _require(mtu in fits, "wrong MTU")
