# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the router hears when a node's announcements change: real BIRD on both ends (root)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from l4lb_agent import announcer, lease
from l4lb_agent.announcer import AnnounceError, Announcer, BirdDown, Silenced

from .bgp import OTHER4, ROOT, V4, V6, Pair, pair, until

ALL = {V4, OTHER4, V6}


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("bird"), "l4lb-announce") as made:
        yield made


@pytest.fixture
def ends(shared_pair: Pair) -> Iterator[Pair]:
    """The pair, with both BIRDs up, nothing announced and no file."""
    config = shared_pair.node.config
    text = config.read_text()
    yield shared_pair
    config.write_text(text)
    shared_pair.announcements.unlink(missing_ok=True)
    if shared_pair.node.process is None:
        shared_pair.node.start()
    shared_pair.node.ask("configure")
    until(lambda: len(shared_pair.node.sessions()) == 2)
    until(lambda: not shared_pair.heard())


def announcer_of(ends: Pair) -> Announcer:
    return Announcer(ends.announcements, ends.node.config, ends.node.control)


def test_without_a_file_nothing_is_announced_and_everything_guarded(ends: Pair) -> None:
    assert not ends.announcements.exists()
    assert len(ends.node.sessions()) == 2
    assert ends.heard() == set()
    until(lambda: ends.guarded() == ALL)


def test_router_hears_what_is_announced_and_only_that(ends: Pair) -> None:
    told, since = announcer_of(ends), ends.node.sessions()
    assert told.announce({V4, V6}, draining=False)
    until(lambda: ends.heard() == {V4, V6})
    assert told.announce({OTHER4, V6}, draining=False)
    until(lambda: ends.heard() == {OTHER4, V6})
    assert told.held == {OTHER4, V6}
    assert told.announce((), draining=False)
    until(lambda: ends.heard() == set())
    assert ends.guarded() == ALL
    assert ends.node.stood_since(since)


