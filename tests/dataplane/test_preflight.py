# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight on real interfaces, routes and maps: it sees what is there, and changes nothing."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _links, _program, _schema
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_memory as memory
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_see_host as see_host
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_see_links as see_links
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_see_paths as see_paths
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight import PreflightFailed, preflight
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_links import NATIVE

from .node import NODE4, NODE6, SIZES, SOURCE, VIP4, VIP6, Node, interface

NEAR4, NEAR6, FAR4 = "192.0.2.71", "2001:db8:2::71", "192.0.2.130"
UNREACHABLE4, NOWHERE4 = "192.0.2.200", "198.18.0.1"
SERVICES = [{"name": "web", "address": VIP4, "port": 80, "protocol": "tcp", "pool": "web"}]

Checks = list[dict[str, str]]


def arguments(pins: Path, *backends: str, **changes: Any) -> dict[str, Any]:
    usual = {
        "interfaces": ["eth0"],
        "mode": "native",
        "replace_foreign": False,
        "ring_size": SIZES.ring,
        "max_services": SIZES.services,
        "max_pools": SIZES.pools,
        "max_backends": SIZES.backends,
        "max_flows": SIZES.flows,
        "max_deny": SIZES.deny,
        "max_allow": SIZES.allow,
        "source_ipv4": NODE4,
        "source_ipv6": NODE6,
        "pools": {"web": {"backends": [{"address": address} for address in backends or (NEAR4,)]}},
        "services": SERVICES,
        "client_mtu": 1400,
        "fail_on": "never",
        "source": str(SOURCE),
        "pins": str(pins),
    }
    return {**usual, **changes}


def look(pins: Path, *backends: str, **changes: Any) -> Checks:
    outcome = preflight(arguments(pins, *backends, **changes))
    assert not outcome.changed
    return outcome.data["checks"]


def status(checks: Checks, name: str, subject: str | None = None) -> str:
    (found,) = (
        check["status"]
        for check in checks
        if check["name"] == name and subject in (None, check["subject"])
    )
    return found


@pytest.fixture
def mtu() -> Iterator[Any]:
    """Sets an interface's MTU for the test."""

    def set_mtu(name: str, size: int) -> None:
        with IPRoute() as ip:
            ip.link("set", index=interface(name), mtu=size)

    yield set_mtu
    for name in ("eth0", "router"):
        set_mtu(name, 1500)


@pytest.fixture
def attach() -> Iterator[Any]:
    """Attaches somebody else's program for the test; returns what it is in the kernel."""
    kept = []

    def attach_pass(name: str) -> _bpf.ProgramInfo:
        compiled = _bpf.BPF(text=b"int other(struct xdp_md *ctx) { return XDP_PASS; }")
        function = compiled.load_func(b"other", _bpf.BPF.XDP)
        _bpf.attach_xdp(interface(name), function.fd, "native", None)
        kept.append((name, function.fd))
        return _bpf.program_info(function.fd)

    yield attach_pass
    for name, fd in kept:
        _bpf.attach_xdp(interface(name), -1, "native", fd)


def test_healthy_node_has_nothing_to_mend(pins: Path, attach: Any) -> None:
    """All but what depends on the machine below: its clock."""
    attach("router")
    checks = look(pins, NEAR4, NEAR6)
    bad = [c for c in checks if c["status"] in ("failed", "warning") and c["name"] != "clock"]
    assert bad == []
    assert [c for c in checks if c["status"] == "skipped"] == []
    names = {check["name"] for check in checks}
    assert len(names) == 21, "every check but `interface`, which only complains"


def test_native_xdp_of_veth_is_told_by_the_kernel(pins: Path) -> None:
    assert see_links.links(["eth0"])["eth0"].driver == "veth"
    assert status(look(pins), "native_xdp", "eth0") == "ok"
    assert see_links.xdp_features(interface("lo")) == 0
    assert status(look(pins, interfaces=["lo"]), "native_xdp", "lo") == "failed"


def test_interface_that_does_not_exist_is_named_with_those_that_do(pins: Path) -> None:
    checks = look(pins, interfaces=["eth0", "eth7"])
    (check,) = (check for check in checks if check["name"] == "interface")
    assert (check["subject"], check["status"]) == ("eth7", "failed")
    assert "eth0, eth1" in check["found"]


