# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _agent_status, _node, _node_state
from ansible_collections.l4lb.xdp.plugins.module_utils._config import ConfigError
from ansible_collections.l4lb.xdp.plugins.module_utils._node import Places, Request, Traffic


def status(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "written": time.time(),
        "node": {"state": "announcing", "reasons": []},
        "applied": "",
        "addresses": {"203.0.113.10": {"announced": True, "reasons": []}},
        "proofs": {},
        "problems": [],
        **changes,
    }


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("state", "run"):
        (tmp_path / name).mkdir()
    return Places(tmp_path / "state", tmp_path / "run", tmp_path / "pins", tmp_path / "source")


def say(places: Places, content: dict[str, Any]) -> None:
    (places.run_dir / _agent_status.STATUS_FILE).write_text(json.dumps(content))


def held(reasons: list[str]) -> dict[str, Any]:
    return {"203.0.113.10": {"announced": False, "reasons": reasons}}


# --- what is asked for ---


def test_state_is_written_once(places: Places) -> None:
    first = _node.apply_node(Request("draining"), places)
    second = _node.apply_node(Request("draining"), places)

    assert (first.changed, second.changed) == (True, False)
    assert _node_state.load(places.state_dir).state == "draining"
    assert first.before == ["node: announcing"]
    assert first.after == ["node: draining"]


def test_check_mode_writes_nothing(places: Places) -> None:
    assert _node.apply_node(Request("withdrawn", wait=True), places, dry=True).changed

    assert list(places.state_dir.iterdir()) == []


def test_withheld_addresses_stay_withheld(places: Places) -> None:
    _node_state.save(places.state_dir, _node_state.NodeState(withheld=("203.0.113.10",)))

    _node.apply_node(Request("draining"), places)

    assert _node_state.load(places.state_dir).withheld == ("203.0.113.10",)


def test_without_a_state_it_only_reports(places: Places) -> None:
    say(places, status(addresses=held(["no next hop"])))

    outcome = _node.apply_node(Request(), places)

    assert not outcome.changed
    assert outcome.data["node"]["withheld"] == {"203.0.113.10": ["no next hop"]}
    assert outcome.data["node"]["agent"] is True


def test_an_agent_that_is_silent_is_none(places: Places) -> None:
    say(places, status(written=time.time() - 60))

    assert _node.apply_node(Request(), places).data["node"]["agent"] is False


def test_all_mistakes_are_named(places: Places) -> None:
    with pytest.raises(ConfigError) as caught:
        _node.apply_node(Request(wait=True, timeout=0, threshold=-1, quiet=5), places)

    assert [line.split(":")[0] for line in caught.value.mistakes] == [
        "timeout",
        "threshold",
        "timeout",
    ]


# --- waiting ---


def test_it_waits_until_all_is_announced(places: Places) -> None:
    say(places, status(addresses=held(["hold"])))
    turns = []

    def turn(_seconds: float) -> None:
        turns.append(1)
        if len(turns) == 3:
            say(places, status())

    outcome = _node.apply_node(Request("announcing", wait=True, timeout=60), places, sleep=turn)

    assert outcome.data["wait"]["reached"]
    assert outcome.data["node"]["announced"] == ["203.0.113.10"]
    assert len(turns) == 3


