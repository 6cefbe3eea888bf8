# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's state on disk, and waiting for an agent to withdraw addresses."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._applied import AppliedError
from ansible_collections.l4lb.xdp.plugins.module_utils._node_state import (
    NodeState,
    WithdrawError,
    load,
    release,
    save,
    withdraw,
)

X, Y, Z = "203.0.113.9", "203.0.113.10", "2001:db8::10"


# --- the file ---


def test_node_of_which_nothing_was_said_announces(tmp_path: Path) -> None:
    assert load(tmp_path) == NodeState("announcing", 0, ())
    assert not save(tmp_path, NodeState())
    assert list(tmp_path.iterdir()) == []


def test_what_was_saved_is_loaded_in_the_order_of_addresses(tmp_path: Path) -> None:
    assert save(tmp_path, NodeState("draining", 7, (Z, Y, X, Y)))
    assert load(tmp_path) == NodeState("draining", 7, (X, Y, Z))
    assert not save(tmp_path, NodeState("draining", 7, (Y, X, Z)))


def test_released_node_keeps_its_state(tmp_path: Path) -> None:
    save(tmp_path, NodeState("withdrawn", 7, (X,)))
    assert release(tmp_path)
    assert load(tmp_path) == NodeState("withdrawn", 7)
    assert not release(tmp_path)


GOOD: dict[str, Any] = {"state": "draining", "since": 7, "withheld": [X]}


@pytest.mark.parametrize(
    "content",
    [
        7,
        [],
        {},
        {**GOOD, "state": "drained"},
        {**GOOD, "since": -1},
        {**GOOD, "since": "7"},
        {**GOOD, "since": True},
        {**GOOD, "withheld": None},
        {**GOOD, "withheld": X},
        {**GOOD, "withheld": ["2001:DB8::10"]},
    ],
)
def test_file_of_another_hand_is_named_with_the_remedy(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "node.json"
    path.write_text(json.dumps(GOOD))
    assert load(tmp_path) == NodeState("draining", 7, (X,))
    path.write_text(json.dumps(content))
    with pytest.raises(AppliedError, match=r"node\.json.*remove it.*l4lb\.xdp\.node"):
        load(tmp_path)


# --- withdrawing ---


class Agent:
    """Reads node.json and writes status.json, as told turn by turn; time passes by its turns."""

    def __init__(self, directory: Path, announced: Iterable[str]) -> None:
        self.state_dir, self.run_dir = directory / "state", directory / "run"
        self.run_dir.mkdir()
        self.now = time.time()
        self.announced = set(announced)
        self.turns = 0
        self.say()

    def say(self, age: float = 0) -> None:
        addresses = {a: {"announced": a in self.announced, "reasons": []} for a in (X, Y, Z)}
        status = {"version": 1, "written": self.now - age, "addresses": addresses}
        (self.run_dir / "status.json").write_text(json.dumps(status))

    def tell_bird(self, *addresses: str) -> None:
        """Has BIRD read these, some time ago by now."""
        path = self.run_dir / "announce.conf"
        lines = [f"\troute {a}/{128 if ':' in a else 32} unreachable;" for a in addresses]
        path.write_text("\n".join(["protocol static announced4 {", *lines, "}"]))
        os.utime(path, (self.now, self.now))

    def withdraw(
        self, *addresses: str, turn: Callable[[], None] = lambda: None, patience: float = 10
    ) -> bool:
        """Calls `turn` whenever it is waited."""

        def sleep(seconds: float) -> None:
            self.now += seconds
            self.turns += 1
            turn()

        return withdraw(addresses, self.state_dir, self.run_dir, patience, lambda: self.now, sleep)

    def turn(self) -> None:
        """What a real one does."""
        self.announced -= set(load(self.state_dir).withheld)
        self.say()


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path, [X, Y])


def test_addresses_are_withheld_until_released(agent: Agent) -> None:
    assert agent.withdraw(X, turn=agent.turn)
    assert (agent.announced, agent.turns) == ({Y}, 1)
    assert load(agent.state_dir).withheld == (X,)


