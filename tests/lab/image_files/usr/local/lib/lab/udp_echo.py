# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server of the lab, over UDP: answers each datagram with its name and what it was sent."""

from __future__ import annotations

import socket

PORT = 9000
NAME = socket.gethostname().encode()


def serve() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        server.bind(("::", PORT))
        while True:
            data, controls, _flags, client = server.recvmsg(2048, socket.CMSG_SPACE(20))
            # From the address that was asked, by whatever interface leads to the client.
            source = [
                (level, kind, value[:16] + bytes(4))
                for level, kind, value in controls
                if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
            ]
            server.sendmsg([NAME + b" " + data], source, 0, client)


if __name__ == "__main__":
    serve()
