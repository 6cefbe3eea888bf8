# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run over the fleet: the second is told of the first, and a killed one is got rid of."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _fleet_lock
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import AppliedError
from ansible_collections.l4lb.xdp.plugins.module_utils._fleet_lock import (
    FleetLockError,
    Request,
    free,
    hold,
)

ALICE, BOB = Request("run-a", "alice@one"), Request("run-b", "bob@two")
NOON = 1_780_000_000


def at(seconds: float):
    return lambda: NOON + seconds


def test_second_run_is_told_of_the_first_and_the_way_out(tmp_path: Path) -> None:
    hold(ALICE, tmp_path, clock=at(0))
    with pytest.raises(FleetLockError, match=r"alice@one since 20.*l4lb_break_lock=true"):
        hold(BOB, tmp_path, clock=at(3599))
    assert _fleet_lock.load(tmp_path).run == "run-a"


def test_lock_of_a_killed_run_ends(tmp_path: Path) -> None:
    hold(ALICE, tmp_path, clock=at(0))
    assert hold(BOB, tmp_path, clock=at(3600)).changed


def test_run_that_asks_again_has_it_for_longer(tmp_path: Path) -> None:
    hold(ALICE, tmp_path, clock=at(0))
    assert not hold(Request("run-a", "alice@one", renew=True), tmp_path, clock=at(3000)).changed
    with pytest.raises(FleetLockError):
        hold(BOB, tmp_path, clock=at(6599))


def test_it_is_given_back_and_taken_by_the_next(tmp_path: Path) -> None:
    hold(ALICE, tmp_path)
    assert free("run-a", True, tmp_path).changed
    assert not free("run-a", True, tmp_path).changed
    assert hold(BOB, tmp_path).changed


def test_nobody_gives_back_what_another_has(tmp_path: Path) -> None:
    hold(ALICE, tmp_path)
    assert not free("run-b", True, tmp_path).changed
    assert _fleet_lock.load(tmp_path).run == "run-a"


def test_run_from_which_it_was_taken_stops(tmp_path: Path) -> None:
    hold(ALICE, tmp_path)
    taken = hold(Request("run-b", "bob@two", take_over=True), tmp_path)
    assert "alice@one" in taken.warnings[0]
    with pytest.raises(FleetLockError, match=r"taken from this run: bob@two"):
        hold(Request("run-a", "alice@one", renew=True), tmp_path)


def test_run_whose_lock_ended_and_went_to_another_that_is_done_stops(tmp_path: Path) -> None:
    hold(ALICE, tmp_path, clock=at(0))
    hold(BOB, tmp_path, clock=at(4000))
    free("run-b", True, tmp_path)
    with pytest.raises(FleetLockError, match="ended meanwhile"):
        hold(Request("run-a", "alice@one", renew=True), tmp_path, clock=at(4010))


def test_aim_outlives_a_run_that_did_not_end_and_no_other(tmp_path: Path) -> None:
    hold(Request("run-a", aim="weights"), tmp_path)
    assert free("run-a", False, tmp_path).changed
    again = hold(Request("run-b"), tmp_path)
    assert again.data["left"] == "weights"
    free("run-b", True, tmp_path)
    assert hold(Request("run-c"), tmp_path).data["left"] == ""


def test_dry_run_takes_nothing_and_warns(tmp_path: Path) -> None:
    assert hold(ALICE, tmp_path, dry=True).changed
    assert not any(tmp_path.iterdir())
    hold(ALICE, tmp_path)
    assert "alice@one" in hold(BOB, tmp_path, dry=True).warnings[0]
    again = Request("run-b", "bob@two", renew=True)
    assert not hold(again, tmp_path, dry=True).warnings


def test_host_where_nothing_is_installed_stays_untouched(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert not hold(ALICE, state).changed
    assert not hold(Request("run-a", renew=True), state).changed
    assert not free("run-a", True, state).changed
    assert not state.exists()


def test_host_that_this_run_has_installed_meanwhile_gets_its_lock(tmp_path: Path) -> None:
    state = tmp_path / "state"
    hold(ALICE, state)
    state.mkdir()
    assert hold(Request("run-a", "alice@one", renew=True), state).changed
    with pytest.raises(FleetLockError, match="alice@one"):
        hold(BOB, state)
    assert free("run-a", True, state).changed
    with pytest.raises(FleetLockError, match="ended meanwhile"):
        hold(Request("run-c", renew=True), state)


@pytest.mark.parametrize("text", ['{"run": 1}', '{"who": "me"}', "[]", '{"until": "now"}', "{"])
def test_foreign_file_is_refused_with_a_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / _fleet_lock.FLEET_FILE).write_text(text)
    with pytest.raises(AppliedError, match="remove it"):
        hold(ALICE, tmp_path)
