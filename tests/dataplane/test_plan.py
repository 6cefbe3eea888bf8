# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans against real maps: the same as in the fake, what is predicted is measured, death at any
write, nodes that agree.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import inet_aton
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _applied,
    _apply,
    _info,
    _plan,
    _schema,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError, Fleet, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import flow_hash, slot
from ansible_collections.l4lb.xdp.plugins.module_utils._plan import PlanError
from ansible_collections.l4lb.xdp.plugins.module_utils._predict import RefusedError
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fake_kernel import FakeKernel
from ansible_collections.l4lb.xdp.tests.unit.plugins.module_utils.fleets import (
    ADDRESSES,
    fleet_of,
    fleets,
    members,
)
from tests import releases

from .mortal import dies
from .node import SOURCE, VIP4, XDP_DROP, XDP_TX, Node, bpffs, from_client

NOW = 1000
A, B, C = "192.0.2.71", "192.0.2.72", "192.0.2.73"
SERVICE = {"name": "www", "address": VIP4, "port": 80, "protocol": "tcp", "pool": "web"}


def bring(fleet: Fleet, kernel: Any) -> None:
    plan = _plan.make(fleet, kernel.actual(), kernel.ring, kernel.named_by_flows, NOW)
    _plan.apply(plan, kernel, lambda: NOW)
    _plan.verify(plan, fleet, kernel, NOW)


def twin(tables: Tables) -> FakeKernel:
    """A kernel of dictionaries that holds what the real one holds."""
    actual = tables.actual()
    rings = {index: ring for index in actual.pools if (ring := tables.ring(index)) is not None}
    return FakeKernel(
        actual.sizes,
        dict(actual.services),
        dict(actual.pools),
        dict(actual.backends),
        rings,
        addresses=dict(actual.addresses),
        filter=dict(actual.filter),
        shortcuts=dict(actual.shortcuts),
    )


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(fleets(), min_size=1, max_size=4))
def test_same_plan_leaves_the_same_in_fake_and_real_maps(node: Node, history: list[Fleet]) -> None:
    fake = twin(node.tables)
    for fleet in history:
        bring(fleet, fake)
        bring(fleet, node.tables)
        real = twin(node.tables)
        assert (real.services, real.pools, real.backends) == (
            fake.services,
            fake.pools,
            fake.backends,
        )
        assert (real.rings, real.addresses) == (fake.rings, fake.addresses)
        assert (real.filter, real.shortcuts) == (fake.filter, fake.shortcuts)


# --- one run and its death ---


def die_applying(fleet: Fleet, node: Node, dies_at: int) -> bool:
    """Applies in a process that is killed before that write; false when it had fewer."""
    return dies(lambda: _apply.apply_fleet(fleet, node.tables, node.state_dir), dies_at)


def steering(node: Node) -> dict[str, list[str | None]]:
    """Where each pool's slots point, by address."""
    return twin(node.tables).current()


def test_death_at_every_write_leaves_old_or_new_and_any_next_run_converges(node: Node) -> None:
    old = fleet_of({"a": members(A, B), "b": members(A), "gone": members(C)}, "x a 1", "y gone 2")
    new = fleet_of({"a": members(B, C), "b": members(A, B), "new": members(C)}, "x a 1", "z new 3")
    wanted = {}
    for fleet in (new, old):
        _apply.apply_fleet(fleet, node.tables, node.state_dir)
        wanted[fleet] = steering(node)
    for dies_at in itertools.count():
        for successor in (new, old):
            died = die_applying(new, node, dies_at)
            for pool, ring in steering(node).items():
                assert ring in (wanted[old].get(pool), wanted[new].get(pool))
            content = _applied.load(node.state_dir / _applied.SERVICES_FILE)
            assert content in (old.as_dict(), new.as_dict())
            _apply.apply_fleet(successor, node.tables, node.state_dir)
            assert steering(node) == wanted[successor]
            assert not _apply.apply_fleet(successor, node.tables, node.state_dir).changed
            _apply.apply_fleet(old, node.tables, node.state_dir)
        if not died:
            break
    assert dies_at > 20


