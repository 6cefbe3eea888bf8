# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: SYNs from addresses that nobody has, at a rate, for some seconds; how many, as JSON.

flood.py ADDRESS PORT RATE SECONDS
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import time

SOURCES = 0xC6120000, 17  # 198.18.0.0/15, for such tests (RFC 2544)
BURST = 0.01  # seconds
DIFFERENT = 4096  # packets that are made beforehand


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(address: str, port: int) -> bytes:
    """IPv4 and TCP headers; of the former the kernel fills in length, identity and checksum."""
    source = struct.pack("!I", SOURCES[0] | random.getrandbits(SOURCES[1]))
    target = socket.inet_aton(address)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 6, 0, source, target)

    def tcp(check: int) -> bytes:
        number = random.getrandbits(32)
        return struct.pack("!HHIIBBHHH", sender, port, number, 0, 0x50, 0x02, 64240, check, 0)

    sender = random.randrange(1024, 65536)
    segment = tcp(0)
    pseudo = source + target + struct.pack("!BBH", 0, 6, len(segment))
    check = struct.pack("!H", checksum(pseudo + segment))
    return header + segment[:16] + check + segment[18:]


def flood(address: str, port: int, rate: int, seconds: float) -> int:
    packets = [syn(address, port) for _number in range(DIFFERENT)]
    sent = 0
    began = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        while (now := time.monotonic() - began) < seconds:
            # What a busy machine missed is left out, or it would come as one burst.
            for _packet in range(int(rate * BURST)):
                raw.sendto(packets[sent % DIFFERENT], (address, 0))
                sent += 1
            time.sleep(max(0.0, BURST - (time.monotonic() - began - now)))
    return sent


def main() -> None:
    address, port, rate, seconds = sys.argv[1:]
    print(json.dumps({"sent": flood(address, int(port), int(rate), float(seconds))}), flush=True)


if __name__ == "__main__":
    main()
