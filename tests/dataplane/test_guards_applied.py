# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards from inventory to the kernel and back: differences, death at any write, a long list, boot,
and those whom no guard may refuse.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.sctp import SCTP, SCTPChunkInit

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _apply,
    _golden,
    _guards,
    _info,
    _program,
    _rates,
    _restore,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError
from ansible_collections.l4lb.xdp.plugins.module_utils._guard_tables import GuardTables
from ansible_collections.l4lb.xdp.plugins.module_utils._guards import GuardError, Guards
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import Packet
from ansible_collections.l4lb.xdp.plugins.module_utils._proof import Counted, Prover
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_compare import Comparer

from .expect import REAL4, judge
from .flows import A, B, syn
from .mortal import dies
from .node import CLIENT4, CLIENT6, NODE_MAC, SOURCE, VIP4, VIP6, Node, from_client, interface
from .test_explain import check, explainer
from .test_metrics import collector, samples

POOLS = {"web": {"backends": [{"address": REAL4}]}}
WEB = {"name": "web", "address": VIP4, "port": 80, "protocol": "tcp", "pool": "web"}
SIX = {"name": "six", "address": VIP6, "port": 80, "protocol": "tcp", "pool": "web"}
EVERYBODY = "198.18.0.0/15", "2001:2::/48", "198.51.100.0/24", "2001:db8:3::/48"
"""The clients of tests and of proofs."""


def module(node: Node, *services: dict[str, Any], dry: bool = False, **more: Any) -> Any:
    """As the module does, with purge: it opens the maps anew."""
    places = node.pins, SOURCE, node.state_dir
    return _apply.apply_services(POOLS, list(services), True, *places, dry, **more)


def apply(node: Node, *services: dict[str, Any], deny: Sequence[str] = ()) -> Any:
    return node.apply(POOLS, list(services), deny)


def held(node: Node) -> Guards:
    return GuardTables(node.tables).guards()


# --- a change ---


def test_what_changes_is_told_and_then_nothing_does(node: Node) -> None:
    apply(node, WEB, deny=["192.0.2.0/24", "2001:db8::1"])
    guarded = {**WEB, "allow": ["198.51.100.0/24"], "new_flows": 9}
    deny = ["198.18.0.0/15", "192.0.2.0/24"]
    for dry in (True, False):
        outcome = module(node, guarded, deny=deny, dry=dry)
        assert outcome.changed
        lines = set(outcome.before) ^ set(outcome.after)
        assert lines == {
            "deny 2001:db8::1/128",
            "deny 198.18.0.0/15",
            "service web: new_flows any",
            "service web: new_flows 9",
            "service web: allow 198.51.100.0/24",
        }
        assert outcome.data["plan"]["writes"] == {
            "denied_prefixes": 1,
            "denied_prefixes_to_remove": 1,
            "allowed_prefixes": 1,
            "guards": 2,
        }
    assert not apply(node, guarded, deny=deny).changed
    assert held(node).deny == set(deny)


def test_list_stays_where_none_is_given(node: Node) -> None:
    apply(node, WEB, deny=["192.0.2.0/24"])
    assert not module(node, WEB).changed
    assert module(node, WEB, SIX).changed
    assert held(node).deny == {"192.0.2.0/24"}
    assert module(node, WEB, SIX, deny=[]).changed
    assert held(node) == Guards()


def test_guards_outlive_the_file_that_has_them(node: Node) -> None:
    places = node.pins, SOURCE, node.state_dir
    guarded = {**WEB, "allow": ["198.51.100.0/24"], "new_flows": 9}
    apply(node, guarded, deny=["192.0.2.0/24"])
    before = held(node)
    (node.state_dir / "services.json").unlink()
    _apply.apply_services({}, [{**SIX, "new_flows": 5}], False, *places)
    after = held(node)
    assert (after.deny, after.allow) == (before.deny, before.allow)
    assert sorted(guard.new_flows for guard in after.services.values()) == [5, 9]


