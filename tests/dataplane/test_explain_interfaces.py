# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which interface a packet that is explained is taken to come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _links, _program
from ansible_collections.l4lb.xdp.plugins.module_utils._explain import Explainer, explain
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import parse

from .node import CLIENT4, SOURCE, VIP4, Node

A = "192.0.2.71"


def test_packet_comes_in_by_the_interface_that_runs_the_balancer(
    make_node: Callable[..., Node],
) -> None:
    node = make_node()
    node.serve(A, "192.0.2.130")
    packet = parse(CLIENT4, VIP4, "tcp", 40000, 80)
    unattached = Explainer(node.tables, SOURCE, node.pins).explain(packet)
    assert unattached["why"][0].startswith("no interface runs the balancer: ")
    for name, other in (("eth1", "eth0"), ("eth0", "eth1")):
        with attached(node, name):
            ask = Explainer(node.tables, SOURCE, node.pins)
        answer, elsewhere = ask.explain(packet), ask.explain(packet, other)
        assert answer["packet"]["interface"] == name
        assert answer["why"][0].startswith("tcp 203.0.113.10:80 is service tcp0")
        assert elsewhere["why"][0].startswith(f"{other} does not run the balancer")
        assert {answer["verdict"], elsewhere["verdict"]} == {"sent", "redirected"}


def test_one_of_several_interfaces_is_named(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.serve(A)
    packet = parse(CLIENT4, VIP4, "tcp", 40000, 80)
    with attached(node, "eth0", "eth1"):
        answer = explain(packet, None, node.pins, SOURCE)
    assert answer["why"][0] == "taken to come in by eth0, one of eth0, eth1"
    with pytest.raises(_links.NoSuchInterface):
        explain(packet, "eth7", node.pins, SOURCE)


@contextmanager
def attached(node: Node, *names: str) -> Iterator[None]:
    wanted = node.wanted(interfaces=names, mode="generic")
    _program.attach(replace(node.loaded, wanted=wanted))
    try:
        yield
    finally:
        _program.release(wanted, names)
