# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools with `quic`: what is read, refused and planned, and what a killed run leaves."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _advice, _lines, _packet, _plan
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError, Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._quic import Quic, read_id
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import (
    FakeKernel,
    Killed,
)

A, B, C = "192.0.2.71", "192.0.2.72", "192.0.2.73"


def fleet(*backends: tuple[str, Any], quic: Any = None, **pool: Any) -> Fleet:
    entries = [
        {"address": address, **({} if number is None else {"server_id": number})}
        for address, number in backends
    ]
    pools = {"web": {"backends": entries, "quic": quic or {"server_id_length": 2}, **pool}}
    service = {"name": "h3", "address": "203.0.113.10", "port": 443, "protocol": "udp"}
    return parse(pools, [{**service, "pool": "web"}])


def mistakes(*backends: tuple[str, Any], **pool: Any) -> list[str]:
    with pytest.raises(ConfigError) as seen:
        fleet(*backends, **pool)
    return seen.value.mistakes


# --- what is written in inventory ---


@pytest.mark.parametrize("number", [2571, "2571", "0x0a0b", "0X0A0B"])
def test_server_id_is_a_number_however_it_is_written(number: Any) -> None:
    (pool,) = fleet((A, number)).pools
    assert pool.backends[0].server_id == 0x0A0B
    assert pool.quic == Quic(2, 0)


def test_inventory_comes_back_as_it_was() -> None:
    given = fleet((A, 1), (B, 2), quic={"server_id_length": 8, "config_id": 6})
    assert parse(**given.as_dict()) == given
    without = parse({"web": {"backends": [{"address": A}]}}, [])
    assert "quic" not in without.as_dict()["pools"]["web"]
    assert without.as_dict()["pools"]["web"]["backends"] == [
        {"address": A, "weight": 100, "state": "active"}
    ]


def test_server_id_without_quic_is_kept_and_of_no_use() -> None:
    """A list of backends may serve two pools."""
    given = parse({"web": {"backends": [{"address": A, "server_id": 7}]}}, [])
    assert given.pools[0].backends[0].server_id == 7
    assert _plan.make(given, FakeKernel().actual(), lambda _pool: None, set, 1).server_ids == {}


@pytest.mark.parametrize(
    ("backends", "pool", "says"),
    [
        (((A, None),), {}, "backends[0].server_id: is missing, and the pool has quic"),
        (
            ((A, 1), (B, "0x01")),
            {},
            "backends[1].server_id: 0x0001 is the server_id of backends[0]",
        ),
        (((A, 1 << 16),), {}, "0x10000 has more than the 2 bytes of"),
        (((A, -1),), {}, "backends[0].server_id: -1 is not a number below 2^64"),
        (((A, "0a0b"),), {}, "backends[0].server_id: '0a0b' is not a number"),
        (((A, "0x"),), {}, "'0x' is not a number"),
        (((A, "1_0"),), {}, "'1_0' is not a number"),
        (((A, " 7"),), {}, "' 7' is not a number"),
        (((A, "-0"),), {}, "'-0' is not a number"),
        (((A, "\u0667"),), {}, "is not a number"),
        (((A, "0x1" + 16 * "0"),), {}, "is not a number below 2^64"),
        (((A, str(1 << 64)),), {}, "is not a number below 2^64"),
        (((A, True),), {}, "True is not a number"),
        (((A, [1]),), {}, "[1] is not a number"),
        (((A, 1),), {"quic": {"config_id": 1}}, "quic.server_id_length: is missing"),
        (((A, 1),), {"quic": {"server_id_length": 9}}, "9 is not an integer from 1 to 8"),
        (((A, 1),), {"quic": {"server_id_length": 0}}, "0 is not an integer from 1 to 8"),
        (
            ((A, 1),),
            {"quic": {"server_id_length": 1, "config_id": 7}},
            "quic.config_id: 7 is not an integer from 0 to 6",
        ),
        (((A, 1),), {"quic": {"server_id_length": 1, "key": "x"}}, "quic: unknown key 'key'"),
        (((A, 1),), {"quic": "plaintext"}, "quic: 'plaintext' is not a dictionary"),
    ],
)
def test_mistake_is_named(backends: Any, pool: dict[str, Any], says: str) -> None:
    found = mistakes(*backends, **pool)
    assert len(found) == 1
    assert found[0].startswith("l4lb_pools.web.")
    assert says in found[0]


def test_quic_without_a_service_of_udp_is_mentioned() -> None:
    given = fleet((A, 1))
    assert _advice.warnings(given, 251) == []
    tcp = [{**service, "protocol": "tcp"} for service in given.as_dict()["services"]]
    (warning,) = _advice.warnings(parse(given.as_dict()["pools"], tcp), 251)
    assert warning.startswith("l4lb_pools.web.quic: no service of the pool is udp")


# --- a connection id ---


@pytest.mark.parametrize(
    ("connection_id", "number"),
    [
        ("000a0b11223344", 0x0A0B),
        ("1f0a0b", 0x0A0B),
        ("200a0b11223344", None),
        ("e00a0b11223344", None),
        ("000a", None),
    ],
)
def test_connection_id_is_read(connection_id: str, number: int | None) -> None:
    assert read_id(bytes.fromhex(connection_id), Quic(2, 0)) == number