def test_restored_at_boot(node: Node) -> None:
    guarded = {**WEB, "allow": ["198.51.100.0/24"], "new_flows": 9}
    apply(node, guarded, deny=["192.0.2.0/24"])
    before = held(node)
    node.apply({}, [])
    assert held(node) == Guards()
    apply(node, guarded, deny=["192.0.2.0/24"])
    kept = (node.state_dir / "services.json").read_text()
    node.apply({}, [])
    (node.state_dir / "services.json").write_text(kept)
    _restore._restore_services(node.wanted(), node.state_dir)
    assert held(node) == before


def test_mistakes_are_all_told_before_anything_is_written(node: Node) -> None:
    apply(node, WEB, deny=["192.0.2.0/24"])
    with pytest.raises(ConfigError) as caught:
        module(node, {**WEB, "allow": ["nobody"]}, deny=["192.0.2.7/24", "0.0.0.0/0"])
    assert len(caught.value.mistakes) == 3
    assert held(node).deny == {"192.0.2.0/24"}


def test_list_without_room_is_refused(make_node: Callable[..., Node]) -> None:
    sizes = Sizes(ring=251, services=16, pools=8, backends=16, flows=64, deny=3, allow=3)
    node = make_node(sizes=sizes)
    apply(node, WEB, deny=["192.0.2.1", "192.0.2.2"])
    with pytest.raises(GuardError, match=r"has 4 IPv4 prefixes.*room for 3; raise l4lb_max_deny"):
        apply(node, WEB, deny=["192.0.2.3", "192.0.2.4"])
    with pytest.raises(GuardError, match="raise l4lb_max_allow"):
        apply(node, {**WEB, "allow": [f"192.0.2.{i}" for i in range(4)]})
    assert held(node).deny == {"192.0.2.1/32", "192.0.2.2/32"}


# --- death ---


def test_death_at_every_write_never_lets_in_who_may_not(node: Node) -> None:
    """Nor keeps out who may, before and after; any next run converges."""
    client, other = CLIENT4, "203.0.113.200"
    old = [{**WEB, "allow": [f"{client}/32", "192.0.2.0/24"]}], ["203.0.113.192/26"]
    new = [{**WEB, "allow": ["198.51.100.0/24"], "new_flows": 7}, {**SIX, "allow": ["::1:0/112"]}]
    states = {"old": old, "new": (new, ["203.0.113.200", "192.0.2.9"])}
    wanted = {}
    for name in ("new", "old"):
        services, deny = states[name]
        apply(node, *services, deny=deny)
        wanted[name] = held(node)
    packets = {
        "may": from_client(TCP(sport=1, dport=80, flags="A"), src=client),
        "may not": from_client(TCP(sport=1, dport=80, flags="A"), src="192.0.3.1"),
        "denied": from_client(TCP(sport=1, dport=80, flags="A"), src=other),
        "six": from_client(TCP(sport=1, dport=80, flags="A"), ipv6=True),
    }
    for at in itertools.count():
        for successor in ("new", "old"):
            services, deny = states["new"]
            died = dies(lambda s=services, d=deny: apply(node, *s, deny=d), at)
            met = {name: judge(node, packet).verdict for name, packet in packets.items()}
            assert met.pop("six") in ("drop_unserved", "drop_not_allowed", "pass_foreign")
            assert met == {"may": "sent", "may not": "drop_not_allowed", "denied": "drop_denied"}
            services, deny = states[successor]
            apply(node, *services, deny=deny)
            assert held(node) == wanted[successor]
            assert not apply(node, *services, deny=deny).changed
            services, deny = states["old"]
            apply(node, *services, deny=deny)
        if not died:
            break
    assert at > 10


# --- many ---


