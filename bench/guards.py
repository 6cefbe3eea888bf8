# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-guards`: what guards and QUIC cost where inventory asks for them.

A node for each, all on the same packet's way; rounds as in packet.py.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from bench import machine, page
from bench.cases import CLIENT4, VIP4, Case
from bench.fleet import BACKENDS
from bench.meter import EMPTY, PUSH, XDP_DROP, XDP_TX, Meter, Program, quiet_kernel
from bench.packet import REPEAT, ROUNDS, WARM, alone, asked_rounds
from bench.results import Figure, overhead
from tests.dataplane.conftest import bpffs
from tests.dataplane.node import Node, interface

FLOWS, PORT = 1 << 10, 8000
PREFIXES = 100_000
CLIENTS = "100.64.0.0/10"  # of the harness
RESULTS = Path(__file__).parent / "results" / "guards.json"


def elsewhere() -> Iterator[str]:
    """Networks of 256 addresses all over IPv4, none of them the clients'."""
    chosen = random.Random(5)
    seen = set()
    while len(seen) < PREFIXES:
        first = chosen.randrange(1 << 24, 224 << 24) & ~0xFF
        if first not in seen and ip_address(first) not in ip_network(CLIENTS):
            seen.add(first)
            yield f"{ip_address(first)}/24"


LIST = list(elsewhere())
HERE = [*LIST, CLIENTS]
# A short header, and in the id the configuration 0, the server's number, a nonce.
MOVED = UDP() / Raw(b"\x40\x00" + (7).to_bytes(4, "big") + bytes(32))


@dataclass(frozen=True)
class Setup:
    """A node that asks for something, and what becomes of a client's packet there."""

    name: str
    transport: Packet = field(default_factory=lambda: TCP(flags="A"))
    verdict: str = "sent"
    deny: tuple[str, ...] = ()
    service: dict[str, Any] = field(default_factory=dict)
    quic: bool = False

    @property
    def case(self) -> Case:
        return Case(self.name, IP(src=CLIENT4, dst=VIP4) / self.transport, FLOWS, self.verdict)

    def prepare(self, node: Node) -> None:
        backends = [{"address": a, "server_id": i} for i, a in enumerate(BACKENDS)]
        pools = {"web": {"backends": backends}}
        if self.quic:
            pools["web"]["quic"] = {"server_id_length": 4}
        protocol = "udp" if isinstance(self.transport, UDP) else "tcp"
        service = {"name": "web", "address": VIP4, "port": PORT, "protocol": protocol}
        node.apply(pools, [{**service, "pool": "web", **self.service}], self.deny)


SETUPS = (
    Setup("nothing asked for"),
    Setup("`l4lb_deny` of 100,000 prefixes, source in none", deny=tuple(LIST)),
    Setup("the same, source denied", verdict="drop_denied", deny=tuple(HERE)),
    Setup("`allow` of 100,000 prefixes, client in one", service={"allow": HERE}),
    Setup("the same, client in none", verdict="drop_not_allowed", service={"allow": LIST}),
    Setup("SYN, nothing asked for", TCP(flags="S")),
    Setup("SYN, `new_flows`", TCP(flags="S"), service={"new_flows": 10_000_000}),
    Setup("UDP, nothing asked for", MOVED),
    Setup("UDP, `quic`, by connection id", MOVED, quic=True),
)


class Guarded:
    """A setup's node, and the harness in front of its program."""

    def __init__(self, setup: Setup, node: Node) -> None:
        setup.prepare(node)
        self.frame = setup.case.frame(PORT)
        self.meter = Meter(node.loaded.fd, interface("eth0"))
        action = XDP_TX if setup.verdict == "sent" else XDP_DROP
        self.program = Program("balancer", action, setup.verdict, node.tables.verdicts)

    def run(self, program: Program) -> tuple[float, bytes]:
        self.meter.run(program, self.frame, FLOWS, WARM)
        return self.meter.run(program, self.frame, FLOWS, REPEAT)

    def round(self) -> tuple[float, dict[str, float], bool]:
        """Nanoseconds a run: gross, of the programs that do nothing; and whether it pushes."""
        overheads = {program.name: self.run(program)[0] for program in (EMPTY, PUSH)}
        took, out = self.run(self.program)
        return took, overheads, len(out) > len(self.frame)


def measure(guarded: list[Guarded], rounds: int) -> list[Figure]:
    """Nanoseconds a packet, in the order given."""
    found: dict[int, list[tuple[float, dict[str, float], bool]]] = {}
    for number in range(rounds):
        order = list(range(len(guarded)))
        random.Random(number).shuffle(order)
        for i in order:
            found.setdefault(i, []).append(guarded[i].round())
        print(f"round {number + 1} of {rounds}", flush=True)
    figures = []
    for i in range(len(guarded)):
        grosses, overheads, pushes = zip(*found[i])
        base = overhead(overheads, pushes[0])
        figures.append(Figure.of([gross - base for gross in grosses]))
    return figures


def main() -> None:
    rounds = asked_rounds(__doc__)
    alone()
    about = machine.circumstances()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        guarded = []
        for i, setup in enumerate(SETUPS):
            pins = stack.enter_context(bpffs(directory / f"bpf{i}"))
            guarded.append(Guarded(setup, Node(pins, directory / f"state{i}", sizes=Sizes())))
        stack.enter_context(quiet_kernel())
        figures = measure(guarded, rounds or ROUNDS)
    lines = [f"| {setup.name} | {figure} |" for setup, figure in zip(SETUPS, figures)]
    table = "\n".join(["| ns a packet | |", "| --- | ---: |", *lines])
    print(table)
    if rounds:
        return
    text = (
        f"{about['machine']}, Linux {about['kernel']}, load {about['load']:.1f} before; "
        f"{FLOWS:,} flows, settled; median of {ROUNDS} rounds of {REPEAT:,} packets ± the farther "
        "quartile."
    )
    page.write("guards", f"{text}\n\n{table}")
    named = {setup.name: vars(figure) for setup, figure in zip(SETUPS, figures)}
    RESULTS.write_text(json.dumps({**about, "figures": named}, indent=1) + "\n")


if __name__ == "__main__":
    main()
