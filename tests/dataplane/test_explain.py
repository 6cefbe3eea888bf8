# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is explained is what the program does: both answer for the same packet at one moment."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkData, SCTPChunkInit
from scapy.packet import Packet

from ansible_collections.l4lb.xdp.plugins.module_utils import _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._config import IDENTITIES
from ansible_collections.l4lb.xdp.plugins.module_utils._explain import Explainer
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import parse
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import jiffies_per_second

from .node import (
    CLIENT4,
    FAR_MAC,
    NODE_MAC,
    NODE_MAC1,
    ROUTER_MAC,
    SOURCE,
    VIP4,
    VIP6,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    Node,
    frame,
    from_client,
    interface,
)

ACTIONS = {
    "pass_foreign": XDP_PASS,
    "sent": XDP_TX,
    "redirected": XDP_REDIRECT,
    "to_kernel": XDP_PASS,
    "answered_echo": XDP_TX,
    "drop_unserved": XDP_DROP,
    "pass_unserved": XDP_PASS,
    "drop_no_backend": XDP_DROP,
    "drop_no_source": XDP_DROP,
    "drop_no_route": XDP_DROP,
    "drop_denied": XDP_DROP,
    "drop_not_allowed": XDP_DROP,
    "drop_limited": XDP_DROP,
}
MACS = {"eth0": NODE_MAC, "eth1": NODE_MAC1}

A, B = "192.0.2.71", "192.0.2.72"
MEMBERS = (
    A,
    B,
    "192.0.2.73",
    "2001:db8:2::71",
    "2001:db8:2::72",
    "192.0.2.130",  # on eth1
    "2001:db8:4::2",
    "192.0.2.200",  # unreachable
    "192.0.2.201",  # prohibited
    "2001:db8:5::1",  # a blackhole
    "192.0.2.33",  # nobody has asked for its link address
    "2001:db8:1::33",
    "192.0.2.34",  # did not answer
    "192.0.2.11",  # the node itself
    "198.18.9.1",  # no route
)
RANGES4, RANGES6 = ("198.51.100.0/30", "192.0.2.0/24"), ("2001:db8:3::/64", "2001:db8:9::/64")
DENIED = ("198.51.100.2/31", "2001:db8:3::/48", "203.0.113.0/24")
PORTS = range(30000, 30012)
SERVED = {
    "tcp": ("web", 80),
    "udp": ("web", 80),
    "sctp": ("web", 80),
    "tcp_any": ("any", 0),
    "udp_none": ("none", 81),
}
"""Services of each family: pool and port."""


@pytest.fixture(scope="module", autouse=True)
def routes() -> Iterator[None]:
    """What MEMBERS promises besides the usual wiring."""
    with IPRoute() as ip:
        extra = (
            {"dst": "192.0.2.201/32", "type": "prohibit"},
            {"dst": "2001:db8:5::/64", "type": "blackhole"},
        )
        for route in extra:
            ip.route("add", **route)
        silent = {"dst": "192.0.2.34", "ifindex": interface("eth0")}
        ip.neigh("add", **silent, state="failed")
        yield
        for route in extra:
            ip.route("del", **route)
        ip.neigh("del", **silent)


@contextmanager
def changed(path: str, value: str) -> Iterator[None]:
    """A sysctl set otherwise for a while."""
    file = Path("/proc/sys", path)
    kept = file.read_text()
    file.write_text(value)
    try:
        yield
    finally:
        file.write_text(kept)


def explainer(node: Node) -> Explainer:
    return Explainer(node.tables, SOURCE, node.pins)


def arguments(packet: Packet) -> dict[str, Any]:
    """The module's arguments for a packet."""
    ip, transport = packet.payload, packet.payload.payload
    found = {"source_address": ip.src, "destination_address": ip.dst}
    if not isinstance(transport, (TCP, UDP, SCTP)):
        return {**found, "protocol": "icmp"}
    opens = isinstance(transport, TCP) and transport.flags == "S"
    return {
        **found,
        "protocol": type(transport).__name__.lower(),
        "source_port": transport.sport,
        "destination_port": transport.dport,
        "opens": opens or isinstance(transport.payload, SCTPChunkInit),
    }