def test_drivers_limit_is_the_one_at_which_it_refuses(pins: Path, mtu: Any, attach: Any) -> None:
    limit = NATIVE["veth"]
    assert limit is not None
    mtu("router", limit + 1)
    assert status(look(pins), "xdp_mtu", "eth0") == "failed"
    with pytest.raises(_bpf.BpfError):
        attach("eth0")
    mtu("router", limit)
    assert status(look(pins), "xdp_mtu", "eth0") == "ok"
    attach("eth0")


def test_too_small_mtu_is_found_where_packets_leave(pins: Path, mtu: Any) -> None:
    def seen(client_mtu: int) -> list[str]:
        checks = look(pins, NEAR4, NEAR6, client_mtu=client_mtu)
        return [check["status"] for check in checks if check["name"] == "mtu"]

    assert seen(1500) == ["failed", "failed"]
    assert seen(1480) == ["ok", "failed"]
    mtu("eth0", 1540)
    assert seen(1500) == ["ok", "ok"]


def test_mtu_of_a_route_counts() -> None:
    route = {"dst": "198.18.1.0/24", "gateway": "192.0.2.1", "metrics": {"mtu": 1300}}
    with IPRoute() as ip:
        ip.route("add", **route)
        try:
            (path,) = see_paths.paths(["198.18.1.7"])
        finally:
            ip.route("del", dst=route["dst"])
    assert (path.interface, path.next_hop, path.mtu) == ("eth0", "192.0.2.1", 1300)


def test_foreign_program_is_told_from_ours(pins: Path, attach: Any) -> None:
    assert status(look(pins), "foreign_program", "eth0") == "ok"
    attach("eth0")
    assert status(look(pins), "foreign_program", "eth0") == "failed"
    assert status(look(pins, replace_foreign=True), "foreign_program", "eth0") == "ok"


def test_our_own_program_is_no_hindrance(make_node: Any, pins: Path) -> None:
    node: Node = make_node()
    _program.attach(node.loaded)
    try:
        checks = look(pins)
    finally:
        _program.release(node.wanted(), ["eth0"])
    assert status(checks, "foreign_program", "eth0") == "ok"
    assert status(checks, "native_xdp", "eth0") == "ok"
    assert _links.xdp("eth0").program_id is None


@pytest.mark.parametrize("where", [("lo", 32, "warning"), ("lo", 24, "failed")])
def test_service_address_on_the_node_is_found(pins: Path, where: tuple[str, int, str]) -> None:
    name, prefix, expected = where
    assert status(look(pins), "service_addresses") == "ok"
    with IPRoute() as ip:
        ip.addr("add", index=interface(name), address=VIP4, prefixlen=prefix)
        try:
            checks = look(pins)
        finally:
            ip.addr("del", index=interface(name), address=VIP4, prefixlen=prefix)
    assert status(checks, "service_addresses", VIP4) == expected


def test_source_that_is_no_address_of_the_node_is_found(pins: Path) -> None:
    assert status(look(pins), "tunnel_source", "source_ipv4") == "ok"
    assert status(look(pins, source_ipv4="192.0.2.12"), "tunnel_source", "source_ipv4") == "warning"


def test_backends_without_a_route_are_found(pins: Path) -> None:
    checks = look(pins, NEAR4, UNREACHABLE4, NOWHERE4)
    found = [check["found"] for check in checks if check["name"] == "routes"]
    assert found == [
        f"an unreachable route to 1 backend: {UNREACHABLE4}",
        f"no route to 1 backend: {NOWHERE4}",
    ]