def test_state_of_the_node_stays(agent: Agent) -> None:
    save(agent.state_dir, NodeState("draining", 7))
    agent.withdraw(X, turn=agent.turn)
    assert load(agent.state_dir) == NodeState("draining", 7, (X,))


def test_what_was_said_before_it_was_asked_does_not_count(agent: Agent) -> None:
    """Z is not announced yet, but a turn that has begun may be about to."""
    assert agent.withdraw(Z, turn=agent.turn)
    assert agent.turns == 1


def test_address_that_the_agent_does_not_know_is_not_announced(agent: Agent) -> None:
    assert agent.withdraw("203.0.113.77", turn=agent.turn)


@pytest.mark.parametrize("gone", ["old", "never there"])
def test_without_an_agent_nothing_is_withheld_or_waited_for(agent: Agent, gone: str) -> None:
    if gone == "old":
        agent.say(age=6)
    else:
        (agent.run_dir / "status.json").unlink()
    assert not agent.withdraw(X, turn=pytest.fail)
    assert not agent.state_dir.exists()


SILENT = 6.0


def test_silent_agent_that_left_nothing_announced_is_not_waited_for(agent: Agent) -> None:
    agent.say(age=SILENT)
    agent.tell_bird(Y)
    agent.now += SILENT
    assert not agent.withdraw(X, turn=pytest.fail)


@pytest.mark.parametrize("address", [X, Z])
def test_agent_that_is_starting_withdraws_what_was_left_announced(
    agent: Agent, address: str
) -> None:
    agent.say(age=SILENT)
    agent.tell_bird(X, Z)
    agent.now += SILENT

    def turn() -> None:
        if agent.turns == 20:
            agent.turn()

    assert agent.withdraw(address, turn=turn)
    assert agent.turns == 20
    assert load(agent.state_dir).withheld == (address,)


@pytest.mark.parametrize("status", ["old", "never there"])
def test_lease_withdraws_for_an_agent_that_is_silent(agent: Agent, status: str) -> None:
    agent.say(age=SILENT)
    if status == "never there":
        (agent.run_dir / "status.json").unlink()
    agent.tell_bird(X, Y)
    agent.now += SILENT

    def turn() -> None:
        if agent.turns == 290:
            agent.tell_bird()

    assert agent.withdraw(X, turn=turn)
    assert 310 < agent.turns < 330  # BIRD has some time to read it


def test_what_a_silent_agent_left_announced_is_an_error(agent: Agent) -> None:
    agent.say(age=SILENT)
    agent.tell_bird(X)
    agent.now += SILENT
    with pytest.raises(
        WithdrawError, match=rf"nothing was changed: {X} .*40 s.*restart l4lb-agent"
    ):
        agent.withdraw(X)
    assert load(agent.state_dir).withheld == ()


def test_nothing_to_withdraw_asks_nobody(agent: Agent) -> None:
    assert not agent.withdraw(turn=pytest.fail)
    assert not agent.state_dir.exists()


@pytest.mark.parametrize("last_words", ["still announces", "nothing"])
def test_agent_that_does_not_withdraw_is_an_error_and_nothing_stays_withheld(
    agent: Agent, last_words: str
) -> None:
    def turn() -> None:
        if last_words == "still announces":
            agent.say()

    with pytest.raises(WithdrawError, match=rf"nothing was changed: .*{X} within 10 s.*stop it"):
        agent.withdraw(X, turn=turn)
    assert 90 < agent.turns < 110
    assert load(agent.state_dir).withheld == ()


def test_status_that_cannot_be_read_leaves_nothing_withheld(agent: Agent) -> None:
    def turn() -> None:
        (agent.run_dir / "status.json").write_text("half")

    with pytest.raises(AppliedError, match="Restart l4lb-agent"):
        agent.withdraw(X, turn=turn)
    assert load(agent.state_dir).withheld == ()
