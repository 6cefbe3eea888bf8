# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules and routes of probes: those of the addresses asked for and no others, and this program's,
whichever process made them.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _links, _probe
from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import HealthCheck
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._probe import ProbeError, Probes
from l4lb_agent.checks import Subject, Target, ask

from .hosts import Host, connect
from .node import NODE4, NODE6, SIZES, SOURCE, VIP4, VIP6, Node

MORE4, MORE6 = "203.0.113.11", "2001:db8:100::11"

OTHER_PROCESS = """
import pathlib, sys
from ansible_collections.l4lb.xdp.plugins.module_utils._probe import Probes
from tests.dataplane.node import SIZES
pins, source, *addresses = sys.argv[1:]
probes = Probes(pathlib.Path(pins), pathlib.Path(source), SIZES)
print(probes.program, len(probes.sync(addresses, None, None)))
"""


@pytest.fixture(scope="module")
def loaded(shared_node: Node) -> Probes:
    return Probes(shared_node.pins, SOURCE, SIZES)


@pytest.fixture(autouse=True)
def host() -> Iterator[Host]:
    """A host with both source addresses on eth0 and a way out; the test runs there."""
    node, router = Host(), Host()
    for each in (node, router):
        each.quiet()
    connect(router, "node", node, "eth0")
    node.address("eth0", f"{NODE4}/26", f"{NODE6}/64")
    node.route("0.0.0.0/0", gateway="192.0.2.1")
    node.route("::/0", gateway="2001:db8:1::1")
    with node.inside():
        yield node
    for each in (node, router):
        each.close()


def held() -> dict[str, _probe.Route]:
    """Our routes in this namespace."""
    with _links.netlink() as ip:
        return {
            address: route
            for family in _probe.FAMILIES
            for address, route in _probe.routes(ip, family).items()
        }


def rules() -> int:
    """Ours and others', without those of each namespace."""
    with _links.netlink() as ip:
        found = [rule for family in _probe.FAMILIES for rule in ip.get_rules(family=family)]
    return sum(rule.get_attr("FRA_TABLE") not in (253, 254, 255) for rule in found)


def test_routes_are_those_of_the_addresses(host: Host, loaded: Probes) -> None:
    assert loaded.sync([VIP4, VIP6], NODE4, NODE6) == [
        f"{VIP4}: route added",
        "rule to table 20020 added (IPv4)",
        f"{VIP6}: route added",
        "rule to table 20020 added (IPv6)",
    ]
    eth0 = host.index("eth0")
    assert held() == {
        VIP4: _probe.Route(eth0, loaded.program, NODE4, 1280),
        VIP6: _probe.Route(eth0, loaded.program, NODE6, 1280),
    }
    assert loaded.sync([VIP6, VIP4], NODE4, NODE6) == []
    assert loaded.sync([MORE4, VIP6, MORE6], NODE4, NODE6) == [
        f"{MORE4}: route added",
        f"{VIP4}: route removed",
        f"{MORE6}: route added",
    ]
    assert set(held()) == {MORE4, VIP6, MORE6}
    assert rules() == 2


def test_same_address_written_otherwise_is_the_same(loaded: Probes) -> None:
    loaded.sync([VIP6], NODE4, NODE6)
    assert loaded.sync(["2001:0DB8:100:0::0010"], NODE4, "2001:db8:1:0:0::11") == []


def test_without_addresses_of_a_family_its_source_does_not_matter(loaded: Probes) -> None:
    loaded.sync([VIP4, VIP6], NODE4, NODE6)
    assert loaded.sync([VIP4], NODE4, "2001:db8:1::99") == [f"{VIP6}: route removed"]


def test_remove_takes_all_and_then_nothing(loaded: Probes) -> None:
    loaded.sync([VIP4, VIP6], NODE4, NODE6)
    assert len(_probe.remove()) == 4
    assert (held(), rules()) == ({}, 0)
    assert _probe.remove() == []
    loaded.sync([VIP4], NODE4, NODE6)
    loaded.remove()
    assert (held(), rules()) == ({}, 0)


