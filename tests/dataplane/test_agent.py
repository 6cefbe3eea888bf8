# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent does when things break: real packets, rings and BIRD."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _probe
from ansible_collections.l4lb.xdp.plugins.module_utils._node import Request, apply_node

from .agency import CHECK, Agency, until
from .node import VIP4, VIP6
from .probing import BACKENDS

ALL = {VIP4, VIP6}
OF_ONE = {address for address, host in BACKENDS.items() if host == "one"}
OF_TWO = set(BACKENDS) - OF_ONE


@pytest.fixture(scope="module")
def shared_agency(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agency]:
    with Agency.made(tmp_path_factory.mktemp("agent")) as made:
        yield made


@pytest.fixture
def agency(shared_agency: Agency) -> Agency:
    """All well: every backend healthy and in the ring, everything announced."""
    until(lambda: shared_agency.announced() == ALL)
    until(lambda: set(shared_agency.health().values()) == {"up"})
    until(lambda: shared_agency.in_ring() == set(BACKENDS))
    return shared_agency


def test_what_is_proven_is_announced(agency: Agency) -> None:
    status = agency.status()

    assert status["problems"] == []
    assert [each["reasons"] for each in status["services"]] == [[]] * 4
    assert status["pools"]["web"] == {"backends": 4, "healthy": 4, "minimum_healthy": 1}
    assert status["proofs"]["made"] > 0


def test_a_dead_process_leaves_the_ring_and_comes_back(agency: Agency) -> None:
    agency.fleet.stop("one")
    try:
        until(lambda: agency.in_ring() == OF_TWO)
        assert agency.announced() == ALL
    finally:
        agency.fleet.start("one")

    until(lambda: agency.in_ring() == set(BACKENDS))


def test_without_a_healthy_backend_it_withdraws(agency: Agency) -> None:
    for name in ("one", "two"):
        agency.fleet.stop(name)
    try:
        until(lambda: agency.announced() == set())
        until(lambda: agency.in_ring() == set())
        until(lambda: "0 of 4 backends of pool web are healthy" in agency.reasons())
        assert agency.status()["addresses"][VIP4]["backends_only"]
    finally:
        for name in ("one", "two"):
            agency.fleet.start(name)

    until(lambda: agency.announced() == ALL)


def test_a_program_that_is_taken_off_is_withdrawn_within_two_seconds(agency: Agency) -> None:
    agency.fleet.release_balancer()
    try:
        assert until(lambda: agency.announced() == set()) < 2
        until(lambda: "eth0 runs no XDP program" in agency.reasons())
        assert not agency.status()["addresses"][VIP4]["backends_only"]
    finally:
        agency.fleet.attach_balancer()

    until(lambda: agency.announced() == ALL)


def test_a_killed_agent_changes_nothing_and_its_successor_goes_on(agency: Agency) -> None:
    agency.fleet.stop("one")
    try:
        until(lambda: agency.in_ring() == OF_TWO)
        agency.kill()
        assert agency.announced() == ALL

        agency.start()
        until(lambda: agency.status()["pid"] == agency.agent.pid)
        until(lambda: all(each["asked"] for each in agency.status()["backends"]))

        assert agency.announced() == ALL
        assert agency.in_ring() == OF_TWO
    finally:
        agency.fleet.start("one")
    until(lambda: agency.in_ring() == set(BACKENDS))


def test_bird_that_comes_back_announces_again(agency: Agency) -> None:
    agency.bird.kill()
    agency.bird.wait()
    until(lambda: any("BIRD does not answer" in text for text in agency.status()["problems"]))

    agency.start_bird()

    until(lambda: agency.announced() == ALL)
    until(lambda: agency.status()["problems"] == [])


def test_rings_follow_health_without_bird(agency: Agency) -> None:
    agency.bird.kill()
    agency.bird.wait()
    agency.fleet.stop("one")
    try:
        until(lambda: agency.in_ring() == OF_TWO)
    finally:
        agency.fleet.start("one")
        agency.start_bird()

    until(lambda: agency.announced() == ALL)