def test_unchanged_run_writes_nothing(node: Node) -> None:
    fleet = fleet_of({"a": members(A, B), "b": members(A)}, "x a 1", "y b 2")
    assert die_applying(fleet, node, 0)
    _apply.apply_fleet(fleet, node.tables, node.state_dir)
    assert not die_applying(fleet, node, 0)


# --- predictions ---


def flow_in_every_slot(node: Node) -> list[tuple[str, int]]:
    """Client address and port of one flow for each slot of the ring."""
    rng = random.Random(11)
    found: dict[int, tuple[str, int]] = {}
    while len(found) < node.sizes.ring:
        source = f"198.51.{rng.getrandbits(8)}.{rng.getrandbits(8)}"
        port = rng.randrange(1024, 65536)
        hashed = flow_hash(node.hash_seed, source, VIP4, 6, port, 80)
        found.setdefault(slot(hashed, node.sizes.ring), (source, port))
    return list(found.values())


def backends_of(node: Node, flows: list[tuple[str, int]], flags: str) -> list[bytes]:
    """The outer destination that a packet of each flow gets; empty when it is dropped."""
    packet = bytes(from_client(TCP(sport=0, dport=80, flags=flags)))
    chosen = []
    for source, port in flows:
        flow = inet_aton(source) + packet[30:34] + port.to_bytes(2, "big")
        verdict, out = node.run(packet[:26] + flow + packet[36:])
        assert verdict in (XDP_TX, XDP_DROP)
        chosen.append(out[30:34] if verdict == XDP_TX else b"")
    return chosen


def share(before: list[bytes], after: list[bytes]) -> float:
    """In per cent, of all flows."""
    return 100 * sum(map(bytes.__ne__, before, after)) / len(before)


