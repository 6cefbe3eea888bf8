# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backends, a client's packets, and the ring that they meet, for tests that follow flows."""

from __future__ import annotations

from array import array
from dataclasses import replace

from scapy.layers.inet import TCP, UDP
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots

from .node import Node, from_client

A, B, C = "192.0.2.71", "192.0.2.72", "192.0.2.73"
PORTS = range(20000, 20120)


def syn(port: int, ipv6: bool = False) -> Packet:
    return from_client(TCP(sport=port, dport=80, flags="S"), ipv6=ipv6)


def ack(port: int, ipv6: bool = False) -> Packet:
    return from_client(TCP(sport=port, dport=80, flags="A"), ipv6=ipv6)


def udp(port: int, ipv6: bool = False) -> Packet:
    return from_client(UDP(sport=port, dport=80), ipv6=ipv6)


def ring(node: Node) -> Slots:
    slots = node.tables.ring(0)
    assert slots is not None
    return slots


def age(node: Node, seconds: int) -> None:
    """Lets the ring's tracking have begun that much earlier, but after the machine."""
    slots, ticks = ring(node), _rings.ticks(seconds)
    assert ticks < min(filter(None, slots.tracked)), f"this machine was not up for {seconds} s yet"
    then = array("I", (t - ticks if t else 0 for t in slots.tracked))
    node.tables.put_ring(0, replace(slots, tracked=then))