def test_a_node_is_drained_and_withdrawn_and_comes_back(agency: Agency) -> None:
    places = agency.places
    with agency.fleet.node.inside():
        try:
            apply_node(Request("draining", wait=True, timeout=30, quiet=1), places)
            held = agency.ask_bird("show", "route", "all", "table", "announce4")
            assert "(65535,0)" in held

            done = apply_node(Request("withdrawn", wait=True, timeout=30, quiet=1), places)
            assert agency.announced() == set()
            assert done.data["node"]["withheld"][VIP4] == ["the node is withdrawn (l4lb.xdp.node)"]
        finally:
            apply_node(Request("announcing", wait=True, timeout=30, quiet=1), places)

    assert agency.announced() == ALL


def test_another_check_is_taken_up(agency: Agency) -> None:
    agency.serve(health_check={**CHECK, "port": 81})  # nobody listens there
    try:
        until(lambda: agency.announced() == set())
    finally:
        agency.serve(health_check=CHECK)

    until(lambda: agency.announced() == ALL)


def test_a_service_that_is_gone_is_announced_no_more(agency: Agency) -> None:
    pools = {"web": {"backends": [{"address": a} for a in BACKENDS], "health_check": CHECK}}
    service = {"name": "tcp1", "address": VIP6, "port": 80, "protocol": "tcp", "pool": "web"}
    with agency.fleet.node.inside():
        agency.fleet.balancer.apply(pools, [service])
    try:
        until(lambda: agency.announced() == {VIP6})
    finally:
        agency.serve(health_check=CHECK)

    until(lambda: agency.announced() == ALL)


def test_without_routes_nobody_falls_and_they_come_back(agency: Agency) -> None:
    with agency.fleet.node.inside():
        assert _probe.remove()
        until(agency.fleet.probes.intact)

    before = {each["address"]: each["asked"] for each in agency.status()["backends"]}
    until(lambda: all(e["asked"] > before[e["address"]] for e in agency.status()["backends"]))
    assert set(agency.health().values()) == {"up"}
    assert agency.announced() == ALL


def test_a_restart_that_cannot_read_what_was_applied_changes_nothing(agency: Agency) -> None:
    path = agency.state_dir / "services.json"
    text = path.read_text()
    agency.kill()
    path.write_text("{")
    try:
        agency.start()
        until(lambda: agency.status()["pid"] == agency.agent.pid)
        until(lambda: any("services.json" in each for each in agency.status()["problems"]))
        assert agency.announced() == ALL
    finally:
        path.write_text(text)

    until(lambda: agency.status()["problems"] == [])
    assert agency.announced() == ALL


def test_a_check_that_is_new_refutes_nothing(agency: Agency) -> None:
    agency.serve()  # without any
    until(lambda: {each["check"] for each in agency.status()["backends"]} == {"none"})
    agency.kill()
    agency.start()  # knows nothing of what was announced before by checks
    until(lambda: agency.status()["pid"] == agency.agent.pid)
    withdrawn: list[int] = []
    try:
        agency.serve(health_check={**CHECK, "interval": 3})
        until(lambda: withdrawn.append(1) if agency.announced() != ALL else _asked(agency))
        assert not withdrawn
    finally:
        agency.serve(health_check=CHECK)


def _asked(agency: Agency) -> bool:
    backends = agency.status()["backends"]
    return all(each["check"] == "tcp" and each["asked"] for each in backends)


def test_maps_that_are_made_anew_are_opened_by_a_new_process(agency: Agency) -> None:
    agency.make_maps_anew()
    try:
        until(lambda: agency.agent.poll() is not None)
        assert agency.agent.returncode == 0
        assert agency.announced() == set()
    finally:
        agency.start()
        agency.serve(health_check=CHECK)

    until(lambda: agency.announced() == ALL)
    until(lambda: _asked(agency))


def test_a_withdrawn_node_is_told_as_such_without_maps(agency: Agency) -> None:
    """As after a boot that did not restore them."""
    agency.kill()
    with agency.fleet.node.inside():
        apply_node(Request("withdrawn"), agency.places)
        schema = agency.fleet.pins / "schema"
        elsewhere = schema.rename(schema.with_name("elsewhere"))
        try:
            agency.start()
            until(lambda: agency.status()["pid"] == agency.agent.pid)
            assert agency.status()["node"]["wanted"] == "withdrawn"
        finally:
            elsewhere.rename(schema)
            apply_node(Request("announcing", wait=True, timeout=30, quiet=1), agency.places)