def test_a_hundred_thousand_prefixes(node: Node) -> None:
    """Written in seconds, a change of one at once."""
    many = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(90_000)]
    many += [f"2001:db8:{i:x}::/48" for i in range(9_999)]
    began = time.monotonic()
    apply(node, WEB, deny=[*many, "198.51.100.0/24"])
    first = time.monotonic() - began
    assert judge(node, syn(4000)).verdict == "drop_denied"
    outcome = apply(node, WEB, deny=many)
    assert outcome.data["plan"]["writes"] == {"denied_prefixes_to_remove": 1}
    assert judge(node, syn(4000)).verdict == "sent"
    denied = from_client(TCP(dport=80), src="10.1.95.143")  # the last of them
    assert judge(node, denied).verdict == "drop_denied"
    outcome = apply(node, WEB, deny=[])
    told = [line for line in outcome.before if line.startswith("deny")]
    assert (len(told), told[-1]) == (_guards.SHOWN + 1, "deny 99899 prefixes more")
    assert first < 60, "a system call for each takes less"


# --- explained ---


def test_explained_as_the_program_does(make_node: Callable[..., Node]) -> None:
    for echo in ("answer", "forward"):
        node = make_node(echo=echo)
        ask = explainer(node)
        kinds = [TCP(sport=1, dport=80), TCP(sport=1, dport=81), UDP(sport=1, dport=80), ICMP()]
        kinds += [SCTP(sport=1, dport=80) / SCTPChunkInit()]
        ranges = ["198.51.100.0/25"], ["2001:db8:3::/64"]
        seen = set()
        for deny in ([], ["198.51.100.2"], ["2001:db8:3::/48"]):
            for allow in (None, *ranges):
                web, six = (
                    {**s, **({"allow": allow} if allow and (":" in allow[0]) == family else {})}
                    for s, family in ((WEB, False), (SIX, True))
                )
                apply(node, web, six, deny=deny)
                for kind, source in itertools.product(kinds, (CLIENT4, "198.51.100.200")):
                    seen.add(check(node, ask, from_client(kind, src=source))["verdict"])
                for kind, source in itertools.product(kinds, (CLIENT6, "2001:db8:3:1::1")):
                    if not isinstance(kind, ICMP):
                        packet = from_client(kind, ipv6=True, src=source)
                        seen.add(check(node, ask, packet)["verdict"])
        assert {"drop_denied", "drop_not_allowed", "sent", "drop_unserved"} <= seen


@pytest.mark.usefixtures("one_cpu")
def test_limit_is_explained_where_all_cpus_have_had_their_part(node: Node) -> None:
    apply(node, {**WEB, "new_flows": 1})
    ask = explainer(node)
    assert check(node, ask, syn(4000))["verdict"] == "sent"
    service = node.tables.actual().services[ServiceKey(VIP4, 80, "tcp")].id
    table = node.tables.table("guard_states")
    cpus = table[service]
    (due,) = (cpu.due for cpu in cpus if cpu.due)
    if _rates.cpus() > 1:
        answer = ask.explain(Packet(CLIENT4, VIP4, "tcp", 4001, 80, True), "eth0")
        assert f"1 of {_rates.cpus()} CPUs have had their part" in " ".join(answer["why"])
    for cpu in cpus:
        cpu.due = due + 3_600_000_000_000
    table[service] = cpus
    answer = check(node, ask, syn(4001))
    assert answer["verdict"] == "drop_limited"
    assert answer["service"]["name"] == "web"


# --- whom no guard refuses ---


@pytest.fixture
def besieged(node: Node) -> Node:
    """Every client is denied, nobody is allowed, and the limit is used up."""
    ranges = {"web": ["192.0.2.250"], "six": ["2001:db8:9::/64"]}
    services = [{**s, "allow": ranges[s["name"]], "new_flows": 1} for s in (WEB, SIX)]
    apply(node, *services, deny=list(EVERYBODY))
    table = node.tables.table("guard_states")
    for service in node.tables.actual().services.values():
        cpus = table[service.id]
        for cpu in cpus:
            cpu.due = time.monotonic_ns() + 3_600_000_000_000
        table[service.id] = cpus
    return node