@pytest.fixture(scope="module")
def wide_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A ring large enough for shares to a tenth of a per cent, and room to record every flow."""
    directory = tmp_path_factory.mktemp("wide")
    sizes = Sizes(ring=2003, services=16, pools=8, backends=64, flows=65536)
    with bpffs(directory / "bpf") as pins:
        yield Node(pins, directory / "state", sizes)


BASE: dict[str, Any] = {"web": {"backends": members(A, B)}, "other": {"backends": members(B, C)}}


def with_web(backends: list[dict[str, Any]], **pool: Any) -> dict[str, Any]:
    return {**BASE, "web": {"backends": backends, **pool}}


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "backend added": (with_web(members(A, B, C)), "web"),
    "weight": (with_web(members(A) + members(B, weight=37)), "web"),
    "drain": (with_web(members(A) + members(B, state="draining")), "web"),
    "disable": (with_web(members(A) + members(B, state="disabled")), "web"),
    "remove": (with_web(members(B)), "web"),
    "all gone": (with_web([]), "web"),
    "rendezvous": (with_web(members(A, B), algorithm="rendezvous"), "web"),
    "untracked": (with_web(members(A, B, C), tracking="never"), "web"),
    "another pool": (BASE, "other"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_prediction_is_what_packets_do(wide_node: Node, change: str) -> None:
    node = wide_node
    node.reset()
    pools, pool = CHANGES[change]
    node.apply(BASE, [SERVICE])
    flows = flow_in_every_slot(node)
    before = backends_of(node, flows, "A")
    wanted = parse(pools, [{**SERVICE, "pool": pool}])
    plan = _apply.apply_fleet(wanted, node.tables, node.state_dir, dry=True).data["plan"]
    predicted = plan["services"]["www"] if pool == "other" else plan["pools"]["web"]
    _apply.apply_fleet(wanted, node.tables, node.state_dir)
    broken = share(before, backends_of(node, flows, "A"))
    moved = share(before, backends_of(node, flows, "S"))
    assert moved > 5
    assert moved == pytest.approx(predicted["moved"], abs=0.1)
    assert broken == pytest.approx(predicted["broken"], abs=0.1)
    assert predicted["moved"] == pytest.approx(
        predicted["unavoidable"] + predicted["collateral"], abs=0.02
    )


# --- what is refused ---


@pytest.fixture
def apply(make_node: Callable[..., Node]) -> Callable[..., Any]:
    """l4lb.xdp.services on a node that has an IPv4 address only."""
    node = make_node(source_ipv6=None)

    def run(pools: dict[str, Any], **options: Any) -> Any:
        return _apply.apply_services(
            pools, [SERVICE], True, node.pins, SOURCE, node.state_dir, **options
        )

    return run


def test_change_that_moves_too_much_leaves_everything(apply: Callable[..., Any]) -> None:
    pools = {**BASE, "other": {"backends": members(A)}}
    apply(pools)
    with pytest.raises(RefusedError, match=r"max_moved \(5 %\).*\npool web: 3\d"):
        apply({**pools, "web": {"backends": members(A, B, C)}}, max_moved=5)
    assert not apply(pools).changed
    assert apply({**pools, "web": {"backends": members(A, B, C)}}, max_moved=50).changed


def test_backend_of_a_family_without_source_is_refused(apply: Callable[..., Any]) -> None:
    apply(BASE)
    with pytest.raises(ConfigError, match=r"2001:db8:2::71 is of the other.*l4lb_source_ipv6"):
        apply({**BASE, "other": {"backends": members("2001:db8:2::71")}})
    assert not apply(BASE).changed


# --- indices and removal ---


def test_index_named_by_a_flow_is_not_given_to_another(make_node: Callable[..., Node]) -> None:
    node = make_node(sizes=Sizes(ring=251, services=16, pools=8, backends=4, flows=64))
    node.serve(A, B, tracking="always")
    on_a = next(port for port in range(20000, 20100) if sends_to(node, port) == A)
    others = [port for port in range(20000, 20100) if sends_to(node, port) != A]
    node.serve(B, C)
    with pytest.raises(PlanError, match=r"map full: backend 192\.0\.2\.74.*l4lb_max_backends"):
        node.serve(B, C, "192.0.2.74")
    assert len(node.tables.named_by_flows()) == 2
    node.tables.table("flows4").clear()
    node.serve(B, C, "192.0.2.74")
    assert {sends_to(node, port) for port in (on_a, *others)} == {B, C, "192.0.2.74"}


def sends_to(node: Node, port: int) -> str:
    return node.backend_of(from_client(TCP(sport=port, dport=80, flags="S")))


@pytest.mark.parametrize("tracking", ["adaptive", "always", "never"])
def test_nobody_gets_packets_after_the_last_backend_left(node: Node, tracking: str) -> None:
    node.serve(A, tracking=tracking)
    packets = [from_client(TCP(sport=20000, dport=80, flags=flags)) for flags in ("S", "A")]
    assert {node.backend_of(packet) for packet in packets} == {A}
    node.serve(tracking=tracking)
    before = node.tables.verdicts()["drop_no_backend"]["packets"]
    assert [node.run(packet)[0] for packet in packets] == [XDP_DROP, XDP_DROP]
    assert node.tables.verdicts()["drop_no_backend"]["packets"] == before + 2


# --- a fleet ---


def test_nodes_with_other_histories_and_orders_agree(
    make_node: Callable[..., Node], tmp_path: Path
) -> None:
    rng = random.Random(5)

    def shuffled(items: list[Any]) -> list[Any]:
        return rng.sample(items, len(items))

    def inventory(pools: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        made = {
            f"pool{i}": {"backends": shuffled(members(*ADDRESSES[: 2 + i]))}
            for i in shuffled(list(range(pools)))
        }
        services = [
            {**SERVICE, "name": f"s{i}", "port": 80 + i, "pool": f"pool{i % pools}"}
            for i in shuffled(list(range(6)))
        ]
        return made, services

    first = make_node()
    with bpffs(tmp_path / "other") as pins:
        second = Node(pins, tmp_path / "other-state")
        for pools in (1, 4, 2):
            first.apply(*inventory(pools))
        assert fingerprint(first) != fingerprint(second)
        for node in (first, second):
            node.apply(*inventory(3))
        assert fingerprint(first) == fingerprint(second)
        assert steering(first) == steering(second)


def fingerprint(node: Node) -> str:
    return str(_info.info(node.pins, SOURCE)["fingerprint"])


def quic(server_ids: tuple[tuple[str, int], ...]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A pool of QUIC servers, and a service of it."""
    backends = [{"address": address, "server_id": number} for address, number in server_ids]
    pool = {"backends": backends, "quic": {"server_id_length": 2}}
    return {"web": pool}, [{**SERVICE, "protocol": "udp"}]