def check(node: Node, ask: Explainer, packet: Packet) -> dict[str, Any]:
    """Explains the packet, then runs it: both must agree. Returns the explanation."""
    answer = ask.explain(parse(**arguments(packet)), "eth0")
    before = node.tables.verdicts()
    action, out = node.run(packet)
    after = node.tables.verdicts()
    counted = [word for word in after if after[word]["packets"] > before[word]["packets"]]
    assert counted == [answer["verdict"]], answer["why"]
    assert action == ACTIONS[answer["verdict"]]
    assert recorded_on(ask.explain(parse(**arguments(packet)), "eth0")) == promised_record(answer)
    if answer["verdict"] == "answered_echo":
        return answer
    if answer["verdict"] in ("pass_foreign", "pass_unserved") or action == XDP_DROP:
        assert out == bytes(packet), answer["why"]
        return answer
    check_outer(answer, packet, out)
    return answer


def recorded_on(answer: dict[str, Any]) -> str | None:
    return answer["flow"]["backend"] if answer["flow"] else None


def promised_record(answer: dict[str, Any]) -> str | None:
    """Where the flow is recorded once the packet has gone its way."""
    if any(text.endswith("is recorded there") for text in answer["why"]):
        return str(answer["backend"]["address"])
    return recorded_on(answer)


def check_outer(answer: dict[str, Any], packet: Packet, out: bytes) -> None:
    ethernet, tunnel, hop = Ether(out), answer["tunnel"], answer["nexthop"]
    outer = ethernet.payload
    assert isinstance(outer, IPv6 if ":" in tunnel["destination"] else IP)
    assert (outer.src, outer.dst) == (tunnel["source"], tunnel["destination"]), answer["why"]
    assert out.endswith(bytes(packet.payload))
    links = (ROUTER_MAC, NODE_MAC)
    if answer["verdict"] != "to_kernel":
        links = (MACS[hop["interface"]], hop["mac"])
    assert (ethernet.src, ethernet.dst) == links, answer["why"]


# --- random histories ---