def test_proof_holds_whatever_guards_say(besieged: Node) -> None:
    prover = Prover(besieged.tables, SOURCE, besieged.pins)
    prover.open(os.dup(besieged.loaded.fd), "eth0", interface("eth0"))
    try:
        before = GuardTables(besieged.tables).dues(0)
        assert [prover.prove(ServiceKey(vip, 80, "tcp")) for vip in (VIP4, VIP6)] == [None, None]
        assert GuardTables(besieged.tables).dues(0) == before
        assert prover.counted != Counted()
    finally:
        prover.close()


def test_golden_packets_pass_and_those_of_guards_do_not(besieged: Node) -> None:
    actual, guards = besieged.tables.actual(), held(besieged)
    fleet = _golden.Fleet(
        actual.services,
        besieged.tables.ring,
        besieged.hash_seed,
        bytes.fromhex(NODE_MAC.replace(":", "")),
        1500,
        {},
        guards.deny,
        set(guards.services),
    )
    cases = _golden.cases(fleet, 10, 2)
    comparer = Comparer(besieged.tables, besieged.loaded.fd, besieged.loaded.fd, interface("eth0"))
    met: dict[str, set[str]] = {}
    for case in cases:
        answers = comparer._once(besieged.loaded.fd, case)
        met.setdefault(case.kind, set()).update(answer.action for answer in answers)
    assert met["denied"] == met["not allowed"] == {"drop"}
    for kind in ("ack", "syn", "options", "vlan", "fragments", "icmp error", "echo"):
        assert met[kind] == {"tx"}, kind


# --- what is told ---


def test_info_and_metrics_tell_what_was_refused(besieged: Node) -> None:
    apply(besieged, {**WEB, "allow": ["192.0.2.250"]}, SIX, deny=["203.0.113.1"])
    before = samples(collector(besieged))
    for port in range(4000, 4003):
        assert judge(besieged, syn(port)).verdict == "drop_not_allowed"
    found = samples(collector(besieged))
    key = "l4lb_service_refused_packets_total", ("web", "not_allowed")
    assert found[key] - before[key] == 3
    assert ("l4lb_service_refused_packets_total", ("six", "not_allowed")) not in found
    told = _info.info(besieged.pins, SOURCE, ["guards", "services"])
    assert told["guards"]["deny"]["prefixes"] == 1
    assert told["guards"]["services"] == {"web": {"new_flows": 0, "allow": 1}}
    assert {s["name"]: s["limited"] for s in told["services"]} == {"web": 0, "six": 0}


def test_records_limit_survives_what_services_write(make_node: Callable[..., Node]) -> None:
    node = make_node(new_records=500)
    apply(node, WEB, deny=["192.0.2.0/24"])
    assert node.tables.settings()["new_records"] == 500
    assert not _program.prepare(node.wanted(), dry=True).changed
    assert _program.prepare(node.wanted(new_records=7)).changed
    assert held(node).on == {"deny"}


@pytest.mark.usefixtures("one_cpu")
def test_proof_holds_while_no_record_is_to_be_had(make_node: Callable[..., Node]) -> None:
    """In slots that have changed, with a flood that took all records of this second."""
    node = make_node(new_records=1)
    a, b = {"address": A}, {"address": B}
    pools = {"web": {"backends": [a]}}
    node.apply(pools, [WEB])
    pools = {"web": {"backends": [{**a, "state": "draining"}, b]}}
    node.apply(pools, [WEB])
    table = node.tables.table("record_states")
    cpus = table[0]
    for cpu in cpus:
        cpu.due = time.monotonic_ns() + 3_600_000_000_000
    table[0] = cpus
    prover = Prover(node.tables, SOURCE, node.pins)
    prover.open(os.dup(node.loaded.fd), "eth0", interface("eth0"))
    try:
        assert prover.prove(ServiceKey(VIP4, 80, "tcp")) is None
    finally:
        prover.close()
