# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""l4lb explain: where a packet would go by the live maps and routes, and why. Sends none."""

from __future__ import annotations

import argparse

from ansible_collections.l4lb.xdp.plugins.module_utils._packet import PacketError, parse
from l4lb_agent.cli import here
from l4lb_agent.cli.main import WELL, WRONG
from l4lb_agent.cli.output import BAD, DOUBTFUL, GOOD, console, dump, text

FORWARDED = ("sent", "redirected", "to_kernel", "answered_echo")


def run(given: argparse.Namespace) -> int:
    """1 when the packet would be dropped, or is no service's."""
    source, source_port = _place("SOURCE", given.client)
    destination, destination_port = _place("DESTINATION", given.server)
    ends = source_port, destination_port
    packet = parse(source, destination, given.protocol, *ends, given.opens, given.connection_id)
    here.require_root(given)
    from ansible_collections.l4lb.xdp.plugins.module_utils._explain import explain

    answer = explain(packet, given.interface, given.pins, given.source)
    if given.json:
        dump(answer)
    else:
        out = console()
        for number, line in enumerate(answer["why"], 1):
            out.print(text(f"{number:2}. {line}"), soft_wrap=True)
        verdict = answer["verdict"]
        good = verdict in FORWARDED
        style = GOOD if good else DOUBTFUL if verdict.startswith("pass") else BAD
        backend = f" to {answer['backend']['address']}" if good and answer["backend"] else ""
        out.print(text("=>", "bold"), text(f"{verdict}{backend}", style))
    return WELL if answer["verdict"] in FORWARDED else WRONG


def _place(name: str, given: str) -> tuple[str, int | None]:
    """Address and port: 192.0.2.1:80, [2001:db8::1]:80, or an address alone."""
    if given.startswith("["):
        address, _bracket, rest = given[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
        if rest and not port:
            raise PacketError(f"{name} {given!r} is not [address]:port")
    elif given.count(":") == 1:
        address, _colon, port = given.partition(":")
    else:
        address, port = given, ""
    if port and not port.isdecimal():
        raise PacketError(f"{name} {given!r}: {port!r} is not a port")
    return address, int(port) if port else None
