# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From answers to health: exact counts, restarts, changed checks, and any history at all."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils._config_health import HealthCheck
from l4lb_agent.checks import Answer
from l4lb_agent.judge import Judge, Judgement

KEY = ("web", "192.0.2.71")
OTHER = ("web", "192.0.2.72")
OK = Answer(True, "ok", 0.01)
BAD = Answer(False, "connection refused", 0.01)
LOCAL = Answer(False, "cannot ask: no free port of this node", 0.0, local=True)
WORDS = {"+": OK, "-": BAD, ".": LOCAL}


def judge_of(check: HealthCheck, down: bool = False) -> Judge:
    judge = Judge()
    judge.watch({KEY: check}, [KEY] if down else [])
    return judge


def tcp(rise: int = 2, fall: int = 3) -> HealthCheck:
    return HealthCheck("tcp", rise=rise, fall=fall)


def hear(judge: Judge, answers: Iterable[str], key: tuple[str, str] = KEY) -> list[str]:
    """The health after each of these answers; the clock is their number, from 1."""
    seen = []
    for now, answer in enumerate(answers, 1):
        judge.hear(key, WORDS[answer], now)
        seen.append(judge.judgements()[key].health)
    return seen


@pytest.mark.parametrize(
    ("before", "answers", "after"),
    [
        ("unknown", "+", "up"),
        ("unknown", "--", "unknown unknown"),
        ("unknown", "---", "unknown unknown down"),
        ("unknown", "--+", "unknown unknown up"),
        ("up", "-+", "up up"),
        ("up", "--+--+", "up up up up up up"),
        ("up", "---", "up up down"),
        ("down", "+", "down"),
        ("down", "++", "down up"),
        ("down", "+-+-+-", "down down down down down down"),
        ("down", "+-++", "down down down up"),
        ("down", "------", "down down down down down down"),
    ],
)
def test_rise_and_fall(before: str, answers: str, after: str) -> None:
    judge = judge_of(tcp(), down=before == "down")
    if before == "up":
        hear(judge, "+")
    assert judge.judgements()[KEY].health == before
    assert hear(judge, answers) == after.split()


@pytest.mark.parametrize("health", ["unknown", "up", "down"])
def test_what_the_node_could_not_ask_changes_nothing(health: str) -> None:
    judge = judge_of(tcp(), down=health == "down")
    if health == "up":
        hear(judge, "+")
    before = judge.judgements()[KEY]
    assert hear(judge, "." * 20) == [health] * 20
    after = judge.judgements()[KEY]
    assert after == Judgement(
        health, before.since, before.streak, before.asked, before.failed, LOCAL
    )


def test_a_streak_goes_on_behind_what_could_not_be_asked() -> None:
    assert hear(judge_of(tcp()), "-.-.-") == "unknown unknown unknown unknown down".split()
    assert hear(judge_of(tcp(), down=True), "+.+") == "down down up".split()


def test_what_is_held() -> None:
    judge = judge_of(tcp())
    assert judge.judgements()[KEY] == Judgement("unknown", 0.0, 0, 0, 0, None)
    for now, answer in ((10.0, OK), (12.0, OK), (14.0, BAD), (16.0, BAD)):
        judge.hear(KEY, answer, now)
    assert judge.judgements()[KEY] == Judgement("up", 10.0, -2, 4, 2, BAD)
    judge.hear(KEY, BAD, 18.0)
    judge.hear(KEY, BAD, 20.0)
    assert judge.judgements()[KEY] == Judgement("down", 18.0, -4, 6, 4, BAD)
    judge.hear(KEY, OK, 22.0)
    judge.hear(KEY, OK, 24.0)
    judge.hear(KEY, OK, 26.0)
    assert judge.judgements()[KEY] == Judgement("up", 24.0, 3, 9, 4, OK)


def test_who_fails_is_asked_again_until_he_answers() -> None:
    judge = judge_of(tcp(fall=2))
    keep = [judge.hear(KEY, WORDS[answer], 0) for answer in "+-+---.++."]
    assert keep == [word == "T" for word in "FTFTTTTFFF"]


def test_one_target_of_several_that_never_answers_does_not_make_it_flap() -> None:
    """Targets in turn as the prober asks them: the third of three is dead."""
    for rise in (1, 2, 3):
        judge, turn = judge_of(tcp(rise=rise)), 0
        falls = 0
        for now in range(100):
            before = judge.judgements()[KEY].health
            if not judge.hear(KEY, BAD if turn == 2 else OK, now):
                turn = (turn + 1) % 3
            falls += judge.judgements()[KEY].health == "down" != before
        assert falls == 1
        assert judge.judgements()[KEY].health == "down"


