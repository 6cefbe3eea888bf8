# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""On another kernel: a real server with the role's rules (RULES), where tunnels end both ways.

Prints a line of JSON for who may send in which form, and for a node's datagrams that are lost while
the way becomes the other one, step by step as the role does it.
"""

from __future__ import annotations

import os
import platform
import re
import select
import subprocess
import time
from collections.abc import Callable
from itertools import cycle
from multiprocessing import Process
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils._apply import attach_program, detach_program
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted
from tests.uml import real_server
from tests.uml.real_server import IN_IP, IN_UDP, NODE, PORT, REAL4, REAL6, frame, unit
from tests.uml.telling import tell

FORMS = (*IN_IP, *IN_UDP)
OTHER = ("192.0.2.12", "2001:db8:1::12")
PINS, STATE = Path("/run/bpf"), Path("/run/state")
SOURCE = Path("bpf").resolve()
PAUSE, QUIET, REST = 0.005, 3, 5
"""Seconds: until the next datagram, if the last one has not come; without any, at the end; and of
a stream that nobody disturbs.
"""


def wanted(mode: str) -> Wanted:
    """As the role asks for it; sources are those that RULES lets in."""
    return Wanted(
        "decap",
        ("eth0",),
        mode,
        source=SOURCE,
        pins=PINS,
        addresses=(REAL4, REAL6),
        sources=(f"{NODE[0]}/32", f"{NODE[1]}/128"),
        gue_port=PORT,
    )


def tell_who_comes_in(way: str) -> None:
    before = refused()
    for form in FORMS:
        node, other = (received(form, sender) for sender in (NODE, OTHER))
        tell(way=way, form=form, node=node, other=other)
    tell(way=way, refused=refused() - before)


def received(form: str, sender: tuple[str, str]) -> bool:
    """Whether the service gets what is sent in that form; a node's own comes after it."""
    with real_server.service(form) as there, real_server.wire() as wire:
        wire.send(frame(form, "asked", sender))
        wire.send(frame(form, "after"))
        return there.recv(100) == b"asked"


def refused() -> int:
    """Packets that the rules dropped."""
    command = ["nft", "list", "table", "inet", "l4lb"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(map(int, re.findall(r"counter packets (\d+)", listing)))


def tell_lost(*steps: tuple[str, Callable[[], object]]) -> None:
    """Of numbered datagrams of a node, in all forms in turn, while each step is taken."""
    wire = real_server.wire()
    services = [real_server.service(form) for form in IN_IP[:2]]
    forms = cycle(FORMS)
    sent: list[str] = []
    came: set[int] = set()

    def take(seconds: float) -> bool:
        ready = select.select(services, [], [], seconds)[0]
        came.update(int(service.recv(100)) for service in ready)
        return bool(ready)

    for name, step in steps:
        process = Process(target=step)
        process.start()
        while process.is_alive():
            wire.send(frame(next(forms), str(len(sent))))
            sent.append(name)
            take(PAUSE)
        assert process.exitcode == 0, name
    while take(QUIET):
        pass
    for each in (wire, *services):
        each.close()
    for name, _step in steps:
        numbers = [number for number, during in enumerate(sent) if during == name]
        tell(step=name, sent=len(numbers), lost=[each for each in numbers if each not in came])


def tell_change(mode: str) -> None:
    """From the kernel's tunnels to the program in that mode, and back."""
    program = wanted(mode)
    tell_lost(
        (f"{mode}: attach", lambda: attach_program(program, STATE)),
        (f"{mode}: tunnels down", lambda: unit("down")),
    )
    tell_who_comes_in(f"BPF, {mode}")
    tell_lost(
        (f"{mode}: tunnels up", lambda: unit("up", str(PORT))),
        (f"{mode}: detach", lambda: detach_program(program, STATE)),
    )


def main() -> None:
    tell(kernel=platform.release())
    real_server.set_up()
    PINS.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(PINS)], check=True)
    subprocess.run(["nft", "--file", os.environ["RULES"]], check=True)
    unit("up", str(PORT))
    tell_who_comes_in("kernel")
    tell_lost(("at rest", lambda: time.sleep(REST)))
    for mode in ("generic", "native"):
        tell_change(mode)
    tell_who_comes_in("kernel again")
    tell(done=True)


if __name__ == "__main__":
    main()