def test_routes_and_rules_of_others_stay(host: Host, loaded: Probes) -> None:
    with _links.netlink() as ip:
        ip.route("add", dst="198.51.100.0/24", table=_probe.TABLE, oif=host.index("eth0"))
        ip.rule("add", table=_probe.TABLE, priority=77, family=socket.AF_INET)
        loaded.sync([VIP4], NODE4, NODE6)
        loaded.sync([], NODE4, NODE6)
        loaded.remove()
        assert len(ip.get_routes(family=socket.AF_INET, table=_probe.TABLE)) == 1
    assert rules() == 1


def test_what_somebody_took_away_is_put_back(loaded: Probes) -> None:
    loaded.sync([VIP4, VIP6], NODE4, NODE6)
    with _links.netlink() as ip:
        ip.rule("del", table=_probe.TABLE, priority=_probe.PRIORITY, iifname="lo")
        ip.route("del", dst=f"{VIP6}/128", table=_probe.TABLE)
    assert loaded.sync([VIP4, VIP6], NODE4, NODE6) == [
        "rule to table 20020 added (IPv4)",
        f"{VIP6}: route added",
    ]


def test_routes_come_back_after_their_interface(host: Host, loaded: Probes) -> None:
    loaded.sync([VIP4, VIP6], NODE4, NODE6)
    host.up("eth0", "down")
    assert held() == {}
    with pytest.raises(ProbeError, match="is down: bring it up"):
        loaded.sync([VIP4, VIP6], NODE4, NODE6)
    host.up("eth0")
    assert len(loaded.sync([VIP4, VIP6], NODE4, NODE6)) == 2
    assert set(held()) == {VIP4, VIP6}


@pytest.mark.parametrize("harm", ["rule", "interface", "routes"])
def test_what_takes_all_is_seen_at_a_glance(host: Host, loaded: Probes, harm: str) -> None:
    host.route(f"{VIP6}/128", type="unreachable")
    loaded.sync([VIP4, VIP6, MORE6], NODE4, NODE6)
    assert loaded.intact()
    if harm == "rule":
        with _links.netlink() as ip:
            ip.rule("del", table=_probe.TABLE, priority=_probe.PRIORITY, family=socket.AF_INET6)
    elif harm == "interface":
        host.up("eth0", "down")
        host.up("eth0")
    else:
        _probe.remove()
    assert not loaded.intact()
    loaded.sync([VIP4, VIP6, MORE6], NODE4, NODE6)
    assert loaded.intact()


def test_without_addresses_nothing_is_missing(loaded: Probes) -> None:
    loaded.sync([], NODE4, NODE6)
    assert loaded.intact()


def another_process(node: Node, source: Path, *addresses: str) -> tuple[str, int]:
    """Syncs and ends; the program's name, and how much it changed."""
    run = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(node.pins), str(source), *addresses],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    program, changed = run.stdout.split()
    return program, int(changed)


def test_routes_of_the_same_program_by_an_earlier_process_stay(
    shared_node: Node, loaded: Probes
) -> None:
    assert another_process(shared_node, SOURCE, VIP4, VIP6) == (loaded.program, 4)
    assert loaded.sync([VIP4, VIP6], None, None) == []


def test_routes_of_another_version_are_replaced(
    shared_node: Node, loaded: Probes, tmp_path: Path
) -> None:
    shutil.copytree(SOURCE, tmp_path / "bpf")
    other = tmp_path / "bpf" / "probe.c"
    text = other.read_text()
    assert "return BPF_LWT_REROUTE" in text
    other.write_text(text.replace("return BPF_LWT_REROUTE", "return BPF_DROP"))
    program, changed = another_process(shared_node, tmp_path / "bpf", VIP4, VIP6, MORE6)
    assert (changed, {route.program for route in held().values()}) == (5, {program})
    assert loaded.sync([VIP4, VIP6], None, None) == [
        f"{VIP4}: route replaced",
        f"{VIP6}: route replaced",
        f"{MORE6}: route removed",
    ]
    assert {route.program for route in held().values()} == {loaded.program} != {program}


