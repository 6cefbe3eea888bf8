# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate sees on a node whose program, maps, routes and neighbours are real."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _applied,
    _bpf,
    _health,
    _program,
    _rings,
    _wanted,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._health import Health
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import ServiceKey
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._node_state import NodeState
from ansible_collections.l4lb.xdp.plugins.module_utils._proof import Counted, Prover
from l4lb_agent import gate as gate_module
from l4lb_agent.gate import Findings, Gate, announcements
from l4lb_agent.options import Options

from .expect import REAL4
from .node import ROUTER_MAC, SOURCE, VIP4, VIP6, Node, interface

FAR4, ROUTER4 = "192.0.2.130", "192.0.2.1"
NAMES = {"tcp0", "tcp1", "udp0", "udp1"}


@dataclass
class Bench:
    """A node with the program attached and the gate of its agent. now: the gate's clock."""

    node: Node
    options: Options
    gate: Gate
    now: float = 1000.0

    @property
    def fleet(self) -> Fleet:
        return parse(**(_applied.applied_services(self.options.state_dir) or {}))

    def turn(self, turns: int = 1, **known: Any) -> Findings:
        """As the steward does it, twice a second. known: what else it gives the gate."""
        fleet = self.fleet
        known.setdefault("healthy", {pool.name: 1 for pool in fleet.pools})
        for _turn in range(turns):
            self.now += 0.5
            found = self.gate.check(fleet, now=self.now, **known)
        return found

    def well(self) -> None:
        found = self.turn(3)
        assert (found.node, found.services, found.pools, found.unproven) == ([], {}, {}, set())


@pytest.fixture(scope="module")
def prover(shared_node: Node) -> Prover:
    """Compiled once."""
    return Prover(shared_node.tables, SOURCE, shared_node.pins)