def test_steering_after_a_change_is_told_before_it(node: Node) -> None:
    node.apply(BASE, [SERVICE, {**SERVICE, "name": "tls", "port": 443, "pool": "other"}])
    changes = [
        ({**BASE, "web": {"backends": members(A, B)}}, [SERVICE]),  # ring, service, pool
        ({"web": {"backends": members(A, B), "identity": "source_address"}}, [SERVICE]),
        ({"web": BASE["web"], "new": {"backends": members(C)}}, [{**SERVICE, "pool": "new"}]),
        quic(((A, 1), (B, 2))),
        quic(((A, 2), (B, 1))),  # connections go elsewhere, the ring stays
    ]
    for pools, services in changes:
        told = []
        for dry in (True, False, True):
            run = _apply.apply_services(
                pools, services, True, node.pins, SOURCE, node.state_dir, dry, compared=True
            )
            told.append(run.data["plan"]["steering"])
        assert told[0] == told[1]
        assert told[0]["before"] != told[0]["after"]
        assert told[2] == {"before": told[0]["after"], "after": told[0]["after"]}
        seen = _info.info(node.pins, SOURCE, ["steering"])["steering"]
        assert seen == told[0]["after"]


def test_node_of_another_layout_is_planned_for_and_not_written(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.apply(BASE, [SERVICE])
    before = steering(node)
    for module in (_apply, _schema):
        monkeypatch.setattr(module, "LAYOUT", 99)
    args = {"web": {"backends": members(C)}}, [SERVICE], True, node.pins, SOURCE, node.state_dir
    planned = _apply.apply_services(*args, dry=True, compared=True)
    assert "by this release" in planned.warnings[0]
    assert "steering" not in planned.data["plan"]
    with pytest.raises(_schema.SchemaError, match=r"these modules know 99: .*l4lb\.xdp\.upgrade"):
        _apply.apply_services(*args)
    assert steering(node) == before


def test_maps_of_neither_release_are_planned_for_so_that_upgrade_gets_to_them(
    node: Node, tmp_path: Path
) -> None:
    """As when a run ended between a release's maps and its files."""
    node.apply(BASE, [SERVICE])
    source = tmp_path / "source"
    shutil.copytree(SOURCE, source)
    number = f"#define SCHEMA_VERSION {_schema.LAYOUT}"
    releases.make(source, ("maps.h", number, f"{number}9"))
    args = BASE, [SERVICE], True, node.pins, source, node.state_dir
    assert "by this release" in _apply.apply_services(*args, dry=True).warnings[0]
    with pytest.raises(_schema.SchemaError, match="of layout"):
        _apply.apply_services(*args)


def test_node_that_lost_its_file_keeps_what_is_not_named(make_node: Callable[..., Node]) -> None:
    node = make_node()
    services = [SERVICE, {**SERVICE, "name": "tls", "port": 443, "pool": "other"}]
    node.apply(BASE, services)
    (node.state_dir / _applied.SERVICES_FILE).unlink()
    new = [{**SERVICE, "name": "new", "port": 81}]
    before = steering(node)
    run = _apply.apply_services({}, new, False, node.pins, SOURCE, node.state_dir)
    assert run.changed
    assert {s.name for s in node.tables.actual().services.values()} == {"www", "tls", "new"}
    assert steering(node) == before