def test_source_address_on_the_loopback_leads_by_the_default_route(
    host: Host, loaded: Probes
) -> None:
    host.address("lo", "198.51.100.1", "2001:db8:3::1")
    loaded.sync([VIP4, VIP6], "198.51.100.1", "2001:db8:3::1")
    assert {(route.interface, route.source) for route in held().values()} == {
        (host.index("eth0"), "198.51.100.1"),
        (host.index("eth0"), "2001:db8:3::1"),
    }


def test_source_address_that_moved_moves_the_routes(host: Host, loaded: Probes) -> None:
    loaded.sync([VIP4], NODE4, NODE6)
    host.address("eth0", "192.0.2.12/26")
    assert loaded.sync([VIP4], "192.0.2.12", NODE6) == [f"{VIP4}: route replaced"]


def test_missing_source_address_is_named(loaded: Probes) -> None:
    with pytest.raises(ProbeError, match=r"192\.0\.2\.99.*balancer_source_ipv4"):
        loaded.sync([VIP4], "192.0.2.99", NODE6)


def test_without_a_source_any_address_of_the_family_will_do(host: Host, loaded: Probes) -> None:
    eth0 = host.index("eth0")
    wanted = {
        VIP4: _probe.Route(eth0, loaded.program, None),
        VIP6: _probe.Route(eth0, loaded.program, None),
    }
    loaded.sync([VIP4, VIP6], None, None)
    assert held() == wanted
    host.unroute("0.0.0.0/0", gateway="192.0.2.1")
    host.unroute("::/0", gateway="2001:db8:1::1")
    assert loaded.sync([VIP4, VIP6], None, None) == []
    assert held() == wanted


@pytest.mark.parametrize("lasting", ["", "fe80::11/64"])
def test_family_in_which_the_node_has_no_address_has_no_routes_and_the_other_works(
    host: Host, loaded: Probes, lasting: str
) -> None:
    host.unroute("::/0", gateway="2001:db8:1::1")
    host.unaddress("eth0", f"{NODE6}/64")
    if lasting:
        host.address("eth0", lasting)
    assert loaded.sync([VIP4, VIP6], NODE4, None) == [
        f"{VIP4}: route added",
        "rule to table 20020 added (IPv4)",
    ]
    assert set(held()) == {VIP4}
    assert loaded.intact()
    host.address("eth0", f"{NODE6}/64")
    assert f"{VIP6}: route added" in loaded.sync([VIP4, VIP6], NODE4, None)


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_where_the_node_has_no_address_it_says_that_it_cannot_ask(
    host: Host, loaded: Probes, kind: str, guarded: bool
) -> None:
    host.unroute("::/0", gateway="2001:db8:1::1")
    host.unaddress("eth0", f"{NODE6}/64")
    if guarded:
        host.route(f"{VIP6}/128", type="unreachable")
    loaded.sync([VIP4, VIP6], NODE4, None)
    subject = Subject("web", "192.0.2.71", HealthCheck(kind), ())
    answer = asyncio.run(ask(subject, Target(VIP6, 80, _probe.mark(1))))
    assert (answer.ok, answer.local) == (False, True)
    why = "no route to host" if guarded else "network is unreachable"
    assert answer.text == f"cannot ask: this node has no IPv6 address to ask from ({why})"


def test_routes_go_with_the_last_address_of_their_family(host: Host, loaded: Probes) -> None:
    loaded.sync([VIP4, VIP6], NODE4, None)
    host.unaddress("eth0", f"{NODE6}/64")
    assert loaded.sync([VIP4, VIP6], NODE4, None) == [f"{VIP6}: route removed"]


def test_source_on_the_loopback_without_a_default_route_is_said_with_the_remedy(
    host: Host, loaded: Probes
) -> None:
    host.address("lo", "2001:db8:3::1")
    host.unroute("::/0", gateway="2001:db8:1::1")
    with pytest.raises(ProbeError, match=r"balancer_source_ipv6.*via: direct"):
        loaded.sync([VIP6], NODE4, "2001:db8:3::1")


def test_without_a_balancer_there_are_no_probes(pins: Path) -> None:
    with pytest.raises(L4lbError, match=r"no balancer is prepared.*l4lb\.xdp\.program"):
        Probes(pins, SOURCE, SIZES)
    assert not (pins / "backends").exists()