@dataclass
class History:
    """What people and time do to a node."""

    node: Node
    rng: random.Random
    pools: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("web", "any", "none"):
            self.pools[name] = {"settle": 60, "udp_transition": 20, "backends": {}}
        for _member in range(5):
            self.change_member("web")
            self.change_member("any")
        self.apply()

    def step(self) -> None:
        name = self.rng.choice(("web", "web", "any"))
        pool = self.pools[name]
        pool["tracking"] = self.rng.choice(("adaptive", "adaptive", "adaptive", "always", "never"))
        pool["algorithm"] = self.rng.choice(("maglev", "rendezvous"))
        pool["identity"] = self.rng.choice(("five_tuple", "five_tuple", *IDENTITIES))
        for _change in range(self.rng.randrange(1, 4)):
            self.change_member(name)
        self.apply()
        for happening in (self.age_records, self.age_slots, self.lose_health):
            if self.rng.random() < 0.4:
                happening()

    def change_member(self, pool: str) -> None:
        members = self.pools[pool]["backends"]
        address = self.rng.choice(MEMBERS)
        if address in members and self.rng.random() < 0.3:
            del members[address]
            return
        state = self.rng.choice(("active", "active", "active", "draining", "disabled"))
        members[address] = {"weight": self.rng.randrange(1, 200), "state": state}

    def apply(self) -> None:
        pools = {
            name: {**pool, "backends": [{"address": a, **m} for a, m in pool["backends"].items()]}
            for name, pool in self.pools.items()
        }
        services = [
            {
                "name": f"{name}{family}",
                "address": address,
                "port": port,
                "protocol": name.partition("_")[0],
                "pool": pool,
            }
            for family, address in ((4, VIP4), (6, VIP6))
            for name, (pool, port) in SERVED.items()
        ]
        for service in services:  # of a client, whose ports are many
            if service["protocol"] != "udp" and self.rng.random() < 0.2:
                v6 = ":" in service["address"]
                service["allow"] = [self.rng.choice(RANGES6 if v6 else RANGES4)]
            if service["protocol"] != "udp" and self.rng.random() < 0.2:
                service["new_flows"] = 10_000_000
        self.node.apply(pools, services, [r for r in DENIED if self.rng.random() < 0.1])

    def age_records(self) -> None:
        """Some flows were last seen a while ago: within the settle time, or before it."""
        for name in ("flows4", "flows6"):
            table = self.node.tables.table(name)
            for key, leaf in table.items():
                leaf.seen -= _rings.ticks(self.rng.choice((0, 0, 10, 100)))
                table[key] = leaf

    def age_slots(self) -> None:
        """The tracking of some slots began that much earlier."""
        tables = self.node.tables
        for index in tables.actual().pools:
            slots = tables.ring(index)
            assert slots is not None
            shifts = (_rings.ticks(self.rng.choice((0, 10, 40))) for _slot in slots.tracked)
            then = (max(1, t - s) if t else 0 for t, s in zip(slots.tracked, shifts))
            tables.put_ring(index, replace(slots, tracked=array("I", then)))

    def lose_health(self) -> None:
        backends = self.node.tables.actual().backends
        index = self.rng.choice(sorted(backends))
        self.node.tables.put_backend(index, replace(backends[index], health="down"), fresh=False)

    def packet(self) -> Packet:
        port, to = self.rng.choice(PORTS), self.rng.choice((80, 80, 80, 80, 81, 443))
        flags = self.rng.choice(("S", "A", "A", "SA"))
        chunk = self.rng.choice((SCTPChunkInit(), SCTPChunkData(data=b"x")))
        kinds = (
            TCP(sport=port, dport=to, flags=flags),
            UDP(sport=port, dport=to),
            SCTP(sport=port, dport=to) / chunk,
        )
        transport = self.rng.choice(kinds * 7 + (ICMP(),))
        ipv6, foreign = self.rng.random() < 0.5, self.rng.random() < 0.05
        other = {"dst": "2001:db8:100::99" if ipv6 else "203.0.113.99"} if foreign else {}
        return from_client(transport, ipv6=ipv6, **other)


def test_explanation_equals_the_program_through_random_changes(
    make_node: Callable[..., Node],
) -> None:
    node = make_node()
    ask = explainer(node)
    met: Counter[str] = Counter()
    for seed in range(3):
        node.reset()
        history = History(node, random.Random(seed))
        for _step in range(12):
            for _packet in range(30):
                answer = check(node, ask, history.packet())
                met.update([answer["verdict"], *traits(answer)])
            history.step()
    promised = {"settled", "tracked", "believed", "not believed", "previous", *ACTIONS}
    elsewhere = {"drop_no_source", "pass_unserved", "drop_limited"}
    assert set(met) == promised - elsewhere, "the histories are too dull"


def traits(answer: dict[str, Any]) -> Iterator[str]:
    """What a history has to bring about, else it proves little."""
    slot, flow, backend = answer["slot"], answer["flow"], answer["backend"]
    if slot:
        yield slot["state"]
    if flow:
        yield "believed" if flow["believed"] else "not believed"
    elif backend and slot["state"] == "tracked" and backend["address"] != slot["current"]:
        assert backend["address"] == slot["previous"]
        yield "previous"


