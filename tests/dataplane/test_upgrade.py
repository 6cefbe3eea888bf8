# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrades of a running node with real programs: proven, put in place, watched, taken back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _apply,
    _bpf,
    _links,
    _upgrade_compare,
    _upgrade_state,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade import (
    LayoutError,
    UpgradeError,
    upgrade,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_compare import ExpectError
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_watch import Limits
from ansible_collections.l4lb.xdp.plugins.modules import upgrade as module
from tests.releases import EVERY_EIGHTH, HARMLESS, WRONG_TTL

from .node import SOURCE
from .upgrades import (
    Upgraded,
    pinned_tag,
    running,
    serve,
    traffic,
    wire_traffic,
)

REAL_HOP_LIFETIME = _upgrade_compare.HOP_LIFETIME


@pytest.fixture
def node(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upgraded]:
    monkeypatch.setattr(_upgrade_compare, "HOP_LIFETIME", 0.0)  # but one test is about other things
    yield from running(pins, tmp_path)


def test_the_same_behaviour_replaces_the_program_and_keeps_the_old_one(node: Upgraded) -> None:
    old = node.tag()
    done = upgrade(node.request(HARMLESS), node.places)
    assert done.changed
    found = done.data["upgrade"]
    assert found["old"] == old != found["new"]
    assert found["differences"] == []
    assert found["packets"] > 200
    assert node.tags() == {found["new"]}
    assert pinned_tag(node.pins / "balancer") == found["new"]
    assert pinned_tag(node.pins / "balancer_previous") == old
    assert not (node.pins / "balancer_old").exists()
    again = upgrade(node.request(HARMLESS), node.places)
    assert not again.changed


def test_every_packet_meets_one_of_the_two(node: Upgraded) -> None:
    def sent() -> int:
        return node.tables.verdicts()["sent"]["packets"]

    before = sent()
    request = replace(node.request(HARMLESS), services=0, watch=2)  # no golden packet is sent on
    with wire_traffic() as count:
        done = upgrade(request, node.places)
    assert count[0] > 500
    deadline = time.monotonic() + 5
    while sent() - before < count[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sent() - before == count[0]
    watched = done.data["upgrade"]["watch"]
    assert watched["received"] >= watched["verdicts"]["sent"] - 5


def test_golden_packets_leave_no_records(node: Upgraded) -> None:
    serve(node, "192.0.2.71", "192.0.2.72", "192.0.2.73")  # now there are tracked slots
    upgrade(node.request(HARMLESS), node.places, dry=True)
    assert node.tables.named_by_flows() == set()
    for name in ("flows4", "flows6", "fragments"):
        assert list(node.tables.entries(name)) == []


def test_check_mode_proves_and_changes_nothing(node: Upgraded) -> None:
    old = node.tag()
    files = sorted(path.name for path in node.state_dir.rglob("*"))
    done = upgrade(node.request(HARMLESS), node.places, dry=True)
    assert done.changed
    assert done.data["upgrade"]["packets"] > 200
    assert any(done.data["upgrade"]["new"] in line for line in done.after)
    assert node.tags() == {old}
    assert sorted(path.name for path in node.state_dir.rglob("*")) == files
    assert not (node.pins / "balancer_old").exists()
    with pytest.raises(UpgradeError, match="golden packets otherwise"):
        upgrade(node.request(WRONG_TTL), node.places, dry=True)


def test_wrong_bytes_are_refused_and_shown(node: Upgraded) -> None:
    old = node.tag()
    with pytest.raises(UpgradeError, match=r"syn: tcp 198\.18\.\S+:\d+ -> .*tx, \d+ bytes, from"):
        upgrade(node.request(WRONG_TTL), node.places)
    assert node.tags() == {old}
    assert _upgrade_state.load(node.state_dir) is None


def test_a_slot_read_wrongly_is_refused(node: Upgraded) -> None:
    change = ("steer.h", "hash >> 32) * RING_SIZE >> 32", "hash >> 31) % RING_SIZE")
    with pytest.raises(UpgradeError, match="golden packets otherwise") as refused:
        upgrade(node.request(change), node.places)
    kinds = {each["kind"] for each in refused.value.data["upgrade"]["differences"]}
    assert {"ack", "syn", "udp"} <= kinds
    assert "echo" not in kinds


def test_a_wrong_next_hop_is_not_hidden_by_the_cache(
    node: Upgraded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both programs have the same cache, and the kernel is asked once a second only."""
    change = ("nexthop.h", "hop->source, query.smac, ETH", "hop->source, query.dmac, ETH")
    monkeypatch.setattr(_upgrade_compare, "HOP_LIFETIME", REAL_HOP_LIFETIME)
    with pytest.raises(UpgradeError, match="golden packets otherwise"):
        upgrade(node.request(change), node.places)


def test_a_wrong_choice_in_tracked_slots_is_refused(node: Upgraded) -> None:
    """Only there the flow table and `previous` have their say, and a record would hide it."""
    serve(node, "192.0.2.71", "192.0.2.72", "192.0.2.73")
    change = ("steer.h", "if (!slot->previous || packet->opens)", "if (1)")
    with pytest.raises(UpgradeError, match="golden packets otherwise") as refused:
        upgrade(node.request(change), node.places)
    kinds = {each["kind"] for each in refused.value.data["upgrade"]["differences"]}
    assert "ack" in kinds
    assert "syn" not in kinds


NO_ECHO = ("icmp.h", "return answer_echo(ctx, cursor, packet);", "return VERDICT_DROP_UNSERVED;")


def test_what_differs_otherwise_than_expected_is_refused(node: Upgraded) -> None:
    with pytest.raises(UpgradeError, match="echo"):
        upgrade(replace(node.request(NO_ECHO), expect=("echo: drop -> tx", "udp")), node.places)


def test_an_expected_difference_is_let_through(node: Upgraded) -> None:
    request = replace(node.request(NO_ECHO), expect=("echo: tx -> drop", "udp"))
    done = upgrade(request, node.places)
    assert {each["verdicts"] for each in done.data["upgrade"]["differences"]} == {"tx -> drop"}
    assert any("'udp' did not come about" in note for note in done.notes)


def test_any_difference_can_be_accepted(node: Upgraded) -> None:
    done = upgrade(replace(node.request(WRONG_TTL), accept_differences=True), node.places)
    assert done.data["upgrade"]["differences"]
    assert node.tags() == {done.data["upgrade"]["new"]}


def test_what_cannot_be_expected_is_named(node: Upgraded) -> None:
    with pytest.raises(ExpectError, match=r"'drip -> pass' is none of.*unserved port.*redirect"):
        upgrade(replace(node.request(HARMLESS), expect=("drip -> pass",)), node.places)


# --- the watch ---


def test_drops_that_rise_bring_the_old_program_back(node: Upgraded) -> None:
    old = node.tag()
    _bpf.replace_pin(node.fd(), node.pins / "balancer_previous")
    with (
        traffic(),
        pytest.raises(UpgradeError, match=rf"{old} runs again: drop_no_backend: \d+ of") as failed,
    ):
        upgrade(replace(node.request(EVERY_EIGHTH), baseline=2, watch=60), node.places)
    found = failed.value.data["upgrade"]
    assert found["baseline"]["verdicts"]["sent"] > 100
    assert found["watch"]["seconds"] < 10
    assert node.tags() == {old}
    assert pinned_tag(node.pins / "balancer") == old
    assert pinned_tag(node.pins / "balancer_previous") == old  # that of an earlier upgrade
    assert not (node.pins / "balancer_old").exists()
    assert _upgrade_state.load(node.state_dir) is None


def test_a_good_program_stands_the_watch_under_traffic(node: Upgraded) -> None:
    with traffic():
        done = upgrade(replace(node.request(HARMLESS), baseline=2, watch=3), node.places)
    watched = done.data["upgrade"]["watch"]
    assert watched["verdicts"]["sent"] > 100
    assert watched["seconds"] >= 3


def test_limits_say_what_is_too_much(node: Upgraded) -> None:
    lenient = replace(node.request(EVERY_EIGHTH), baseline=2, watch=2, limits=Limits(drops=30))
    with traffic():
        assert upgrade(lenient, node.places).changed


# --- what cannot be upgraded ---


@pytest.mark.parametrize(
    ("file", "old", "new", "text"),
    [
        ("maps.h", "#define SCHEMA_VERSION ", "#define SCHEMA_VERSION 9", r"layout"),
        ("maps.h", "\t__u32 mtu; /*", "\t__u32 a, b;\n\t__u32 mtu; /*", "nexthops is another one"),
        (
            "maps.h",
            'BPF_TABLE_PINNED("array", __u32, struct pool, pools,',
            'BPF_TABLE_PINNED("array", __u32, __u64, novel, 2, PINS "/novel");\n'
            'BPF_TABLE_PINNED("array", __u32, struct pool, pools,',
            "the node has no maps novel",
        ),
    ],
    ids=["another version", "another struct", "another map"],
)
def test_another_layout_is_refused_with_the_way_before_anything_changes(
    node: Upgraded, file: str, old: str, new: str, text: str
) -> None:
    before = node.tag()
    pins = sorted(path.name for path in node.pins.iterdir())
    with pytest.raises(LayoutError, match=rf"{text}.*l4lb_relayout.*xdp\.drain.*site"):
        upgrade(node.request((file, old, new)), node.places)
    assert node.tags() == {before}
    assert sorted(path.name for path in node.pins.iterdir()) == pins


def test_a_node_that_was_never_prepared_says_so(node: Upgraded) -> None:
    (node.state_dir / "program-balancer.json").unlink()
    with pytest.raises(UpgradeError, match=r"no balancer was applied .* run l4lb\.xdp\.site first"):
        upgrade(node.request(HARMLESS), node.places)


def test_an_interface_without_the_program_is_named(node: Upgraded) -> None:
    wanted = node.wanted
    with _bpf.closing(_bpf.open_program(_links.xdp("eth1").program_id)) as fd:
        _bpf.attach_xdp(_links.interface("eth1").index, -1, "native", fd)
    with pytest.raises(UpgradeError, match="eth1 does not run the pinned program"):
        upgrade(node.request(HARMLESS), node.places)
    _apply.attach_program(wanted, node.state_dir)


def test_sources_that_do_not_compile_change_nothing(node: Upgraded) -> None:
    old = node.tag()
    with pytest.raises(_bpf.BpfError, match="does not compile"):
        upgrade(node.request(("steer.h", "return slot->current;", "return;;(")), node.places)
    assert node.tags() == {old}


def test_tables_stay_what_they_were(node: Upgraded) -> None:
    before = Tables(node.pins, SOURCE).actual()
    upgrade(node.request(HARMLESS), node.places)
    assert Tables(node.pins, SOURCE).actual() == before


def test_module_there_and_back(node: Upgraded) -> None:
    old = node.tag()
    defaults = {name: option.get("default") for name, option in module.SPEC.items()}
    given = {
        **defaults,
        "candidate": str(node.request(NO_ECHO).candidate),
        "expect": ["echo"],
        "baseline": 0,
        "watch": 0,
        "pins": str(node.pins),
        "source": str(SOURCE),
        "state_dir": str(node.state_dir),
        "library": str(node.work / "python"),
        "releases": str(node.work / "releases"),
    }
    assert module.run(given, True).changed
    assert node.tag() == old
    assert module.run(given, False).data["upgrade"]["new"] == node.tag() != old
    assert module.run({**given, "state": "rolled_back"}, False).changed
    assert node.tag() == old