def test_ipv4_backend_behind_an_ipv6_router_has_that_next_hop() -> None:
    via = {"family": socket.AF_INET6, "addr": "2001:db8:1::1"}
    with IPRoute() as ip:
        ip.route("add", dst="198.18.2.0/24", via=via, oif=interface("eth0"))
        try:
            (path,) = see_paths.paths(["198.18.2.7"])
        finally:
            ip.route("del", dst="198.18.2.0/24")
    assert (path.next_hop, path.neighbour) == ("2001:db8:1::1", "permanent")


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("unreachable", "2001:db8:9::1"),
        ("blackhole", "2001:db8:9::1"),
        ("prohibit", "2001:db8:9::1"),
        ("blackhole", "198.18.9.1"),
        ("prohibit", "198.18.9.1"),
    ],
)
def test_every_kind_of_refusing_route_is_told(kind: str, address: str) -> None:
    prefix = f"{address}/{128 if ':' in address else 32}"
    with IPRoute() as ip:
        ip.route("add", dst=prefix, type=kind)
        try:
            (path,) = see_paths.paths([address])
        finally:
            ip.route("del", dst=prefix, type=kind)
    assert kind[:8] in path.refused


def test_backend_that_is_the_node_itself_is_delivered_here() -> None:
    (path,) = see_paths.paths([NODE4])
    assert path.local
    assert not path.leaves


@pytest.mark.parametrize(
    ("state", "expected"),
    [("reachable", "ok"), ("stale", "ok"), ("failed", "warning"), (None, "unknown")],
)
def test_state_of_the_neighbour_is_read_and_nobody_asked(
    pins: Path, state: str | None, expected: str
) -> None:
    neighbour = {"dst": "192.0.2.150", "ifindex": interface("eth1")}
    with IPRoute() as ip:
        if state:
            ip.neigh("replace", lladdr="02:00:00:00:00:33", state=state, **neighbour)
        try:
            checks = look(pins, "192.0.2.150")
            asked = [n for n in ip.get_neighbours() if n.get_attr("NDA_DST") == "192.0.2.150"]
        finally:
            if state:
                ip.neigh("del", **neighbour)
    assert status(checks, "neighbours", "eth1") == expected
    assert bool(asked) == bool(state)


def test_veth_whose_peer_takes_nothing_is_found(pins: Path, attach: Any) -> None:
    assert status(look(pins, FAR4), "redirect", "eth1") == "warning"
    attach("far")
    assert status(look(pins, FAR4), "redirect", "eth1") == "ok"


