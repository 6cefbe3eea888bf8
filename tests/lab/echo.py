# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: an echo request to each address, and which of them answered, as JSON.

  echo.py ADDRESS...

Raw sockets of our own: a host need not have ping.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

SECONDS = 3
IDENTIFIER = 0x1414
PAYLOAD = b"l4lb"
REQUEST4, REPLY4, REQUEST6, REPLY6 = 8, 0, 128, 129


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def answers(address: str, number: int) -> bool:
    """Whether the reply comes in time, and is right in every byte."""
    six = ":" in address
    family = socket.AF_INET6 if six else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    request = struct.pack("!BBHHH", REQUEST6 if six else REQUEST4, 0, 0, IDENTIFIER, number)
    request += PAYLOAD
    if not six:  # of IPv6 the kernel fills it in, and looks at the reply's
        request = request[:2] + struct.pack("!H", checksum(request)) + request[4:]
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.sendto(request, (address, 0))
        deadline = time.monotonic() + SECONDS
        while (left := deadline - time.monotonic()) > 0:
            raw.settimeout(left)
            try:
                packet, (source, *_rest) = raw.recvfrom(2048)
            except TimeoutError:
                return False
            reply = packet if six else packet[(packet[0] & 0xF) * 4 :]
            mine = source == address and reply[4:] == request[4:]
            if mine and reply[0] == (REPLY6 if six else REPLY4):
                return six or checksum(reply) == 0
    return False


def main() -> int:
    silent = [address for i, address in enumerate(sys.argv[1:], 1) if not answers(address, i)]
    print(json.dumps({"asked": len(sys.argv) - 1, "silent": silent}), flush=True)
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
