# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ethtool's ioctl: queues, rings, hashing of received packets, offloads of an interface.

Private to the collection. Source: include/uapi/linux/ethtool.h. pyroute2 of Debian 12 has offloads,
and not the rest, which is here. All of it raises OSError with the kernel's reason.
"""

from __future__ import annotations

import ctypes as ct
import errno
import fcntl
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

try:
    from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool
except ImportError:  # _links.require_libraries says so
    EthtoolError = OSError
    IoctlEthtool = None

SIOCETHTOOL = 0x8946
GRINGPARAM, SRINGPARAM = 0x10, 0x11
GRXFH, SRXFH = 0x29, 0x2A
GCHANNELS, SCHANNELS = 0x3C, 0x3D
GRSSH, SRSSH = 0x46, 0x47

NAME_LENGTH = 16
INDIRECTION_NO_CHANGE = 0xFFFFFFFF
FLOW_TYPES = {"tcp4": 1, "udp4": 2, "sctp4": 3, "tcp6": 5, "udp6": 6, "sctp6": 7}

_WORDS = struct.Struct("=9I")  # ethtool_channels and ethtool_ringparam have as many
_RSS = struct.Struct("=4IB3sI")  # command, context, indirection, key, function, transform, rest


def call(interface: str, question: bytes, length: int = 0) -> bytes:
    """What the driver made of the question, which is filled up to `length` bytes."""
    buffer = ct.create_string_buffer(question, max(length, len(question)))
    name = interface.encode()
    if len(name) >= NAME_LENGTH:
        raise OSError(errno.ENODEV, "no interface has so long a name")
    request = struct.pack(f"{NAME_LENGTH}sP16x", name, ct.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        fcntl.ioctl(asker, SIOCETHTOOL, request)
    return buffer.raw


@dataclass(frozen=True)
class Queues:
    """Of an interface: for receiving, for sending, and for both."""

    rx: int
    tx: int
    combined: int

    @property
    def receiving(self) -> int:
        return self.rx + self.combined


def queues(interface: str) -> tuple[Queues, Queues]:
    """Those in use, and how many could be."""
    _cmd, rx_most, tx_most, _other_most, most, rx, tx, _other, combined = _words(
        interface, GCHANNELS
    )
    return Queues(rx, tx, combined), Queues(rx_most, tx_most, most)


def set_queues(interface: str, wanted: Queues) -> None:
    """Most drivers take the link down for that, for a moment or for seconds."""
    words = list(_words(interface, GCHANNELS))
    words[0], words[5], words[6], words[8] = SCHANNELS, wanted.rx, wanted.tx, wanted.combined
    call(interface, _WORDS.pack(*words))


@dataclass(frozen=True)
class Rings:
    """Packets that a queue holds."""

    rx: int
    tx: int


def rings(interface: str) -> tuple[Rings, Rings]:
    """Those there are, and the largest there could be."""
    _cmd, rx_most, _mini_most, _jumbo_most, tx_most, rx, _mini, _jumbo, tx = _words(
        interface, GRINGPARAM
    )
    return Rings(rx, tx), Rings(rx_most, tx_most)


def set_ring(interface: str, which: str, size: int) -> None:
    """which: rx or tx. Most drivers take the link down for that."""
    words = list(_words(interface, GRINGPARAM))
    wanted = replace(Rings(words[5], words[8]), **{which: size})
    words[0], words[5], words[8] = SRINGPARAM, wanted.rx, wanted.tx
    call(interface, _WORDS.pack(*words))


def _words(interface: str, command: int) -> tuple[int, ...]:
    return _WORDS.unpack(call(interface, struct.pack("=I", command), _WORDS.size))


def hash_key(interface: str) -> bytes:
    """What received packets are hashed with; empty where the driver tells none."""
    sizes = _RSS.unpack(call(interface, _RSS.pack(GRSSH, 0, 0, 0, 0, b"", 0)))
    _cmd, _context, indirection, length, *_rest = sizes
    question = _RSS.pack(GRSSH, 0, indirection, length, 0, b"", 0)
    start = _RSS.size + 4 * indirection
    return call(interface, question, start + length)[start : start + length]


def set_hash_key(interface: str, key: bytes) -> None:
    """Only the key: table, function and transformation of the hash stay."""
    now = _RSS.unpack(call(interface, _RSS.pack(GRSSH, 0, 0, 0, 0, b"", 0)))
    transform = now[5][:1]
    head = _RSS.pack(SRSSH, 0, INDIRECTION_NO_CHANGE, len(key), 0, transform, 0)
    call(interface, head + key)


def hash_fields(interface: str, flow: str) -> int:
    """What packets of a kind (FLOW_TYPES) are spread over the queues by: RXH_* bits."""
    answer = call(interface, struct.pack("=II", GRXFH, FLOW_TYPES[flow]), 256)
    return int(struct.unpack("=Q", answer[8:16])[0])


def set_hash_fields(interface: str, flow: str, bits: int) -> None:
    call(interface, struct.pack("=IIQ", SRXFH, FLOW_TYPES[flow], bits), 256)


def offloads(interface: str) -> dict[str, bool]:
    """Those that the kernel knows, by the kernel's name (`rx-lro`), and whether they are on."""
    ethtool = IoctlEthtool(interface)
    try:
        return {name: bool(enabled) for name, enabled, *_rest in ethtool.get_features()}
    except EthtoolError as error:
        raise OSError(errno.EOPNOTSUPP, str(error)) from error
    finally:
        ethtool.sock.close()


def set_offloads(interface: str, wanted: Mapping[str, bool]) -> None:
    """The others stay. Raises OSError when the driver left any of them as it was."""
    why = "the driver keeps it"
    ethtool = IoctlEthtool(interface)
    try:
        features = ethtool.get_features()
        for name, enabled in wanted.items():
            features[name] = enabled
        ethtool.set_features(features)
    except EthtoolError as error:
        # Also of what was done: the kernel's answer has bits that say how, an error to pyroute2.
        why = str(error) or why
    finally:
        ethtool.sock.close()
    now = offloads(interface)
    if any(now.get(name) != enabled for name, enabled in wanted.items()):
        raise OSError(errno.EINVAL, why)
