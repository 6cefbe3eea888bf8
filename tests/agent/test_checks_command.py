# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command check: real programs, and nothing that they leave behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from l4lb_agent.checks import Answer, Target

from .servers import answer_of, asked, check_of, eventually, open_files

TARGET = Target("192.0.2.71", 8080)
NOBODY = 65534


def run(*words: str, **check: Any) -> Answer:
    return answer_of(check_of(type="command", command=list(words), **check), TARGET)


def shell(script: str) -> Answer:
    return run("sh", "-c", script)


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def zombies() -> int:
    """Children of this process that nobody has waited for."""
    stats = [path.read_text() for path in Path("/proc").glob(f"{os.getpid()}/task/*/children")]
    return sum(not is_alive(int(pid)) for pid in " ".join(stats).split())


@pytest.mark.parametrize(
    ("script", "ok", "text"),
    [
        ("exit 0", True, "ok"),
        ("echo all is well", True, "ok"),
        ("exit 3", False, "exit status 3"),
        (
            "echo first; echo the disk is full >&2; echo; exit 1",
            False,
            "exit status 1: the disk is full",
        ),
        ("kill -TERM $$", False, "killed by signal 15"),
        ("printf 'a\\033[31mb\\tc\\377'; exit 1", False, "exit status 1: a[31mbc\ufffd"),
    ],
)
def test_exit_status(script: str, ok: bool, text: str) -> None:
    answer = shell(script)
    assert (answer.ok, answer.local) == (ok, False)
    assert answer.text == text


def test_environment_and_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the agent")
    assert shell(f"env > {tmp_path}/env; pwd > {tmp_path}/pwd; cat > {tmp_path}/input").ok
    lines = (tmp_path / "env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    ours = {key: value for key, value in found.items() if key.startswith("L4LB_")}
    assert ours == {"L4LB_POOL": "web", "L4LB_BACKEND": "192.0.2.71", "L4LB_PORT": "8080"}
    assert set(found) - set(ours) <= {"PATH", "LANG", "PWD", "SHLVL", "_"}
    assert (tmp_path / "pwd").read_text() == "/\n"
    assert (tmp_path / "input").read_text() == ""


@pytest.mark.parametrize("program", ["/nonexistent", "/etc/passwd"])
def test_a_program_that_cannot_be_run_is_no_answer(program: str) -> None:
    answer = run(program)
    assert (answer.ok, answer.local) == (False, True)
    assert answer.text.startswith(f"cannot ask: setpriv: failed to execute {program}: ")


def test_all_of_its_group_dies_with_the_time(tmp_path: Path) -> None:
    answer = shell(f"sleep 300 & echo $! $$ > {tmp_path}/pids; trap '' TERM; sleep 300")
    assert (answer.ok, answer.text) == (False, "timeout after 1 s")
    assert 1 <= answer.seconds < 1.5
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    for pid in pids:
        eventually(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]


def test_what_it_leaves_behind_dies_with_it(tmp_path: Path) -> None:
    """And does not keep the answer waiting, though it holds the output open."""
    answer = shell(f"sleep 300 & echo $! > {tmp_path}/pid; exit 0")
    assert answer.ok
    assert answer.seconds < 1
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not is_alive(pid))


def test_who_never_stops_talking_is_not_heard_out() -> None:
    answer = run("yes")
    assert (answer.ok, answer.text) == (False, "killed by signal 13: y")


def test_a_lot_of_output_is_no_fault() -> None:
    assert shell("head -c 500000 /dev/zero; exit 0").ok


def test_nothing_is_left_open_however_it_ends() -> None:
    async def work() -> None:
        quick = check_of(type="command", command=["true"])
        slow = check_of(type="command", command=["sleep", "300"])
        await asked(quick, TARGET)
        before, unreaped = open_files(), zombies()
        for _any in range(5):
            assert (await asked(quick, TARGET)).ok
        assert (await asked(slow, TARGET)).text == "timeout after 1 s"
        task = asyncio.create_task(asked(slow, TARGET))
        while open_files() == before:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while open_files() > before:  # until what was killed has gone
            await asyncio.sleep(0.01)
        assert zombies() == unreaped

    asyncio.run(asyncio.wait_for(work(), 10))


def test_a_slow_one_delays_no_other() -> None:
    async def work() -> list[Answer]:
        slow = [check_of(type="command", command=["sleep", str(300 + i)]) for i in range(8)]
        waiting = [asyncio.create_task(asked(each, TARGET)) for each in slow]
        await asyncio.sleep(0)
        quick = await asked(check_of(type="command", command=["true"]), TARGET)
        assert quick.ok
        assert not any(each.done() for each in waiting)
        return [await each for each in waiting]

    assert {each.text for each in asyncio.run(work())} == {"timeout after 1 s"}


def test_as_root_it_runs() -> None:
    assert os.geteuid() == 0, "this test needs root"
    assert shell('test "$(id -u)" = 0').ok


def test_it_has_none_of_the_agents_capabilities() -> None:
    """The agent's situation: another user than root, with ambient capabilities."""
    caps = "+net_admin,+sys_admin"
    agent = ["--", sys.executable, "-c", AGENT]
    become = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    result = subprocess.run(
        ["setpriv", *become, f"--inh-caps={caps}", f"--ambient-caps={caps}", *agent],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        timeout=30,
    )
    assert result.returncode == 0, result.stderr
    held, command = result.stdout.splitlines()
    assert int(held, 16) == 1 << 12 | 1 << 21
    assert command == "exit status 1: 0000000000000000"


AGENT = """
import re
from tests.agent.test_checks_command import shell
print(re.search("CapAmb:\\s*(.*)", open("/proc/self/status").read())[1])
print(shell("grep -E 'Cap(Prm|Eff|Inh|Amb)' /proc/self/status | cut -f2 | sort -u; exit 1").text)
"""