def test_what_is_not_watched_is_not_heard() -> None:
    judge = judge_of(tcp())
    assert judge.hear(OTHER, BAD, 1) is False
    assert set(judge.judgements()) == {KEY}


def test_type_none_is_up_whatever_is_heard() -> None:
    judge = judge_of(HealthCheck(), down=True)
    assert judge.judgements()[KEY] == Judgement("up")
    assert judge.hear(KEY, BAD, 1) is False
    assert judge.judgements()[KEY] == Judgement("up")


# --- watch again ---


def test_watching_the_same_keeps_everything() -> None:
    judge = judge_of(tcp())
    hear(judge, "+--")
    before = judge.judgements()[KEY]
    judge.watch({KEY: tcp(), OTHER: tcp()}, down=[KEY, OTHER])
    assert judge.judgements() == {KEY: before, OTHER: Judgement("down")}
    assert hear(judge, "-") == ["down"]


def test_another_check_keeps_health_and_counts_anew() -> None:
    judge = judge_of(tcp())
    hear(judge, "+--")
    judge.watch({KEY: HealthCheck("http", path="/", fall=3)})
    assert judge.judgements()[KEY] == Judgement("up", 1, 0, 0, 0, None)
    assert hear(judge, "---") == ["up", "up", "down"]


def test_a_check_that_is_given_up_and_taken_up_again() -> None:
    judge = judge_of(tcp(), down=True)
    judge.watch({KEY: HealthCheck()})
    assert judge.judgements()[KEY].health == "up"
    judge.watch({KEY: tcp()})
    assert judge.judgements()[KEY].health == "unknown"


def test_a_backend_that_left_and_comes_back_is_new() -> None:
    judge = judge_of(tcp())
    hear(judge, "---")
    judge.watch({})
    assert judge.judgements() == {}
    judge.watch({KEY: tcp()})
    assert judge.judgements()[KEY] == Judgement()


def test_readers_always_see_the_same_backends() -> None:
    judge, stop = judge_of(tcp()), threading.Event()
    both = {KEY: tcp(), OTHER: tcp()}
    wrong: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen = judge.judgements()
            count = len(seen)
            if sum(1 for _any in seen.items()) != count or count not in (1, 2):
                wrong.append(count)

    reader = threading.Thread(target=read)
    reader.start()
    for now in range(2000):
        judge.watch(both if now % 2 else {KEY: tcp()})
        judge.hear(OTHER, OK, now)
    stop.set()
    reader.join()
    assert not wrong


# --- any history ---

HISTORIES = st.text(alphabet="+-.", max_size=60)


@given(HISTORIES, st.integers(1, 5), st.integers(1, 5), st.sampled_from(["unknown", "down"]))
def test_any_history(history: str, rise: int, fall: int, begin: str) -> None:
    judge = judge_of(tcp(rise, fall), down=begin == "down")
    health, heard, changed = begin, "", 0
    for now, answer in enumerate(history, 1):
        keep = judge.hear(KEY, WORDS[answer], now)
        heard += answer.strip(".")
        enough = 1 if health == "unknown" else rise
        if answer == "+" and health != "up" and heard.endswith("+" * enough):
            health, changed = "up", now
        elif answer == "-" and health != "down" and heard.endswith("-" * fall):
            health, changed = "down", now
        told = judge.judgements()[KEY]
        assert (told.health, told.since) == (health, changed)
        assert (told.asked, told.failed) == (len(heard), heard.count("-"))
        assert keep == heard.endswith("-")


@given(st.integers(2, 5), st.integers(1, 5), st.lists(st.integers(1, 9), max_size=9))
def test_lost_probes_fewer_in_a_row_than_fall_change_nothing(
    fall: int, rise: int, gaps: list[int]
) -> None:
    judge = judge_of(tcp(rise, fall))
    history = "+" + "".join("-" * min(gap, fall - 1) + "+" for gap in gaps)
    assert set(hear(judge, history)) == {"up"}


@given(HISTORIES.map(lambda history: history.replace("+", "").replace("-", "")))
def test_unknown_is_never_down(history: str) -> None:
    assert set(hear(judge_of(tcp(1, 1)), history)) <= {"unknown"}
