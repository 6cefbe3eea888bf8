# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services found without a search: at the library's place, and no packet is led astray."""

from __future__ import annotations

import itertools
import random
import threading
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _apply, _shortcuts
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceEntry, ServiceKey

from .mortal import dies
from .node import VIP4, VIP6, XDP_PASS, XDP_TX, Node, from_client
from .test_explain import explainer
from .test_explain import parse as packet_of

BACKENDS = {"web": "192.0.2.71", "api": "192.0.2.72"}
POOLS = {pool: {"backends": [{"address": address}]} for pool, address in BACKENDS.items()}


def sharing(services: int, count: int) -> list[ServiceKey]:
    """Services that have one place together."""
    keys = [ServiceKey(VIP4, port, "tcp") for port in range(1, 60000)]
    at = _shortcuts.place(keys[0], services)
    return [key for key in keys if _shortcuts.place(key, services) == at][:count]


def fleet_of(wanted: dict[ServiceKey, str]) -> Fleet:
    services: list[dict[str, Any]] = [
        {"name": f"s{i}", **key._asdict(), "pool": pool}
        for i, (key, pool) in enumerate(wanted.items())
    ]
    return parse(POOLS, services)


def bring(node: Node, wanted: dict[ServiceKey, str], **options: Any) -> Any:
    return _apply.apply_fleet(fleet_of(wanted), node.tables, node.state_dir, **options)


def packet_to(key: ServiceKey) -> Packet:
    ports = {"sport": 4000, "dport": key.port}
    transports = {"tcp": TCP(**ports), "udp": UDP(**ports), "sctp": SCTP(**ports) / SCTPChunkData()}
    transport = transports[key.protocol] / Raw(bytes(16))
    return from_client(transport, ipv6=":" in key.address, dst=key.address)


def pool_of(node: Node, key: ServiceKey) -> str | None:
    """Where its packets go; None: nowhere."""
    action, out = node.run(packet_to(key))
    if action != XDP_TX:
        return None
    backend = Ether(out).payload.dst
    return next(pool for pool, address in BACKENDS.items() if address == backend)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    st.integers(1, 65535),
    st.sampled_from(["tcp", "udp", "sctp"]),
)
def test_program_and_library_find_the_same_place(
    node: Node, address: Any, port: int, protocol: str
) -> None:
    """No map has the service but this one."""
    if not node.tables.actual().pools:
        node.apply(POOLS, [])
    key = ServiceKey(str(address), port, protocol)
    pool = next(i for i, pool in node.tables.actual().pools.items() if pool.name == "api")
    place = _shortcuts.place(key, node.sizes.services)
    assert node.run(packet_to(key))[0] == XDP_PASS
    node.tables.put_shortcut(place, _shortcuts.shortcut(key, ServiceEntry(1, pool, "")))
    try:
        assert pool_of(node, key) == "api"
    finally:
        node.tables.remove_shortcut(place)
    assert node.run(packet_to(key))[0] == XDP_PASS


def test_services_that_meet_at_a_place_are_all_served(node: Node) -> None:
    """Whoever has it, and when the one that has it goes."""
    first, second, third = sharing(node.sizes.services, 3)
    for wanted in (
        {first: "web", second: "api", third: "web"},
        {second: "api", third: "web"},
        {second: "web", third: "api"},
        {first: "api", third: "web"},
        {third: "api"},
    ):
        bring(node, wanted)
        assert {key: pool_of(node, key) for key in wanted} == wanted
        (held,) = node.tables.actual().shortcuts.values()
        assert _shortcuts.leads(held, min(wanted))


def test_service_of_any_port_has_none(node: Node) -> None:
    bring(node, {ServiceKey(VIP4, 0, "tcp"): "web", ServiceKey(VIP4, 80, "tcp"): "api"})
    assert len(node.tables.actual().shortcuts) == 1
    assert pool_of(node, ServiceKey(VIP4, 80, "tcp")) == "api"
    assert pool_of(node, ServiceKey(VIP4, 81, "tcp")) == "web"


