# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses are withdrawn before their services go: with an agent, without one, and one that does
not, and death at any write.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP

from ansible_collections.l4lb.xdp.plugins.module_utils import _applied, _apply, _links, _node_state
from ansible_collections.l4lb.xdp.plugins.module_utils._apply import apply_services
from ansible_collections.l4lb.xdp.plugins.module_utils._node_state import (
    NodeState,
    WithdrawError,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from l4lb_agent import announcer

from .mortal import dies
from .node import SOURCE, VIP4, XDP_TX, Node, from_client

OTHER = "203.0.113.11"
POOLS = {"web": {"backends": [{"address": "192.0.2.71"}]}}
STAYS, GOES = (
    {"name": name, "address": address, "port": 80, "protocol": "tcp", "pool": "web"}
    for name, address in (("stays", VIP4), ("goes", OTHER))
)

Apply = Callable[..., Outcome]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir()
    return directory


@pytest.fixture
def apply(node: Node, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apply]:
    """l4lb.xdp.services on a node that serves both; its maps are open already, to save time."""
    monkeypatch.setattr(_apply, "open_tables", lambda *_places: node.tables)

    def run(*services: dict[str, Any], purge: bool = True, dry: bool = False) -> Outcome:
        return apply_services(
            POOLS, services, purge, node.pins, SOURCE, node.state_dir, dry, run_dir=run_dir
        )

    run(STAYS, GOES)
    yield run
    (node.state_dir / _node_state.NODE_FILE).unlink(missing_ok=True)


def forwards(node: Node, address: str) -> bool:
    return node.run(from_client(TCP(sport=20000, dport=80, flags="S"), dst=address))[0] == XDP_TX


@contextmanager
def agent(
    node: Node,
    run_dir: Path,
    obeys: bool = True,
    works: Callable[[Node, str], bool] = forwards,
) -> Iterator[Path]:
    """A process that does what node.json says, and says so; yields where it notes what still
    worked when it withdrew.
    """
    notes = run_dir / "notes"

    def turn() -> None:
        withheld = set(_node_state.load(node.state_dir).withheld) if obeys else set()
        addresses = {
            address: {"announced": address not in withheld, "reasons": []}
            for address in (VIP4, OTHER)
        }
        for address in withheld:
            with notes.open("a") as file:
                file.write(f"{address} {works(node, address)}\n")
        status = {"version": 1, "written": time.time(), "addresses": addresses}
        fresh = run_dir / "status.new"
        fresh.write_text(json.dumps(status))
        fresh.replace(run_dir / "status.json")

    turn()
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                turn()
                time.sleep(0.01)
        finally:
            os._exit(1)
    try:
        yield notes
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def withheld(node: Node) -> tuple[str, ...]:
    return _node_state.load(node.state_dir).withheld


@pytest.mark.parametrize("way", ["purge", "absent"])
def test_address_is_withdrawn_while_it_is_still_forwarded(
    node: Node, apply: Apply, run_dir: Path, way: str
) -> None:
    with agent(node, run_dir) as notes:
        if way == "purge":
            outcome = apply(STAYS)
        else:
            outcome = apply({"name": "goes", "state": "absent"}, purge=False)
    assert outcome.changed
    assert notes.read_text().splitlines()[0] == f"{OTHER} True"
    assert (forwards(node, OTHER), forwards(node, VIP4), withheld(node)) == (False, True, ())


def test_address_that_another_service_has_is_not_withdrawn(
    node: Node, apply: Apply, run_dir: Path
) -> None:
    apply(STAYS, GOES, {**GOES, "name": "more", "port": 81})
    with agent(node, run_dir) as notes:
        apply(STAYS, {**GOES, "name": "more", "port": 81})
    assert not notes.exists()


def test_agent_that_does_not_withdraw_leaves_everything(
    node: Node, apply: Apply, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _node_state.withdraw
    monkeypatch.setattr(_node_state, "withdraw", lambda *given: real(*given, patience=0.5))
    before = (node.state_dir / _applied.SERVICES_FILE).read_text()
    with (
        agent(node, run_dir, obeys=False),
        pytest.raises(WithdrawError, match=rf"nothing was changed: .*{OTHER}.*l4lb status"),
    ):
        apply(STAYS)
    assert forwards(node, OTHER)
    assert withheld(node) == ()
    assert (node.state_dir / _applied.SERVICES_FILE).read_text() == before
    assert not apply(STAYS, GOES).changed


def test_what_a_silent_agent_left_announced_is_forwarded_on(
    node: Node, apply: Apply, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_node_state, "PATIENCE", 0.5)
    (run_dir / announcer.FILE).write_text(announcer.render([VIP4, OTHER], draining=False))
    status = {"version": 1, "written": 0, "addresses": {}, "lease": 0}
    (run_dir / "status.json").write_text(json.dumps(status))
    with pytest.raises(WithdrawError, match=OTHER):
        apply(STAYS)
    assert forwards(node, OTHER)
    withdrawn = run_dir / announcer.FILE
    withdrawn.write_text(announcer.render([VIP4], draining=True))
    os.utime(withdrawn, (0, 0))
    apply(STAYS)
    assert not forwards(node, OTHER)


def test_without_an_agent_nothing_is_withheld(node: Node, apply: Apply) -> None:
    apply(STAYS)
    assert not forwards(node, OTHER)
    assert not (node.state_dir / _node_state.NODE_FILE).exists()


def test_dry_run_asks_nobody(node: Node, apply: Apply, run_dir: Path) -> None:
    with agent(node, run_dir) as notes:
        dry = apply(STAYS, dry=True)
        assert not (node.state_dir / _node_state.NODE_FILE).exists()
        assert not notes.exists()
        assert forwards(node, OTHER)
        assert dry.changed


def test_what_a_killed_run_left_withheld_is_released_by_the_next(node: Node, apply: Apply) -> None:
    _node_state.save(node.state_dir, NodeState("draining", 7, (OTHER,)))
    assert apply(STAYS, GOES, dry=True).changed
    assert withheld(node) == (OTHER,)
    assert apply(STAYS, GOES).changed
    assert _node_state.load(node.state_dir) == NodeState("draining", 7)
    assert not apply(STAYS, GOES).changed


# --- taking the program off ---


@pytest.fixture
def attached(make_node: Callable[..., Node]) -> Iterator[Node]:
    node = make_node()
    _apply.attach_program(node.wanted(), node.state_dir)
    apply_services(POOLS, [STAYS, GOES], True, node.pins, SOURCE, node.state_dir)
    yield node
    _apply.detach_program(node.wanted(), node.state_dir)


def is_attached(_node: object = None, _address: str = "") -> bool:
    return _links.xdp("eth0").mode is not None


def test_all_is_withdrawn_before_the_program_is_taken_off(attached: Node, run_dir: Path) -> None:
    with agent(attached, run_dir, works=is_attached) as notes:
        dry = _apply.detach_program(attached.wanted(), attached.state_dir, True, run_dir)
        assert (dry.changed, is_attached(), notes.exists()) == (True, True, False)
        assert _apply.detach_program(attached.wanted(), attached.state_dir, False, run_dir).changed
    assert set(notes.read_text().splitlines()[:2]) == {f"{VIP4} True", f"{OTHER} True"}
    assert (is_attached(), withheld(attached)) == (False, ())


def test_program_stays_while_its_addresses_are_announced(
    attached: Node, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_node_state, "PATIENCE", 0.5)
    with agent(attached, run_dir, obeys=False), pytest.raises(WithdrawError, match=OTHER):
        _apply.detach_program(attached.wanted(), attached.state_dir, run_dir=run_dir)
    assert (is_attached(), withheld(attached)) == (True, ())
    assert attached.wanted().file(attached.state_dir).exists()


def test_death_at_every_write_is_healed_by_the_next_run(
    node: Node, apply: Apply, run_dir: Path
) -> None:
    with agent(node, run_dir):
        for dies_at in itertools.count():
            for successor in ([STAYS], [STAYS, GOES]):
                died = dies(lambda: apply(STAYS), dies_at)
                assert forwards(node, OTHER) or OTHER in withheld(node) or not died
                apply(*successor)
                assert (forwards(node, OTHER), withheld(node)) == (GOES in successor, ())
                assert not apply(*successor).changed
                apply(STAYS, GOES)
            if not died:
                break
    assert dies_at > 5