def expired(places: Places, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    """The wait after its deadline, without waiting for it."""
    now = [0.0]
    monkeypatch.setattr(_node.time, "monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    request = Request("announcing", wait=True, timeout=6, **more)
    return _node.apply_node(request, places, sleep=sleep)


def test_the_deadline_names_what_is_missing(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(places, status(addresses=held(["pool web: 0 of 2 backends are healthy"])))

    with pytest.raises(_node.NodeError, match=r"203\.0\.113\.10 is not announced \(pool web: 0"):
        expired(places, monkeypatch)


def test_the_deadline_may_be_a_warning(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = expired(places, monkeypatch, fail_on_timeout=False)

    assert not outcome.data["wait"]["reached"]
    assert "no agent runs here: look at l4lb-agent.service" in outcome.warnings[0]


@pytest.mark.parametrize(
    ("state", "changes", "missing"),
    [
        ("announcing", {}, []),
        ("announcing", {"applied": "older"}, ["has not read yet"]),
        ("announcing", {"addresses": held([])}, ["not yet"]),
        ("draining", {}, ["still has the state announcing"]),
        ("draining", {"node": {"state": "draining"}, "addresses": held(["x"])}, []),
        ("withdrawn", {"node": {"state": "withdrawn"}}, ["still announced: 203.0.113.10"]),
        ("withdrawn", {"node": {"state": "withdrawn"}, "addresses": held([])}, []),
        ("draining", {"problems": ["BIRD is away"]}, ["still has the state", "BIRD is away"]),
    ],
)
def test_what_is_missing(state: str, changes: dict[str, Any], missing: list[str]) -> None:
    found = _node.lacks(state, status(**changes), "")

    assert len(found) == len(missing)
    assert all(part in text for part, text in zip(missing, found))


# --- what only wants healthy backends ---


def starved(*healths: str, **changes: Any) -> dict[str, Any]:
    """Of two addresses one is withheld for its pool's backends alone, of these healths."""
    address = {"announced": False, "reasons": ["pool web: none healthy"], "backends_only": True}
    backends = [{"pool": "web", "state": "active", "health": health} for health in healths]
    return status(
        addresses={
            "203.0.113.9": {"announced": True, "reasons": [], "backends_only": False},
            "203.0.113.10": {**address, **changes},
        },
        services=[{"address": "203.0.113.10", "pool": "web"}],
        backends=[*backends, {"pool": "other", "state": "active", "health": "unknown"}],
    )


def test_address_without_healthy_backends_is_no_fault_of_the_node(places: Places) -> None:
    say(places, starved("down", "down"))

    outcome = _node.apply_node(Request("announcing", wait=True), places, sleep=pytest.fail)

    assert outcome.data["wait"]["reached"]
    (warning,) = outcome.warnings
    assert "203.0.113.10 is not announced (pool web: none healthy)" in warning
    assert outcome.data["node"]["withheld"] == {"203.0.113.10": ["pool web: none healthy"]}


def test_backends_that_have_not_answered_yet_are_waited_for() -> None:
    assert _node.lacks("announcing", starved("down", "unknown"), "")
    assert not _node.lacks("announcing", starved("down", "down"), "")


def test_disabled_backend_is_not_waited_for() -> None:
    content = starved("down", "unknown")
    content["backends"][1]["state"] = "disabled"

    assert not _node.lacks("announcing", content, "")


def test_address_that_wants_more_than_backends_is_missing() -> None:
    assert _node.lacks("announcing", starved("down", backends_only=False), "")


def test_no_warning_of_backends_while_something_else_is_missing(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = starved("down")
    content["addresses"]["203.0.113.9"] = {"announced": False, "reasons": ["no next hop"]}
    say(places, content)

    words = r"203\.0\.113\.9 is not announced \(no next hop\)$"
    with pytest.raises(_node.NodeError, match=words):
        expired(places, monkeypatch)


# --- traffic ---


def counted(*packets: int) -> Traffic:
    """Looks a second apart."""
    seen, times = iter(packets), iter(range(len(packets)))
    traffic = Traffic(lambda: next(seen), lambda: float(next(times)))
    for _each in packets:
        traffic.look(10)
    return traffic


def test_traffic_below_the_threshold_is_quiet_after_a_while() -> None:
    traffic = counted(100, 109, 118)

    assert traffic.rate == 9
    assert traffic.is_quiet(2)
    assert not traffic.is_quiet(3)


def test_a_burst_begins_the_silence_anew() -> None:
    traffic = counted(100, 100, 110, 110)

    assert traffic.is_quiet(1)
    assert not traffic.is_quiet(2)


def test_one_look_says_nothing() -> None:
    assert not counted(100).is_quiet(0)
