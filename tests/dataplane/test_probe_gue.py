# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes of backends that get their packets in UDP go there in UDP, too."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils import _probe

from .node import NODE4, NODE6
from .probing import BACKENDS, Fleet, sniffed
from .test_probe import PATIENCE, SERVICES, ask, converse, probing, sent_again, single_segments

PORT = 6080


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet.made(tmp_path_factory.mktemp("fleet")) as fleet:
        fleet.serve(*BACKENDS, forwarding="gue")
        yield fleet


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("service", SERVICES)
def test_probe_is_answered_by_its_backend(
    fleet: Fleet, service: str, backend: str, kind: socket.SocketKind
) -> None:
    assert ask(fleet, service, backend, kind) == BACKENDS[backend]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("service", SERVICES)
def test_segments_that_devices_cut_arrive(fleet: Fleet, service: str, backend: str) -> None:
    with probing(fleet, service, fleet.mark(backend), socket.SOCK_STREAM, PATIENCE) as probe:
        assert converse(probe, bytes(5000)) == BACKENDS[backend]
        assert sent_again(probe) <= 1


def captured(
    fleet: Fleet, service: str, backend: str, kind: socket.SocketKind, size: int
) -> list[Packet]:
    """The GUE that the router gets of a probe with so many bytes."""
    mark = fleet.mark(backend)
    with (
        single_segments(fleet),
        sniffed(fleet) as frames,
        probing(fleet, service, mark, kind, PATIENCE) as probe,
    ):
        port = probe.getsockname()[1]
        assert converse(probe, bytes(size)) == BACKENDS[backend]
    wrapped = [f for f in frames if f.payload.payload.haslayer(UDP) and f[UDP].dport == PORT]
    return [frame for frame in wrapped if inner(frame, service).sport == port]


def inner(frame: Packet, service: str) -> Packet:
    """The client's packet."""
    return (IPv6 if ":" in service else IP)(bytes(frame[UDP].payload))


@pytest.mark.parametrize("backend", ["192.0.2.71", "2001:db8:2::71"])
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("kind", "size", "count"), [(socket.SOCK_STREAM, 5000, 6), (socket.SOCK_DGRAM, 101, 1)]
)
def test_header_is_the_balancers_and_every_checksum_right(
    fleet: Fleet, service: str, backend: str, kind: socket.SocketKind, size: int, count: int
) -> None:
    frames = captured(fleet, service, backend, kind, size)
    assert len(frames) >= count
    six = ":" in backend
    for frame in frames:
        outer, udp = frame.payload, frame.payload.payload
        assert (outer.src, outer.dst) == (NODE6 if six else NODE4, backend)
        assert udp.sport >= 49152
        assert bool(udp.chksum) == six
        client = inner(frame, service)
        again = outer.copy()
        del again[UDP].len
        if six:
            del again[UDP].chksum, again.plen
        else:
            del again.chksum, again.len
        assert bytes(again) == bytes(outer), "outer lengths and checksums"
        whole = client.copy()
        for layer in (whole, whole.payload):
            for computed in {"chksum", "len", "plen"} & set(layer.fields):
                delattr(layer, computed)
        assert bytes(whole) == bytes(client), "inner lengths and checksums"
        assert len(outer) <= _probe.MTU + 48
