# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pool takes for a flow: which packets share a slot, and what stays with its connection."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils import _flows
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._config import IDENTITIES
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import identity_hash, slot
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import BackendEntry
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import Slots
from ansible_collections.l4lb.xdp.plugins.module_utils._settle import settle
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import now_tick

from .flows import A, B, C, ack, age, ring, syn
from .node import CLIENT4, CLIENT6, VIP4, VIP6, Node, from_client
from .test_steer import address

OTHER4, OTHER6 = "203.0.113.11", "2001:db8:100::11"
PROTOCOLS = {"tcp": (6, TCP), "udp": (17, UDP)}
SETTLE = 60


def serve(node: Node, *backends: str, **pool: object) -> None:
    """One pool behind two addresses of each family, any port."""
    services = [
        {"name": f"{protocol}{i}", "address": vip, "port": 0, "protocol": protocol, "pool": "web"}
        for protocol in PROTOCOLS
        for i, vip in enumerate((VIP4, VIP6, OTHER4, OTHER6))
    ]
    pools = {"web": {"backends": [{"address": backend} for backend in backends], **pool}}
    node.apply(pools, services)


def spread(node: Node) -> None:
    """Every slot gets a backend of its own, so that the outer address tells the slot."""
    size = node.sizes.ring
    for index in range(1, size + 1):
        backend = BackendEntry(0, f"198.51.100.{index}", 1, "active")
        node.tables.put_backend(index, backend, fresh=True)
    node.tables.put_ring(0, replace(Slots.empty(size), current=array("H", range(1, size + 1))))


def slot_of(node: Node, packet: Packet) -> int:
    _action, out = node.run(packet)
    assert out[30:33] == bytes([198, 51, 100])
    return out[33] - 1


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("identity", IDENTITIES)
def test_c_and_python_agree(make_node: Callable[..., Node], identity: str, ipv6: bool) -> None:
    node = make_node()
    serve(node, A, identity=identity)
    spread(node)
    rng = random.Random(77)
    for _packet in range(200):
        number, transport = PROTOCOLS[rng.choice(("tcp", "udp"))]
        ports = rng.randrange(1, 65536), rng.randrange(1, 65536)
        source = address(rng, ipv6)
        destination = rng.choice((VIP6, OTHER6) if ipv6 else (VIP4, OTHER4))
        ends = packed(source), packed(destination)
        expected = slot(identity_hash(identity, node.hash_seed, *ends, number, *ports), 251)
        packet = from_client(
            transport(sport=ports[0], dport=ports[1]), ipv6=ipv6, src=source, dst=destination
        )
        assert slot_of(node, packet) == expected


def usual(**change: object) -> Packet:
    """A packet of one client to one service, but for the changes."""
    fields = {"sport": 4000, "dport": 80, "src": CLIENT4, "dst": VIP4, "kind": TCP, **change}
    transport = fields["kind"](sport=fields["sport"], dport=fields["dport"])
    ipv6 = ":" in str(fields["src"])
    return from_client(transport, ipv6=ipv6, src=fields["src"], dst=fields["dst"])


CHANGES = {
    "source port": {"sport": 4001},
    "source address": {"src": "198.51.100.3"},
    "destination address": {"dst": OTHER4},
    "destination port": {"dport": 81},
    "protocol": {"kind": UDP},
    "family": {"src": CLIENT6, "dst": VIP6},
}
SHARED = {
    "five_tuple": set(),
    "without_source_port": {"source port"},
    "source_address": set(CHANGES) - {"source address", "family"},
    "destination_port": set(CHANGES) - {"destination port"},
}


@pytest.mark.parametrize("identity", IDENTITIES)
def test_what_does_not_count_shares_the_slot(make_node: Callable[..., Node], identity: str) -> None:
    node = make_node()
    serve(node, A, identity=identity)
    spread(node)
    first = slot_of(node, usual())
    same = {what for what, change in CHANGES.items() if slot_of(node, usual(**change)) == first}
    assert same == SHARED[identity]


@pytest.mark.parametrize("identity", IDENTITIES)
def test_icmp_error_goes_where_its_flow_goes(make_node: Callable[..., Node], identity: str) -> None:
    node = make_node()
    serve(node, A, identity=identity)
    spread(node)
    for port in range(4000, 4030):
        about = IP(src=VIP4, dst=CLIENT4) / UDP(sport=80, dport=port)
        error = from_client(ICMP(type=3, code=1) / about, src="192.0.2.1")
        assert slot_of(node, error) == slot_of(node, usual(sport=port, kind=UDP))


def moved(node: Node) -> int:
    """A source port that the service sees, when the client's slot has moved from A."""
    serve(node, A, identity="source_address", settle=SETTLE)
    serve(node, A, B, C, identity="source_address", settle=SETTLE)
    number = slot(
        identity_hash("source_address", node.hash_seed, packed(CLIENT4), bytes(4), 0, 0, 0), 251
    )
    slots = ring(node)
    current = node.tables.actual().backends[slots.current[number]].address
    assert slots.tracked[number]
    assert current != A
    return number


def test_connections_stay_and_new_ones_of_the_client_follow_the_ring(node: Node) -> None:
    moved(node)
    assert node.backend_of(ack(4000)) == A
    new = node.backend_of(syn(4001))
    assert new != A
    assert [node.backend_of(ack(port)) for port in (4000, 4001)] == [A, new]
    assert {node.backend_of(syn(port)) for port in range(4002, 4010)} == {new}


def test_settling_finds_flows_in_their_slot(node: Node) -> None:
    number = moved(node)
    assert node.backend_of(ack(4000)) == A
    age(node, SETTLE + 2)
    (pool,) = settle(node.tables, now_tick())
    assert pool.busy == 1
    assert [i for i, tick in enumerate(ring(node).tracked) if tick] == [number]
    assert len(list(_flows.records(node.tables))) == 1


def test_change_of_identity_is_predicted_and_written(node: Node) -> None:
    serve(node, A, B)
    pools = {"web": {"backends": [{"address": A}, {"address": B}], "identity": "source_address"}}
    services = [{"name": "web", "address": VIP4, "port": 80, "protocol": "tcp", "pool": "web"}]
    outcome = node.apply(pools, services)
    assert outcome.changed
    assert any("pool web: 50.0 % of new flows go elsewhere" in note for note in outcome.notes)
    assert not node.apply(pools, services).changed
    assert {node.backend_of(syn(port)) for port in range(4000, 4050)} in ({A}, {B})