@pytest.mark.parametrize(
    ("lacking", "address"), [("source_ipv4", A), ("source_ipv6", "2001:db8:2::71")]
)
def test_node_without_source_address_of_the_family(
    make_node: Callable[..., Node], lacking: str, address: str
) -> None:
    node = make_node(**{lacking: None})
    node.serve(address)
    answer = check(node, explainer(node), from_client(TCP(sport=1, dport=80)))
    assert answer["verdict"] == "drop_no_source"
    assert answer["tunnel"]["source"] is None
    assert f"{lacking} of l4lb.xdp.program" in answer["why"][-1]


def test_echo_is_answered_by_the_node(node: Node) -> None:
    node.serve(A)
    answer = check(node, explainer(node), frame(IP(src=CLIENT4, dst=VIP4) / ICMP()))
    assert answer["verdict"] == "answered_echo"
    assert answer["service"] is answer["hash"] is answer["packet"]["source_port"] is None


# --- next hops ---


@pytest.mark.parametrize(
    ("address", "verdict", "reason"),
    [
        ("192.0.2.33", "to_kernel", "(neighbour: none)"),
        ("192.0.2.34", "to_kernel", "(neighbour: failed)"),
        ("192.0.2.11", "to_kernel", "192.0.2.11 is this node's own address"),
        ("192.0.2.63", "to_kernel", "are not forwarded (route: broadcast)"),
        ("198.18.9.1", "to_kernel", "there is no route to 198.18.9.1"),
        ("2001:db8:9::1", "to_kernel", "there is no route to 2001:db8:9::1"),
        ("192.0.2.200", "drop_no_route", "is of type unreachable"),
        ("2001:db8:5::1", "drop_no_route", "is of type blackhole"),
    ],
)
def test_why_nothing_is_sent(node: Node, address: str, verdict: str, reason: str) -> None:
    node.serve(address)
    answer = check(node, explainer(node), from_client(TCP(sport=1, dport=80)))
    assert answer["verdict"] == verdict
    assert reason in answer["why"][-1]


# What netlink would answer otherwise:


def test_forwarding_switched_off(node: Node) -> None:
    node.serve(A)
    ask = explainer(node)
    with changed("net/ipv4/conf/eth0/forwarding", "0"):
        answer = check(node, ask, from_client(UDP(sport=1, dport=80)))
    assert answer["verdict"] == "to_kernel"
    assert "net.ipv4.conf.eth0.forwarding" in answer["why"][-1]


def test_several_paths(node: Node) -> None:
    """Which one is taken depends on the tunnel's addresses."""
    backends = [f"198.18.0.{i}" for i in range(1, 20)]
    node.serve(*backends)
    ask = explainer(node)
    second = {"dst": "192.0.2.2", "lladdr": "02:00:00:00:00:03", "ifindex": interface("eth0")}
    with IPRoute() as ip:
        ip.neigh("add", **second, state="permanent")
        paths = [{"gateway": "192.0.2.1"}, {"gateway": "192.0.2.2"}]
        ip.route("add", dst="198.18.0.0/24", multipath=paths)
        answers = [check(node, ask, from_client(UDP(sport=i, dport=80))) for i in range(40)]
        ip.route("del", dst="198.18.0.0/24")
        ip.neigh("del", **second)
    assert {answer["nexthop"]["mac"] for answer in answers} == {ROUTER_MAC, second["lladdr"]}


def test_policy_rule_by_incoming_interface(node: Node) -> None:
    node.serve(A)
    ask = explainer(node)
    rule = {"iifname": "eth0", "table": 100, "priority": 100}
    with IPRoute() as ip:
        ip.route("add", dst="192.0.2.64/26", gateway="192.0.2.130", table=100)
        ip.rule("add", **rule)
        answer = check(node, ask, from_client(UDP(sport=1, dport=80)))
        ip.rule("del", **rule)
        ip.route("del", dst="192.0.2.64/26", table=100)
    assert answer["verdict"] == "redirected"
    assert answer["nexthop"] == {
        "interface": "eth1",
        "mac": FAR_MAC,
        "via": "192.0.2.130",
        "neighbour": "permanent",
    }