def test_the_same_again_asks_bird_nothing(ends: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    told = announcer_of(ends)
    assert told.announce({V4}, draining=False)
    monkeypatch.setattr(told, "_run", lambda *_command: pytest.fail("BIRD was asked"))
    assert not told.announce({V4}, draining=False)


def test_draining_node_is_the_last_choice_and_keeps_its_sessions(ends: Pair) -> None:
    told, since = announcer_of(ends), ends.node.sessions()
    told.announce({V4, V6}, draining=False)
    until(lambda: ends.heard() == {V4, V6})
    assert "BGP.local_pref: 100" in ends.router.route(V4)
    assert told.announce({V4, V6}, draining=True)
    assert told.current() == ({V4, V6}, True)
    for address in (V4, V6):
        until(lambda address=address: "(65535,0)" in ends.router.route(address))
        assert "BGP.local_pref: 0" in ends.router.route(address)
    assert told.announce({V4, V6}, draining=False)
    until(lambda: "BGP.local_pref: 100" in ends.router.route(V4))
    assert ends.node.stood_since(since)


def test_bird_that_was_killed_comes_back_with_what_was_announced(ends: Pair) -> None:
    told = announcer_of(ends)
    told.announce({V4}, draining=False)
    until(lambda: ends.heard() == {V4})
    ends.node.stop(kill=True)
    until(lambda: not ends.heard())
    assert ends.guarded() == ALL
    ends.node.start()
    until(lambda: ends.heard() == {V4})


def test_what_is_decided_while_bird_is_down_holds_when_it_starts(ends: Pair) -> None:
    told = announcer_of(ends)
    told.announce({V4, V6}, draining=False)
    ends.node.stop()
    for _turn in range(2):
        with pytest.raises(BirdDown, match=r"BIRD does not answer at .*node\.ctl"):
            told.announce({OTHER4}, draining=False)
        assert told.held == frozenset()
    ends.node.start()
    until(lambda: ends.heard() == {OTHER4})
    told.announce({OTHER4}, draining=False)
    assert told.held == {OTHER4}


def test_bird_that_stopped_is_noticed_though_nothing_changes(
    ends: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = announcer_of(ends)
    told.announce({V4}, draining=False)
    ends.node.stop()
    monkeypatch.setattr(announcer, "RECHECK", 0.0)
    with pytest.raises(BirdDown):
        told.announce({V4}, draining=False)


def test_bad_configuration_is_refused_and_all_stays_as_it_was(ends: Pair) -> None:
    told = announcer_of(ends)
    told.announce({V4}, draining=False)
    until(lambda: ends.heard() == {V4})
    good = ends.node.config.read_text()
    ends.node.config.write_text(good + "rubbish;\n")
    line = good.count("\n") + 1
    with pytest.raises(AnnounceError, match=f"bird.conf:{line}:.* syntax error"):
        told.announce({V4, V6}, draining=False)
    assert told.current() == ({V4}, False)
    assert (told.held, ends.heard()) == ({V4}, {V4})
    anew = announcer_of(ends)  # as an agent that is started then
    with pytest.raises(AnnounceError, match="syntax error"):
        anew.announce({V4}, draining=False)
    assert anew.held == {V4}
    ends.node.config.write_text(good)
    assert told.announce({V4, V6}, draining=False)
    until(lambda: ends.heard() == {V4, V6})


def test_what_is_withdrawn_meanwhile_is_not_brought_back_by_a_mended_configuration(
    ends: Pair,
) -> None:
    told = announcer_of(ends)
    told.announce({V4, OTHER4}, draining=False)
    until(lambda: ends.heard() == {V4, OTHER4})
    good = ends.node.config.read_text()
    ends.node.config.write_text(good + "rubbish;\n")
    with pytest.raises(AnnounceError, match="syntax error"):
        told.announce({V4, V6}, draining=False)
    assert told.current() == ({V4}, False)
    ends.node.config.write_text(good)
    ends.node.ask("configure")
    until(lambda: ends.heard() == {V4})


def test_withdrawing_everything_needs_no_good_configuration(ends: Pair) -> None:
    told = announcer_of(ends)
    told.announce({V4, V6}, draining=False)
    until(lambda: ends.heard() == {V4, V6})
    good = ends.node.config.read_text()
    ends.node.config.write_text(good + "rubbish;\n")
    with pytest.raises(Silenced, match="until then nothing is announced"):
        told.announce((), draining=False)
    until(lambda: not ends.heard())
    assert told.current() == (frozenset(), False)
    ends.node.config.write_text(good)
    ends.node.ask("configure")
    assert ends.heard() == set(), "whoever mends the configuration brings nothing back"
    assert told.announce({V4}, draining=False)
    until(lambda: ends.heard() == {V4})


def test_what_somebody_switched_off_by_hand_is_switched_on_again(
    ends: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = announcer_of(ends)
    told.announce({V4}, draining=False)
    ends.node.ask("disable", "announced4")
    until(lambda: not ends.heard())
    monkeypatch.setattr(announcer, "RECHECK", 0.0)
    assert told.announce({V4}, draining=False)
    until(lambda: ends.heard() == {V4})


def test_bird_that_does_not_include_the_file_is_noticed(
    ends: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer, "TIMEOUT", 0.5)
    elsewhere = Announcer(ends.run_dir / "elsewhere.conf", ends.node.config, ends.node.control)
    with pytest.raises(AnnounceError, match="look whether it is included there"):
        elsewhere.announce({V4}, draining=False)


def test_bird_that_hangs_is_given_up(
    ends: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer, "TIMEOUT", 0.5)
    control = tmp_path / "mute.ctl"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(control))
        mute.listen()
        told = Announcer(ends.announcements, ends.node.config, control)
        with pytest.raises(AnnounceError, match=r"birdc .* configure does not end within 0"):
            told.announce({V4}, draining=False)


def birdc_of_a_stranger(directory: Path) -> Path:
    """As a user runs it who is not in BIRD's group."""
    birdc = directory / "birdc"
    birdc.write_text('#!/bin/sh\nexec setpriv --reuid 65534 --clear-groups birdc "$@"\n')
    birdc.chmod(0o755)
    return birdc


def test_bird_that_lets_nobody_in_announces_still(ends: Pair, tmp_path: Path) -> None:
    announcer_of(ends).announce({V4}, draining=False)
    until(lambda: ends.heard() == {V4})
    birdc = birdc_of_a_stranger(tmp_path)
    told = Announcer(ends.announcements, ends.node.config, ends.node.control, str(birdc))
    with pytest.raises(AnnounceError, match=r"Permission denied.* group bird") as refused:
        told.announce((), draining=False)
    assert not isinstance(refused.value, (BirdDown, Silenced))
    assert told.held == {V4}
    assert ends.heard() == {V4}


def test_socket_that_a_killed_bird_left_is_a_bird_that_is_down(ends: Pair) -> None:
    ends.node.stop(kill=True)
    assert ends.node.control.exists()
    with pytest.raises(BirdDown, match="Connection refused"):
        announcer_of(ends).announce({V4}, draining=False)


def test_draining_by_a_longer_path(tmp_path: Path) -> None:
    with pair(tmp_path, "l4lb-longer", bird_draining="longer_path") as ends:
        told = announcer_of(ends)
        told.announce({V4}, draining=False)
        until(lambda: "BGP.as_path: 65001\n" in ends.router.route(V4))
        told.announce({V4}, draining=True)
        until(lambda: "BGP.as_path: 65001 65001 65001 65001\n" in ends.router.route(V4))
        assert "65535" not in ends.router.route(V4)


def test_without_an_agent_all_services_are_announced_always(tmp_path: Path) -> None:
    with pair(tmp_path, "l4lb-always", bird_announce="always") as ends:
        until(lambda: ends.heard() == ALL)
        assert ends.guarded() == ALL


# --- the lease ---


def test_lease_that_is_let_in_late_withdraws_then_and_says_so(ends: Pair, tmp_path: Path) -> None:
    announcer_of(ends).announce({V4}, draining=False)
    birdc = birdc_of_a_stranger(tmp_path)
    told = Announcer(ends.announcements, ends.node.config, ends.node.control, str(birdc))
    clock, said = iter((0.0, 30.0, 60.0)), list[str]()
    terms = lease.Terms(ends.run_dir, lease=30)
    watch = lease.Watch(terms, told, lambda: next(clock), lambda _word, text: said.append(text))
    watch.look()
    watch.look()
    assert not watch.withdrawn
    assert "Permission denied" in said[-1]
    birdc.write_text('#!/bin/sh\nexec birdc "$@"\n')
    watch.look()
    assert watch.withdrawn
    assert "silent for 60 s: 1 addresses withdrawn" in said[-1]
    until(lambda: not ends.heard())


@contextmanager
def lease_process(ends: Pair, **options: object) -> Iterator[subprocess.Popen[str]]:
    """The unit's process, with a lease of a second."""
    file = ends.run_dir / "agent.json"
    content = {
        "run_dir": str(ends.run_dir),
        "bird_config": str(ends.node.config),
        "bird_socket": str(ends.node.control),
        "lease": 1,
        "peers": [],
        "of another part": True,
        **options,
    }
    file.write_text(json.dumps(content))
    paths = f"{ROOT}/.venv/collections:{ROOT}/roles/agent/files"
    process = subprocess.Popen(
        [sys.executable, "-m", "l4lb_agent.lease", str(file)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(timeout=5) == 0
        assert process.stdout is not None
        process.stdout.close()


def test_silent_agent_is_withdrawn_and_may_come_back(ends: Pair) -> None:
    told = announcer_of(ends)
    lease.renew(ends.run_dir)
    told.announce({V4, V6}, draining=False)
    until(lambda: ends.heard() == {V4, V6})
    with lease_process(ends) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("<5>withdraws when ")
        for _renewal in range(5):  # 2.5 leases
            lease.renew(ends.run_dir)
            time.sleep(0.5)  # time itself is what is tested
            assert ends.heard() == {V4, V6}
        took = until(lambda: not ends.heard())
        assert took < 3
        assert process.stdout.readline().startswith("<4>the agent has been silent for 1 s: 2 addr")
        assert ends.guarded() == ALL
        lease.renew(ends.run_dir)
        assert told.announce({V4, V6}, draining=False)  # the agent sees that the file is not its
        until(lambda: ends.heard() == {V4, V6})
        assert process.stdout.readline().startswith("<5>the agent renews its lease again")
