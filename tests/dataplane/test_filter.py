# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter in front of the services: what it stops, and that it stops no service's packet."""

from __future__ import annotations

import ipaddress
import itertools
import random
import threading
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from ansible_collections.l4lb.xdp.plugins.module_utils import _apply, _explain, _filter
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import Packet

from .expect import judge, passed
from .mortal import dies
from .node import SOURCE, VIP4, VIP6, XDP_DROP, XDP_PASS, XDP_TX, Node, from_client

POOLS = {"web": {"backends": [{"address": "192.0.2.71"}]}}
ADDRESSES = [f"203.0.113.{i}" for i in range(1, 9)] + [f"2001:db8:100::{i}" for i in range(1, 9)]


def fleet_at(addresses: list[str]) -> Fleet:
    return parse(POOLS, [service(address) for address in addresses])


def service(address: str) -> dict[str, Any]:
    name = address.replace(":", "-")
    return {"name": f"s{name}", "address": address, "port": 80, "protocol": "tcp", "pool": "web"}


def action_at(node: Node, address: str, port: int = 80) -> int:
    packet = from_client(TCP(dport=port), ipv6=":" in address, dst=address)
    return node.run(packet)[0]


def clear(node: Node) -> dict[int, int]:
    """Empties the filter by hand; returns what it was."""
    was = node.tables.actual().filter
    for index in was:
        node.tables.put_filter(index, 0)
    return was


def neighbour_of(address: str, services: int, network: str) -> str:
    """Another address with the same bit."""
    place = _filter.place(address, services)
    others = map(str, ipaddress.ip_network(network))
    return next(o for o in others if o != address and _filter.place(o, services) == place)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_program_and_library_find_the_same_bit(node: Node, address: Any) -> None:
    """No other bit is set: the address is passed on to the maps by this one alone."""
    text = str(address)
    table, key = node.tables.address_key(text)
    table[key] = table.Leaf()
    index, bit = _filter.place(text, node.sizes.services)
    try:
        assert action_at(node, text, port=1) == XDP_PASS
        node.tables.put_filter(index, 1 << bit)
        assert action_at(node, text, port=1) == XDP_DROP
        node.tables.put_filter(index, ~(1 << bit) & (1 << 64) - 1)
        assert action_at(node, text, port=1) == XDP_PASS
    finally:
        del table[key]
        node.tables.put_filter(index, 0)


def test_address_with_the_bit_of_another_is_foreign(node: Node) -> None:
    node.serve("192.0.2.71")
    for vip, network in ((VIP4, "198.18.0.0/15"), (VIP6, "2001:db8:7::/112")):
        other = neighbour_of(vip, node.sizes.services, network)
        packet = from_client(TCP(dport=80), ipv6=":" in other, dst=other)
        assert judge(node, packet) == passed(packet)


def test_bit_stays_for_the_other_address_that_has_it(node: Node) -> None:
    other = neighbour_of(VIP4, node.sizes.services, "198.18.0.0/15")
    for left in (VIP4, other):
        _apply.apply_fleet(fleet_at([VIP4, other]), node.tables, node.state_dir)
        _apply.apply_fleet(fleet_at([left]), node.tables, node.state_dir)
        actions = {address: action_at(node, address) for address in (VIP4, other)}
        assert actions == {VIP4: XDP_PASS, other: XDP_PASS, left: XDP_TX}


def test_lost_bits_are_noticed_and_put_right(node: Node) -> None:
    fleet = fleet_at([VIP4, VIP6])
    _apply.apply_fleet(fleet, node.tables, node.state_dir)
    was = clear(node)
    assert action_at(node, VIP4, port=1) == XDP_PASS
    assert _apply.apply_fleet(fleet, node.tables, node.state_dir, dry=True).changed
    outcome = _apply.apply_fleet(fleet, node.tables, node.state_dir)
    assert outcome.data["plan"]["writes"] == {"filter": len(was)}
    assert action_at(node, VIP4, port=1) == XDP_DROP
    assert node.tables.actual().filter == was


def test_explain_tells_of_a_lost_bit(node: Node) -> None:
    node.serve("192.0.2.71")
    clear(node)
    explainer = _explain.Explainer(node.tables, SOURCE, node.pins)
    answer, index = explainer.steer(Packet("198.51.100.2", VIP4, "tcp", 1025, 81), "eth0")
    assert (answer.verdict, index) == ("pass_foreign", 0)
    assert "the filter in front of the services lacks it" in answer.why[-1]


# --- changes ---


def check_all(node: Node) -> None:
    """Every service that the maps hold is reached, and no address of theirs is foreign."""
    actual = node.tables.actual()
    for key in actual.services:
        assert action_at(node, key.address, key.port) == XDP_TX
    for address in actual.addresses:
        assert action_at(node, address, port=1) == XDP_DROP


def test_death_at_every_write_of_random_changes_misses_no_service(node: Node) -> None:
    rng = random.Random(23)
    deaths = 0
    for _round in range(12):
        old, new = (rng.sample(ADDRESSES, rng.randrange(1, 9)) for _which in range(2))
        stay = set(old) & set(new)
        _apply.apply_fleet(fleet_at(old), node.tables, node.state_dir)
        change = partial(_apply.apply_fleet, fleet_at(new), node.tables, node.state_dir)
        for dies_at in itertools.count():
            if not dies(change, dies_at):
                break
            deaths += 1
            check_all(node)
            assert {action_at(node, address) for address in stay} <= {XDP_TX}
            if dies_at % 3 == 0:  # the next run may be one that wants the old state again
                _apply.apply_fleet(fleet_at(old), node.tables, node.state_dir)
                check_all(node)
        assert set(node.tables.actual().addresses) == set(new)
        assert node.tables.actual().filter == _filter.words(new, node.sizes.services)
    assert deaths > 100


def test_packets_meanwhile_never_miss_a_service_that_stays(node: Node) -> None:
    """Its word is written again and again, because of others that come and go."""
    index, _bit = _filter.place(VIP4, node.sizes.services)
    others = [
        str(address)
        for address in ipaddress.ip_network("198.18.0.0/20")
        if _filter.place(str(address), node.sizes.services)[0] == index
    ][:20]
    _apply.apply_fleet(fleet_at([VIP4]), node.tables, node.state_dir)
    packet = bytes(from_client(TCP(dport=80)))
    stop, actions = threading.Event(), []

    def send() -> None:
        while not stop.is_set():
            actions.append(node.run(packet)[0])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for addresses in [[VIP4, *others], [VIP4]] * 4:
            sent = len(actions)
            _apply.apply_fleet(fleet_at(addresses), node.tables, node.state_dir)
            while sender.is_alive() and len(actions) < sent + 100:
                pass
    finally:
        stop.set()
        sender.join()
    assert len(actions) >= 800
    assert set(actions) == {XDP_TX}
