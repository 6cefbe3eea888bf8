# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets as a node sends them to a real server, and what the client hears of them."""

from __future__ import annotations

import socket

import network
from topology import HOSTS, ROUTER

from tests.uml import packets

CLIENT = HOSTS["client"]
SERVICE4, SERVICE6, PORT = "203.0.113.30", "2001:db8:100::10", 9000
"""Where the lab's real servers answer datagrams with their name and what they were sent."""

FORMS = ("4in4", "6in4", "4in6", "6in6")
"""The client's packet in the node's."""


def answer(form: str, real: str, sender: str = "node1") -> bytes:
    """Puts one packet on the way to the real server of this name, as that host would; the answer,
    or nothing.
    """
    inner, outer = form.split("in")
    service, own = (SERVICE4, CLIENT.address4) if inner == "4" else (SERVICE6, CLIENT.address6)
    ends = [HOSTS[name] for name in (sender, real)]
    outside, target = (end.address4 if outer == "4" else end.address6 for end in ends)
    protocol = {"4": socket.IPPROTO_IPIP, "6": socket.IPPROTO_IPV6}[inner]
    request = packets.request(own, service, b"hello!", PORT)
    packet = packets.ip(outside, target, protocol, request)
    with network.inside(CLIENT.namespace):
        client = socket.socket(_family(service), socket.SOCK_DGRAM)
    with network.inside(ROUTER):
        wire = socket.socket(_family(target), socket.SOCK_RAW, socket.IPPROTO_RAW)
    with client, wire:
        client.bind((own, packets.CLIENT_PORT))
        client.settimeout(2)
        wire.sendto(packet, (target, 0))
        try:
            data, source = client.recvfrom(100)
        except socket.timeout:
            return b""
        assert source[:2] == (service, PORT)
        return data


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
