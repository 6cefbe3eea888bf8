# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks drivers, by ethtool's ioctl; None where a driver does not answer. Changes nothing.

Private to the collection. Source: include/uapi/linux/ethtool.h. What pyroute2 has is not here.
"""

from __future__ import annotations

import ctypes as ct
import fcntl
import socket
import struct

from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_links import Channels

SIOCETHTOOL = 0x8946
ETHTOOL_GDRVINFO = 0x03
ETHTOOL_GRXFH = 0x29
ETHTOOL_GCHANNELS = 0x3C

FLOW_TYPES = {"tcp4": 1, "udp4": 2, "sctp4": 3, "tcp6": 5, "udp6": 6, "sctp6": 7}
NAME_LENGTH = 16


def driver(interface: str) -> str | None:
    """The driver's name."""
    answer = _ask(interface, struct.pack("I", ETHTOOL_GDRVINFO), 196)
    return answer[4:36].rstrip(b"\0").decode(errors="replace") if answer else None


def channels(interface: str) -> Channels | None:
    """Receive queues: those of their own, and those combined with one for sending."""
    answer = _ask(interface, struct.pack("I", ETHTOOL_GCHANNELS), 36)
    if answer is None:
        return None
    most_rx, _tx, _other, most_combined, rx, _tx, _other, combined = struct.unpack(
        "8I", answer[4:36]
    )
    return Channels(rx + combined, most_rx + most_combined)


def hash_fields(interface: str) -> dict[str, int | None]:
    """What packets are spread over the queues by: RXH_* bits, by kind of flow."""
    return {flow: _hash_fields(interface, number) for flow, number in FLOW_TYPES.items()}


def _hash_fields(interface: str, flow_type: int) -> int | None:
    answer = _ask(interface, struct.pack("II", ETHTOOL_GRXFH, flow_type), 256)
    return int(struct.unpack("Q", answer[8:16])[0]) if answer else None


def _ask(interface: str, question: bytes, length: int) -> bytes | None:
    buffer = ct.create_string_buffer(question, length)
    name = interface.encode()
    if len(name) >= NAME_LENGTH:
        return None
    request = struct.pack(f"{NAME_LENGTH}sP16x", name, ct.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            fcntl.ioctl(asker, SIOCETHTOOL, request)
        except OSError:
            return None
    return buffer.raw