def memlock(fd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    return int(re.findall(r"memlock:\s*(\d+)", text)[0])


def test_estimate_of_memory_follows_the_schema_and_the_kernel(node: Node) -> None:
    """MAPS and bpf/maps.h say the same, and the sum is what the kernel took."""
    cpus, taken = see_host.possible_cpus(), 0
    for name, (_kind, key, value, size) in memory.MAPS.items():
        fd = _bpf.open_pin(node.pins / name)
        assert fd is not None, name
        with _bpf.closing(fd):
            info = _bpf.map_info(fd)
            taken += memlock(fd)
        entries = getattr(node.sizes, size)
        assert info.key_size == key, name
        assert info.value_size * info.max_entries == value * entries, name
    small = {"balancer", "schema", "settings", "verdicts", "fragments", "budgets"}
    small |= {"address_filter", "tracing", "trace_lost", "trace_events", "record_states"}
    small |= {"deny4", "deny6", "allow4", "allow6"}  # as large as what is in them
    known = {*memory.MAPS, *small}
    assert {path.name for path in node.pins.iterdir() if "." not in path.name} <= known
    slack = memory.MAP_OVERHEAD * len(memory.MAPS)
    assert taken <= memory.maps_bytes(node.sizes, cpus) <= taken * 1.02 + slack


def test_maps_and_rings_that_are_there_are_counted(node: Node) -> None:
    assert see_host.memory(node.pins, privileged=True).rings == 0
    node.serve(NEAR4)
    have = see_host.memory(node.pins, privileged=True)
    assert (have.maps, have.rings) == (True, 1)
    assert have.available > 0


def test_maps_of_other_sizes_are_found_before_anything_is_refused(node: Node) -> None:
    assert status(look(node.pins), "maps") == "ok"
    checks = look(node.pins, ring_size=1021)
    (check,) = (check for check in checks if check["name"] == "maps")
    assert check["status"] == "failed"
    assert "ring 251 -> 1021" in check["found"]
    assert "detached" in check["remedy"]


def test_maps_of_another_layout_are_found_before_the_release_that_made_them_is_written_over(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_schema, "LAYOUT", 99)
    (check,) = (check for check in look(node.pins) if check["name"] == "maps")
    assert check["status"] == "failed"
    assert "with l4lb.xdp.upgrade (l4lb_relayout=true)" in check["found"]


def test_failure_carries_what_was_seen(pins: Path) -> None:
    with pytest.raises(PreflightFailed, match=r"no route to 1 backend: 198\.18\.0\.1; add") as seen:
        preflight(arguments(pins, NOWHERE4, fail_on="failed"))
    assert {"checks", "environment", "summary"} == set(seen.value.data)
    assert seen.value.data["summary"]["failed"] == 1


def test_runs_where_no_library_is_installed(pins: Path) -> None:
    """As on a host that no role has prepared: Python, and nothing that was installed with it."""
    package = Path(_links.__file__).parents[5]  # the directory that has ansible_collections
    code = (
        "import json, sys;"
        "from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight;"
        "print(json.dumps(_preflight.preflight(json.load(sys.stdin)).data))"
    )
    given = json.dumps(arguments(pins, services=[{"address": VIP6}]))
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code],
        input=given,
        env={"PYTHONPATH": str(package), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    data = json.loads(ran.stdout)
    assert data["summary"]["failed"] == 0
    assert status(data["checks"], "libraries", "bcc") == "skipped"
    assert status(data["checks"], "xdp_mtu", "eth0") == "skipped"
    assert status(data["checks"], "neighbours") == "skipped"
    assert status(data["checks"], "native_xdp", "eth0") == "ok"
    assert status(data["checks"], "memory") == "ok"


@pytest.fixture
def link_of() -> Iterator[Any]:
    """Makes interfaces for the test."""
    made = []

    def make(kind: str, name: str, **fields: Any) -> int:
        with IPRoute() as ip:
            ip.link("add", ifname=name, kind=kind, **fields)
            made.append(ip.link_lookup(ifname=name)[0])
        return int(made[-1])

    yield make
    with IPRoute() as ip:
        for index in reversed(made):
            ip.link("del", index=index)


def test_kinds_of_interfaces_are_told_by_the_kernel(pins: Path, link_of: Any) -> None:
    link_of("macvlan", "above", link=interface("eth0"))
    link_of("tuntap", "point", mode="tun")
    link_of("tuntap", "frames", mode="tap")
    bridge = link_of("bridge", "br0")
    port = link_of("veth", "port", peer="other")
    with IPRoute() as ip:
        ip.link("set", index=port, master=bridge)
    names = ["above", "br0", "eth0", "frames", "point", "port"]
    seen = {name: link.shape for name, link in see_links.links(names).items()}
    assert {name: shape.kind for name, shape in seen.items() if shape} == {
        "above": "macvlan",
        "br0": "bridge",
        "eth0": "veth",
        "frames": "tun",
        "point": "tun",
        "port": "veth",
    }
    assert (seen["above"].lower, seen["port"].master_kind) == ("eth0", "bridge")
    checks = look(pins, interfaces=names)
    assert {name: status(checks, "link_kind", name) for name in names} == {
        "above": "failed",
        "br0": "failed",
        "eth0": "ok",
        "frames": "ok",
        "point": "failed",
        "port": "failed",
    }
    (check,) = (c for c in checks if (c["name"], c["subject"]) == ("link_kind", "port"))
    assert "take it out of br0" in check["remedy"]


def test_refused_kind_gets_no_program(make_node: Any, link_of: Any) -> None:
    """Nor does any other interface then: all are looked at before one is touched."""
    node = make_node()
    bridge = link_of("bridge", "br0")
    port = link_of("veth", "port", peer="other")
    with IPRoute() as ip:
        ip.link("set", index=port, master=bridge)
    wanted = node.wanted(interfaces=("eth0", "port"))
    with pytest.raises(_program.ProgramError, match=r"port: a port of br0.*; take it out of br0"):
        _program.attach(replace(node.loaded, wanted=wanted))
    assert _links.xdp("eth0").mode is None
    decap = replace(wanted, name="decap", interfaces=("port",))
    _program.require_attachable(decap, decap.interfaces)