@pytest.mark.parametrize(
    ("protocol", "connection_id", "says"),
    [
        ("udp", "xy", "is not 1 to 20 bytes in hexadecimal"),
        ("udp", "00" * 21, "is not 1 to 20 bytes"),
        ("tcp", "00" * 8, "QUIC has one, and that is udp, not tcp"),
    ],
)
def test_packet_that_cannot_be_is_refused(protocol: str, connection_id: str, says: str) -> None:
    with pytest.raises(_packet.PacketError, match=says):
        _packet.parse("198.51.100.2", A, protocol, 1, 2, connection_id=connection_id)


# --- the plan ---


def bring(kernel: FakeKernel, wanted: Fleet) -> _plan.Plan:
    plan = _plan.make(wanted, kernel.actual(), kernel.ring, kernel.named_by_flows, 5)
    _plan.apply(plan, kernel, lambda: 5)
    _plan.verify(plan, wanted, kernel, 5)
    return plan


def ids(kernel: FakeKernel) -> dict[int, str]:
    return {number: kernel.backends[i].address for (_p, number), i in kernel.server_ids.items()}


def test_ids_are_written_once_and_go_with_their_backends() -> None:
    kernel = FakeKernel()
    plan = bring(kernel, fleet((A, 1), (B, 2)))
    assert plan.writes["server ids"]
    assert ids(kernel) == {1: A, 2: B}
    assert not bring(kernel, fleet((A, 1), (B, 2))).changed
    bring(kernel, fleet((A, 1)))
    assert ids(kernel) == {1: A}
    bring(kernel, parse({}, []))
    assert kernel.server_ids == {}


def test_ids_alone_can_change_and_no_flow_moves() -> None:
    kernel = FakeKernel()
    bring(kernel, fleet((A, 1), (B, 2)))
    plan = bring(kernel, fleet((A, 2), (B, 1)))
    assert ids(kernel) == {2: A, 1: B}
    assert set(plan.writes) == {"server ids"}
    plan = bring(kernel, fleet((A, 2), (B, 1), quic={"server_id_length": 2, "config_id": 3}))
    assert (set(plan.writes), plan.pool_shares) == ({"pools"}, {})


def test_pool_that_asks_no_more_has_no_ids() -> None:
    kernel = FakeKernel()
    bring(kernel, fleet((A, 1)))
    pools = {"web": {"backends": [{"address": A, "server_id": 1}]}}
    bring(kernel, parse(pools, fleet((A, 1)).as_dict()["services"]))
    assert kernel.server_ids == {}
    assert kernel.pools[0].quic is None


def test_disabled_backend_keeps_its_id() -> None:
    """So a packet of its is told from a stranger's."""
    kernel = FakeKernel()
    given = fleet((A, 1), (B, 2)).as_dict()
    given["pools"]["web"]["backends"][0]["state"] = "disabled"
    bring(kernel, parse(**given))
    assert ids(kernel) == {1: A, 2: B}


def test_people_read_the_same_of_inventory_and_of_the_kernel() -> None:
    kernel, given = FakeKernel(), fleet((A, 0x0A0B), (B, 2))
    bring(kernel, given)
    lines = _lines.of_kernel(kernel.actual())
    assert lines == _lines.of_fleet(given)
    assert "quic config_id 0 server_id_length 2" in lines[0]
    assert lines[1].endswith("weight 100 active server_id 0x0a0b")
    assert parse(**_lines.as_inventory(kernel.actual())).pools[0].quic == Quic(2, 0)
    assert parse(**_lines.as_inventory(kernel.actual())).pools[0].backends[0].server_id == 0x0A0B


@pytest.mark.parametrize(
    "after",
    [
        fleet((A, 1), (C, 3)),
        fleet((A, 2), (B, 1)),
        fleet((B, 2), (C, 1), quic={"server_id_length": 3, "config_id": 1}),
        parse({}, []),
    ],
    ids=["another backend", "exchanged", "another form", "nothing"],
)
def test_run_that_is_killed_at_any_write_is_finished_by_the_next(after: Fleet) -> None:
    for dies_at in itertools.count():
        kernel = FakeKernel()
        bring(kernel, fleet((A, 1), (B, 2)))
        kernel.dies_at = kernel.writes + dies_at
        plan = _plan.make(after, kernel.actual(), kernel.ring, kernel.named_by_flows, 5)
        try:
            _plan.apply(plan, kernel, lambda: 5)
        except Killed:
            kernel.dies_at = None
            bring(kernel, after)
            assert not bring(kernel, after).changed
            continue
        assert dies_at >= 2
        return


def test_one_pool_at_a_time_leaves_the_ids_of_others() -> None:
    """As health is written."""
    kernel = FakeKernel()
    both = fleet((A, 1), (B, 2)).as_dict()
    both["pools"]["other"] = {**both["pools"]["web"], "backends": [{"address": C, "server_id": 1}]}
    bring(kernel, parse(**both))
    held = dict(kernel.server_ids)
    one = parse({"web": both["pools"]["web"]}, [])
    actual = kernel.actual().of_pools({"web"})
    plan = _plan.make(one, actual, kernel.ring, kernel.named_by_flows, 5, {("web", A)})
    _plan.apply(plan, kernel, lambda: 5)
    assert kernel.server_ids == held