def test_next_hop_that_a_cpu_still_has_is_mentioned(node: Node) -> None:
    """Tried until both fell into the moment for which a CPU believes what it was told."""
    node.serve(A)
    ask, packet = explainer(node), from_client(UDP(sport=1, dport=80))
    for _attempt in range(20):
        ask.explain(parse(**arguments(packet)), "eth0")
        remember_other_hop(node, ask.asker._way.now)
        _action, out = node.run(packet)
        answer = ask.explain(parse(**arguments(packet)), "eth0")
        if Ether(out).dst == "02:00:00:00:00:99" and "still send" in answer["why"][-1]:
            break
    assert answer["why"][-1].endswith("still send to 02:00:00:00:00:99 by eth0, as found before")
    assert answer["nexthop"]["mac"] == ROUTER_MAC


def test_next_hop_is_asked_for_again_after_a_second(node: Node) -> None:
    node.serve(A)
    ask, packet = explainer(node), from_client(UDP(sport=1, dport=80))
    ask.explain(parse(**arguments(packet)), "eth0")
    way = ask.asker._way
    assert way.lifetime == jiffies_per_second()
    remember_other_hop(node, (way.now - way.lifetime) % 2**32)
    assert "still send" not in ask.explain(parse(**arguments(packet)), "eth0")["why"][-1]
    _action, out = node.run(packet)
    assert Ether(out).dst == ROUTER_MAC


def remember_other_hop(node: Node, asked: int) -> None:
    """Every CPU heard, in the jiffy `asked`, of a neighbour that is no longer there."""
    index = next(i for i, b in node.tables.actual().backends.items() if b.state == "active")
    table = node.tables.table("nexthops")
    cpus = table.Leaf()
    for hop in cpus:
        hop.asked, hop.interface = asked, interface("eth0")
        hop.destination[:] = bytes.fromhex("020000000099")
    table[index] = cpus


# --- what it must not do, and where it is asked ---


def test_nothing_changes(node: Node) -> None:
    node.serve(A)
    node.serve(B, {"address": A, "state": "draining"})
    for port in PORTS:
        node.run(from_client(TCP(sport=port, dport=80, flags="A")))
    ask = explainer(node)
    before = everything(node)
    assert before["flows4"]
    for port in (*PORTS, 1, 2, 3):
        for flags in "SA":
            packet = from_client(TCP(sport=port, dport=80, flags=flags))
            ask.explain(parse(**arguments(packet)), "eth0")
    assert everything(node) == before


def everything(node: Node) -> dict[str, Any]:
    """All that a packet can change in a node's maps, and its neighbours."""
    names = "verdicts service_counters backend_counters flows4 flows6 nexthops".split()
    held: dict[str, Any] = {
        name: sorted((bytes(key), bytes(leaf)) for key, leaf in node.tables.entries(name))
        if name.startswith("flows")
        else [bytes(leaf) for _key, leaf in node.tables.entries(name)]
        for name in names
    }
    with IPRoute() as ip:
        states = ((entry.get_attr("NDA_DST"), entry["state"]) for entry in ip.get_neighbours())
        held["neighbours"] = sorted(states, key=str)
    return held


def test_any_port_is_named(node: Node) -> None:
    services = [{"name": "all", "address": VIP6, "port": 0, "protocol": "tcp", "pool": "web"}]
    node.apply({"web": {"backends": [{"address": A}]}}, services)
    answer = check(node, explainer(node), from_client(TCP(sport=1, dport=443), ipv6=True))
    assert answer["service"] == {"name": "all", "address": VIP6, "port": 0, "protocol": "tcp"}
    assert answer["why"][1] == (
        f"tcp [{VIP6}]:443 is service all, of pool web: it takes any port, and none has port 443 "
        "alone"
    )