@pytest.fixture
def bench(
    node: Node, prover: Prover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    monkeypatch.setattr(gate_module, "BURST", 60.0)  # however slow the machine is
    attach(node)
    _wanted.remember(node.wanted(), node.state_dir)
    node.serve(REAL4, FAR4)
    prover.counted = Counted()
    options = Options(node.pins, SOURCE, node.state_dir, tmp_path / "run")
    made = Bench(node, options, Gate(options, node.tables, prover))
    try:
        yield made
    finally:
        made.gate.close()
        _program.release(node.wanted(), ["eth0"])


def attach(node: Node) -> None:
    """As l4lb.xdp.program does, with what is loaded already."""
    _program.attach(node.loaded)


def test_node_that_forwards_is_well_after_the_hold(bench: Bench) -> None:
    found = bench.turn()
    assert (found.node, found.services, found.unproven) == ([], {}, set())
    assert found.hold_until == bench.now + 5
    bench.well()
    assert bench.turn().hold_until == found.hold_until


# --- the program ---


def test_program_that_was_detached_by_hand_is_seen_at_the_next_turn(bench: Bench) -> None:
    bench.well()
    _program.release(bench.node.wanted(), ["eth0"])
    (reason,) = bench.turn().node
    assert reason.startswith("eth0 runs no XDP program: l4lb.xdp.program attaches it")
    attach(bench.node)
    found = bench.turn()
    assert (found.node, found.hold_until) == ([], bench.now + 5)
    bench.well()


def test_program_that_is_being_replaced_refutes_nothing(bench: Bench) -> None:
    bench.well()
    with writer(bench.options.state_dir, "l4lb.xdp.program"):
        _program.release(bench.node.wanted(), ["eth0"])
        bench.well()

    assert "eth0 runs no XDP program" in bench.turn().node[0]


def test_foreign_program_is_named(bench: Bench) -> None:
    bench.well()
    _program.release(bench.node.wanted(), ["eth0"])
    with foreign("eth0"):
        (reason,) = bench.turn().node
    assert reason.startswith("eth0 runs another XDP program (stranger, id ")


def test_other_mode_than_wanted_is_named(bench: Bench) -> None:
    bench.well()
    fd = bench.gate._watch.open()
    _program.release(bench.node.wanted(), ["eth0"])
    _bpf.attach_xdp(interface("eth0"), fd, "generic", None)
    os.close(fd)
    (reason,) = bench.turn().node
    assert reason.startswith("eth0 runs the balancer in mode generic, not native")


def test_pin_that_is_gone_is_named(bench: Bench) -> None:
    bench.well()
    (bench.node.pins / "balancer").unlink()
    (reason,) = bench.turn().node
    assert reason.startswith(f"no program is pinned at {bench.node.pins}/balancer")


def test_interface_that_is_gone_is_named(bench: Bench) -> None:
    wanted = bench.node.wanted(interfaces=("eth0", "eth7"))
    _wanted.remember(wanted, bench.node.state_dir)
    assert bench.turn().node == ["there is no interface eth7, which should run the balancer"]


def test_links_that_come_and_go_do_not_disturb_the_look(bench: Bench) -> None:
    """A list of all links breaks off when they do."""
    with IPRoute() as ip:
        for number in range(60):
            ip.link("add", ifname=f"some{number}", kind="veth", peer=f"peer{number}")
    ended = threading.Event()
    thread = threading.Thread(target=_come_and_go, args=(ended,))
    thread.start()
    try:
        for _look in range(200):
            assert bench.gate._watch.look().reasons == ()
    finally:
        ended.set()
        thread.join()
        with IPRoute() as ip:
            for number in range(60):
                ip.link("del", ifname=f"some{number}")


def _come_and_go(ended: threading.Event) -> None:
    with IPRoute() as ip:
        while not ended.is_set():
            ip.link("add", ifname="comes", kind="veth", peer="goes")
            ip.link("del", ifname="comes")


def test_look_that_fails_once_refutes_nothing(bench: Bench) -> None:
    file = bench.node.state_dir / "program-balancer.json"
    text = file.read_text()
    for started in (bench.gate, Gate(bench.options, bench.node.tables, bench.gate._prover)):
        bench.gate = started
        file.write_text("{}")
        found = bench.turn()
        assert (found.node, found.unproven) == ([], NAMES)
        file.write_text(text)
        bench.well()
        file.write_text("{}")
        assert bench.turn().node == []
        (reason,) = bench.turn().node
        assert reason.startswith("cannot look at the program: ")
        file.write_text(text)
        bench.well()


def test_node_where_nothing_was_applied_says_so(bench: Bench) -> None:
    (bench.node.state_dir / "program-balancer.json").unlink()
    assert bench.turn().node == ["no balancer was applied on this node: run l4lb.xdp.program"]


def test_program_that_was_replaced_is_proven_anew(bench: Bench, tmp_path: Path) -> None:
    bench.well()
    source = tmp_path / "source"
    shutil.copytree(SOURCE, source)
    header = source / "encap.h"
    header.write_text(header.read_text().replace("#define TTL 64", "#define TTL 63"))
    mutant = _program.prepare(bench.node.wanted(source=source))
    _program.attach(mutant)
    assert bench.turn().unproven == NAMES
    found = bench.turn()
    assert found.node == []
    assert set(found.services) == NAMES
    assert all("as it must" in reason for (reason,) in found.services.values())
    assert found.hold_until == bench.now + 4.5
    bench.node.loaded.wanted.pins.joinpath("balancer").unlink()
    _bpf.attach_xdp(interface("eth0"), bench.node.loaded.fd, "native", mutant.fd)
    attach(bench.node)
    bench.well()


# --- maps ---


def test_ring_that_was_deleted_is_seen(bench: Bench) -> None:
    bench.well()
    tables = bench.node.tables
    (pool,) = tables.actual().pools
    _bpf.delete(tables.table("rings").map_fd, tables.table("rings").Key(pool), "")
    found = bench.turn(4)
    assert set(found.services) == NAMES
    assert found.services["tcp0"][0].startswith("no backend of pool web is active")


def test_service_that_was_removed_by_hand_is_seen(bench: Bench) -> None:
    bench.well()
    bench.node.lose(ServiceKey(VIP4, 80, "tcp"))
    found = bench.turn(4)
    assert set(found.services) == {"tcp0"}
    assert "no service of this node takes tcp 203.0.113.10:80" in found.services["tcp0"][0]


def test_entry_that_was_changed_by_hand_is_seen_within_a_minute(bench: Bench) -> None:
    bench.well()
    tables = bench.node.tables
    (index,) = (i for i, b in tables.actual().backends.items() if b.address == FAR4)
    backend = tables.actual().backends[index]
    tables.put_backend(index, backend.__class__(**{**vars(backend), "weight": 7}), fresh=False)
    assert bench.turn(2).services == {}, "it still forwards"
    bench.now += gate_module.MAPS_EVERY
    found = bench.turn(2)
    assert set(found.services) == NAMES
    assert found.services["tcp0"][0].startswith("the kernel does not hold pool web as it was")
    tables.put_backend(index, backend, fresh=False)
    assert bench.turn(6).services == {}, "what is mended is seen within seconds"


def test_maps_are_not_compared_while_rings_are_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.well()
    _health.save(bench.node.state_dir, {("web", FAR4): Health("down")})
    monkeypatch.setattr(_rings, "build", lambda *_pool: pytest.fail("a ring was built"))
    bench.now += gate_module.MAPS_EVERY
    assert bench.turn(4, behind=True).services == {}
    found = bench.turn(2)
    assert set(found.services) == NAMES
    assert found.services["tcp0"][0].startswith("the kernel does not hold pool web as it was")
    assert set(bench.turn(4, behind=True).services) == NAMES, "what is refuted stays so"
    assert set(bench.turn().services) == NAMES
    _health.save(bench.node.state_dir, {})
    assert bench.turn(6).services == {}


def test_ring_that_is_still_to_be_written_refutes_nothing(bench: Bench) -> None:
    _health.save(bench.node.state_dir, {("web", a): Health("down") for a in (REAL4, FAR4)})
    bench.node.serve(REAL4, FAR4, settle=60)
    found = bench.turn(4, behind=True)
    assert (found.services, found.unproven) == ({}, NAMES)
    assert set(bench.turn(2).services) == NAMES


def test_pool_that_is_down_does_not_keep_others_of_its_address(bench: Bench) -> None:
    """After a reboot, with nothing announced."""
    _health.save(bench.node.state_dir, {("mail", FAR4): Health("down")})
    ports = {"web": 80, "mail": 25}
    entry = {"address": VIP4, "protocol": "tcp"}
    bench.node.apply(
        {pool: {"backends": [{"address": a}]} for pool, a in (("web", REAL4), ("mail", FAR4))},
        [{**entry, "name": pool, "port": port, "pool": pool} for pool, port in ports.items()],
    )
    found = bench.turn(4, healthy={"web": 1, "mail": 0})
    assert (found.services, found.unproven) == ({}, set())
    addresses, reasons = announcements(found, bench.fleet, NodeState(), (), bench.now + 5)
    assert (addresses, reasons) == ({VIP4}, {})


def test_backend_that_drains_keeps_its_address_when_the_others_fall(bench: Bench) -> None:
    _health.save(bench.node.state_dir, {("web", FAR4): Health("down")})
    bench.node.serve({"address": REAL4, "state": "draining"}, FAR4)
    found = bench.turn(4, healthy={"web": 1}, receiving={"web": 0})
    assert (found.node, found.services, found.pools) == ([], {}, {})
    addresses, _reasons = announcements(found, bench.fleet, NodeState(), (), bench.now + 5)
    assert addresses == {VIP4, VIP6}


def test_pool_without_backends_is_not_held_against_the_node(bench: Bench) -> None:
    bench.well()
    bench.node.serve({"address": REAL4, "state": "draining"})
    assert bench.turn(3).services == {}
    bench.node.serve(REAL4)
    down, up = {"web": 0}, {"web": 1}
    tables = bench.node.tables
    (pool,) = tables.actual().pools
    ring = tables.ring(pool)
    assert ring is not None
    _bpf.delete(tables.table("rings").map_fd, tables.table("rings").Key(pool), "")
    fleet = bench.fleet
    for healthy in (down, down, up):  # and the ring is written after the look
        bench.now += 0.5
        found = bench.gate.check(fleet, healthy, bench.now)
        assert found.services == {}
        assert found.unproven == (NAMES if healthy is up else set())
    assert found.pools == {}
    tables.put_ring(pool, ring)
    bench.well()


def test_maps_are_not_compared_while_somebody_writes(bench: Bench) -> None:
    bench.well()
    tables, key = bench.node.tables, ServiceKey(VIP4, 80, "tcp")
    entry = tables.actual().services[key]
    with writer(bench.node.state_dir, "a test"):
        tables.put_service(key, entry.__class__(entry.id, entry.pool, "half"), fresh=False)
        bench.now += gate_module.MAPS_EVERY
        assert bench.turn(4).services == {}
        tables.put_service(key, entry, fresh=False)
    bench.well()


def test_change_that_is_applied_is_well_at_every_turn(bench: Bench) -> None:
    bench.well()
    bench.node.serve(REAL4)
    found = bench.turn()
    assert (found.node, found.services) == ([], {})
    bench.node.serve(FAR4, algorithm="rendezvous")
    bench.well()


# --- next hops ---


def test_missing_neighbour_is_named_and_found_again(bench: Bench) -> None:
    bench.node.serve(REAL4)
    bench.well()
    with IPRoute() as ip:
        index = interface("eth0")
        at = {"dst": ROUTER4, "ifindex": index}
        ip.neigh("del", **at)
        try:
            expired(bench.node)
            found = bench.turn(4)
            assert set(found.services) == NAMES
            assert "whose link address the kernel does not know" in found.services["tcp0"][0]
        finally:
            ip.neigh("replace", lladdr=ROUTER_MAC, state="permanent", **at)
    bench.well()


def test_missing_route_is_named(bench: Bench) -> None:
    bench.node.serve(REAL4)
    bench.well()
    with IPRoute() as ip:
        ip.route("del", dst="192.0.2.64/26")
        try:
            expired(bench.node)
            found = bench.turn(4)
            assert "there is no route to 192.0.2.71" in found.services["tcp0"][0]
        finally:
            ip.route("add", dst="192.0.2.64/26", gateway=ROUTER4)
    bench.well()


def test_agent_that_is_started_anew_goes_on_counting(bench: Bench, tmp_path: Path) -> None:
    bench.well()
    proofs = bench.gate.proofs()
    assert proofs["made"] == sum(proofs["services"].values()) >= 4
    (tmp_path / "run").mkdir()
    written: dict[str, Any] = {"version": 1, "written": 0.0, "proofs": proofs}
    (tmp_path / "run/status.json").write_text(json.dumps(written))
    again = Gate(bench.options, bench.node.tables)
    assert again.counted() == bench.gate.counted()
    again.close()


def expired(node: Node) -> None:
    """As when the second that a CPU goes by a next hop is over."""
    node.tables.table("nexthops").clear()


@contextmanager
def foreign(name: str) -> Iterator[None]:
    """Somebody else's program on the interface."""
    compiled = _bpf.require_bcc()(text=b"int stranger(struct xdp_md *ctx) { return XDP_PASS; }")
    fd = compiled.load_func(b"stranger", compiled.XDP).fd
    _bpf.attach_xdp(interface(name), fd, "native", None)
    try:
        yield
    finally:
        _bpf.attach_xdp(interface(name), -1, "native", fd)
