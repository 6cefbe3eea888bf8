# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of itself, against its real maps and program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _info, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._info import PARTS, info
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import schema
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import now_tick

from .flows import A, B, C, ack, syn
from .node import SIZES, SOURCE, Node
from .test_flows import drawn, write


@pytest.fixture
def pinned(node: Node) -> Iterator[Node]:
    """The node, with its program pinned as if it were attached."""
    pin(node)
    yield node
    (node.pins / "balancer").unlink()


def pin(node: Node) -> None:
    _bpf.replace_pin(node.loaded.fd, node.pins / "balancer")


def test_all_parts_are_told(pinned: Node) -> None:
    pinned.serve(A, B)
    told = info(pinned.pins, SOURCE)
    assert tuple(told) == PARTS
    assert told["settings"]["hash_seed"] == pinned.hash_seed
    assert told["settings"]["sizes"] == vars(SIZES)
    assert told["settings"]["schema_version"] == schema(SOURCE).version
    program = told["program"]
    assert program["tag"] == pinned.loaded.info.tag
    age = datetime.now(timezone.utc) - datetime.fromisoformat(program["since"])
    assert timedelta() <= age < timedelta(minutes=1)


@pytest.mark.parametrize("part", PARTS)
def test_one_part_is_the_same_as_in_the_whole(pinned: Node, part: str) -> None:
    pinned.serve(A, B)
    assert info(pinned.pins, SOURCE, [part]) == {part: info(pinned.pins, SOURCE)[part]}


def test_flow_tables_tell_entries_and_room(node: Node) -> None:
    write(node, [*drawn(30, ipv6=False), *drawn(7, ipv6=True)])
    assert info(node.pins, SOURCE, ["flow_tables"])["flow_tables"] == {
        "ipv4": {"entries": 30, "size": SIZES.flows},
        "ipv6": {"entries": 7, "size": SIZES.flows},
    }


def test_memory_grows_by_a_ring_with_each_pool(node: Node) -> None:
    service = {"address": "203.0.113.10", "protocol": "tcp"}
    pools = {name: {"backends": [{"address": A}]} for name in ("a", "b", "c")}
    services = [
        {**service, "name": name, "port": port, "pool": name} for port, name in enumerate(pools, 80)
    ]
    totals, rings = [], []
    for number in range(4):
        node.apply(dict(list(pools.items())[:number]), services[:number])
        memory = info(node.pins, SOURCE, ["memory"])["memory"]
        totals.append(memory["bytes"])
        rings.append(memory["maps"]["rings"])
        assert memory["bytes"] == sum(memory["maps"].values())
    steps = {after - before for before, after in zip(rings, rings[1:])}
    assert steps == {after - before for before, after in zip(totals, totals[1:])}
    (step,) = steps
    assert step >= SIZES.ring * _rings.SLOT_BYTES


def test_memory_of_the_flow_tables_holds_their_records(node: Node) -> None:
    maps = info(node.pins, SOURCE, ["memory"])["memory"]["maps"]
    assert maps["flows4"] >= SIZES.flows * (16 + 8)
    assert maps["flows6"] >= SIZES.flows * (40 + 8)


def test_pools_tell_what_they_remember(node: Node) -> None:
    node.serve(A, B)
    node.serve(A, {"address": B, "state": "draining"}, C, settle=60)
    web = info(node.pins, SOURCE, ["pools"])["pools"]["web"]
    assert web["backends"] == {"active": 2, "draining": 1, "disabled": 0}
    assert 0 < web["tracked_slots"] == web["remembering_slots"] < SIZES.ring
    node.serve(A, {"address": B, "state": "disabled"}, C, settle=60)
    after = info(node.pins, SOURCE, ["pools"])["pools"]["web"]
    assert after["backends"] == {"active": 2, "draining": 0, "disabled": 1}
    assert after["tracked_slots"] >= web["tracked_slots"]
    assert after["remembering_slots"] < web["remembering_slots"]


def test_nodes_with_different_histories_agree(pinned: Node, make_node: Callable[..., Node]) -> None:
    """Each compiled its program for itself."""
    other = make_node()
    pin(other)
    for address in (C, B, A):
        other.serve(address)
    other.serve(B, A)
    pinned.serve(A, B)
    prints = [info(each.pins, SOURCE, ["fingerprint"]) for each in (pinned, other)]
    assert prints[0] == prints[1]
    other.serve(B, {"address": A, "state": "draining"})
    assert info(other.pins, SOURCE, ["fingerprint"]) != prints[0]


def test_flows_and_traffic_do_not_change_the_fingerprint(node: Node) -> None:
    node.serve(A)
    node.serve(A, B, tracking="always")
    before = info(node.pins, SOURCE, ["fingerprint"])
    for port in range(20000, 20020):
        node.backend_of(syn(port))
        node.backend_of(ack(port))
    write(node, [(*drawn(1, ipv6=False)[0][:5], 1, now_tick())])
    assert info(node.pins, SOURCE, ["fingerprint"]) == before


def test_steering_is_the_same_whatever_the_program(node: Node) -> None:
    node.serve("192.0.2.71")
    told = _info.Node(node.pins, SOURCE, node.tables)
    before = _info.tell(told, ["steering", "fingerprint"])
    other = _info.Node(node.pins, SOURCE, node.tables)
    other.program = {**told.program, "tag": "another"}
    after = _info.tell(other, ["steering", "fingerprint"])

    assert after["steering"] == before["steering"]
    assert after["fingerprint"] != before["fingerprint"]