def test_each_write_has_a_turn_of_its_own(node: Node) -> None:
    """Also the one that frees the place: who reads meanwhile sees another turn than before."""
    key = ServiceKey(VIP4, 80, "tcp")
    place = _shortcuts.place(key, node.sizes.services)
    turns = []
    for wanted in ({key: "web"}, {key: "api"}, {}, {key: "web"}):
        bring(node, wanted)
        turns.append(node.tables.table("shortcuts")[place].kind.turn)
    assert [turn - turns[0] for turn in turns] == [0, 2, 3, 4]


@pytest.mark.parametrize("foreign", [False, True], ids=["lost", "foreign"])
def test_what_somebody_else_wrote_is_put_right(node: Node, foreign: bool) -> None:
    key = ServiceKey(VIP4, 80, "tcp")
    bring(node, {key: "web"})
    ((place, right),) = node.tables.actual().shortcuts.items()
    node.tables.remove_shortcut(place)
    if foreign:
        other = next(i for i, p in node.tables.actual().pools.items() if p.name == "api")
        wrong = _shortcuts.shortcut(key, ServiceEntry(0, other, ""))
        node.tables.put_shortcut(place, wrong)
    assert pool_of(node, key) == ("api" if foreign else "web")
    told = explainer(node).explain(packet_of("198.51.100.2", VIP4, "tcp", 4000, 80))
    assert told["backend"]["address"] == BACKENDS["api" if foreign else "web"]
    assert bring(node, {key: "web"}, dry=True).changed
    assert bring(node, {key: "web"}).data["plan"]["writes"] == {"shortcuts": 1}
    assert node.tables.actual().shortcuts == {place: right}
    assert pool_of(node, key) == "web"


def test_death_at_every_write_leads_nobody_astray(node: Node) -> None:
    """Services come, go and change pools; each packet goes where the hash maps say."""
    rng = random.Random(29)
    keys = sharing(node.sizes.services, 4) + [ServiceKey(VIP6, port, "udp") for port in (53, 443)]
    deaths = 0
    for _round in range(8):
        old, new = (
            {key: rng.choice(["web", "api"]) for key in rng.sample(keys, 4)} for _which in range(2)
        )
        bring(node, old)
        change = partial(bring, node, new)
        for dies_at in itertools.count():
            if not dies(change, dies_at):
                break
            deaths += 1
            actual = node.tables.actual()
            for key, service in actual.services.items():
                assert pool_of(node, key) == actual.pools[service.pool].name
            if dies_at % 3 == 0:
                bring(node, old)
        assert {key: pool_of(node, key) for key in new} == new
        assert node.tables.actual().shortcuts == _shortcuts.shortcuts(
            node.tables.actual().services, node.sizes.services
        )
    assert deaths > 60


def test_packets_meanwhile_go_to_their_own_service(node: Node) -> None:
    """Two services take the same place in turn, while packets of both come."""
    first, second = sharing(node.sizes.services, 2)
    wanted = {first: "web", second: "api"}
    bring(node, wanted)
    packets = {pool: bytes(packet_to(key)) for key, pool in wanted.items()}
    stop, wrong, count = threading.Event(), [], itertools.count()

    def send() -> None:
        while not stop.is_set():
            for pool, packet in packets.items():
                _action, out = node.run(packet)
                if Ether(out).payload.dst != BACKENDS[pool]:
                    wrong.append(pool)
            next(count)

    held = node.tables.actual().services
    shortcuts = [_shortcuts.shortcut(key, held[key]) for key in wanted]
    place = _shortcuts.place(first, node.sizes.services)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        for shortcut in shortcuts * 500:
            node.tables.remove_shortcut(place)
            node.tables.put_shortcut(place, shortcut)
    finally:
        stop.set()
        sender.join()
    assert not wrong
    assert next(count) > 50
