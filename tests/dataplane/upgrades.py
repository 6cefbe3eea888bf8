# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node with services that runs its program on two interfaces, and releases to upgrade to."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import IP, TCP

from ansible_collections.l4lb.xdp.plugins.module_utils import _apply, _bpf, _links, _program
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade import Places, Request
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted
from tests import releases
from tests.releases import Change

from .node import NODE4, NODE6, SIZES, SOURCE, VIP4, VIP6, frame, interface


@dataclass
class Upgraded:
    """The node; `work` is for other releases' sources."""

    wanted: Wanted
    state_dir: Path
    work: Path
    tables: Tables

    @property
    def pins(self) -> Path:
        return self.wanted.pins

    @property
    def places(self) -> Places:
        return Places(self.pins, self.state_dir, self.wanted.source, self.work / "python")

    def request(self, change: Change) -> Request:
        """An upgrade to a release that differs so, with little patience."""
        return Request(other_release(self.work, change), baseline=0, watch=0, services=8, flows=4)

    def tags(self) -> set[str | None]:
        """What the interfaces run."""
        ids = (_links.xdp(name).program_id for name in self.wanted.interfaces)
        return {_tag(_bpf.open_program(number)) if number else None for number in ids}

    def tag(self) -> str:
        (tag,) = self.tags()
        assert tag
        return tag

    def fd(self) -> int:
        found = _bpf.open_pin(self.pins / "balancer")
        assert found
        return found


def _tag(fd: int) -> str:
    with _bpf.closing(fd):
        return _bpf.program_info(fd).tag


def pinned_tag(pin: Path) -> str | None:
    fd = _bpf.open_pin(pin)
    return None if fd is None else _tag(fd)


def other_release(work: Path, change: Change) -> Path:
    """A copy of the sources with that change."""
    target = work / f"release-{abs(hash(change))}"
    if not target.exists():
        shutil.copytree(SOURCE, target)
        releases.make(target, change)
    return target


def running(pins: Path, directory: Path) -> Iterator[Upgraded]:
    """As the playbook site leaves a node; afterwards the interfaces are free again."""
    wanted = Wanted(
        "balancer",
        ("eth0", "eth1"),
        source=SOURCE,
        pins=pins,
        sizes=SIZES,
        source_ipv4=NODE4,
        source_ipv6=NODE6,
        hash_seed=7220431,
    )
    try:
        _apply.attach_program(wanted, directory / "state")
        node = Upgraded(wanted, directory / "state", directory, Tables(pins, SOURCE))
        serve(node, "192.0.2.71", "192.0.2.72")
        yield node
    finally:
        _program.release(wanted, wanted.interfaces)


def serve(node: Upgraded, *backends: str) -> None:
    """Services of both families and protocols over one pool."""
    services = [
        {"name": f"{protocol}{i}", "address": address, "port": 80, "protocol": protocol}
        for protocol in ("tcp", "udp")
        for i, address in enumerate((VIP4, VIP6))
    ]
    _apply.apply_services(
        {"web": {"backends": [{"address": address} for address in backends]}},
        [{**service, "pool": "web"} for service in services],
        True,
        node.pins,
        SOURCE,
        node.state_dir,
    )


@contextmanager
def traffic() -> Iterator[None]:
    """Connections of many clients, through whatever program eth0 runs, until the block ends."""
    over = threading.Event()
    segments = [
        bytes(frame(IP(src="198.51.100.2", dst=VIP4) / TCP(sport=port, dport=80, flags="A")))
        for port in range(1024, 1024 + 256)
    ]

    def send() -> None:
        while not over.is_set():
            number = _links.xdp("eth0").program_id
            with _bpf.closing(_bpf.open_program(number)) as fd:
                for segment in segments:
                    _bpf.run_xdp(fd, segment, interface("eth0"))
            over.wait(0.05)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


@contextmanager
def wire_traffic(pause: float = 0.0005) -> Iterator[list[int]]:
    """Segments that come in by the wire until the block ends; then the list says how many."""
    over = threading.Event()
    count: list[int] = []
    client = IP(src="198.51.100.2", dst=VIP4)
    segment = bytes(frame(client / TCP(sport=40000, dport=80, flags="A")))

    def send() -> None:
        sent = 0
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("router", 0))
            while not over.is_set():
                sent += int(wire.send(segment) > 0)
                over.wait(pause)
        count.append(sent)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield count
    finally:
        over.set()
        sender.join()
