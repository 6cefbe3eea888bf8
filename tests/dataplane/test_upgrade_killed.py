# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrades that are killed before each of their writes, and rollbacks."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _applied,
    _apply,
    _bpf,
    _program,
    _releases,
    _schema,
    _upgrade,
    _upgrade_compare,
    _upgrade_state,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._info import info
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import LockError
from ansible_collections.l4lb.xdp.plugins.module_utils._restore import restore
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade import (
    Request,
    UpgradeError,
    alone,
    upgrade,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_rollback import roll_back
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_state import UPGRADED, WATCHING
from tests.releases import HARMLESS, WRONG_TTL

from .node import SOURCE
from .upgrades import Upgraded, pinned_tag, running

LIBRARY_IN = "ansible_collections/l4lb/xdp/plugins/module_utils"
LIBRARY = Path(_releases.__file__).parent


@pytest.fixture
def node(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upgraded]:
    # What next hops there are is not what these tests are about.
    monkeypatch.setattr(_upgrade_compare, "HOP_LIFETIME", 0.0)
    yield from running(pins, tmp_path)


def killed(work: Callable[[], Any], before_write: int) -> bool:
    """Runs the work in a process that dies just before that write, from 1 on; whether it did."""
    child = os.fork()
    if child == 0:
        try:
            _die_before(before_write)
            work()
        finally:
            os._exit(0)
    _pid, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _die_before(number: int) -> None:
    left = number

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return wrapped

    # All that lasts is attached, renamed into its place, or removed.
    _bpf.attach_xdp = deadly(_bpf.attach_xdp)
    Path.replace = deadly(Path.replace)  # type: ignore[method-assign]
    Path.unlink = deadly(Path.unlink)  # type: ignore[method-assign]


def test_killed_before_each_write_the_next_run_converges(node: Upgraded) -> None:
    there = [node.request(HARMLESS), Request(SOURCE, baseline=0, watch=0, services=2, flows=1)]
    for number in range(1, 40):
        old = node.tag()
        to = there[(number - 1) % 2]
        ended = not killed(lambda to=to: upgrade(to, node.places), number)
        if ended:
            break
        assert None not in node.tags(), f"write {number}: an interface has no program"
        done = upgrade(to, node.places)
        new = done.data["upgrade"]["new"]
        assert new != old
        assert node.tags() == {new}, f"write {number}"
        assert pinned_tag(node.pins / "balancer") == new, f"write {number}"
        assert pinned_tag(node.pins / "balancer_previous") == old, f"write {number}"
        assert not (node.pins / "balancer_old").exists(), f"write {number}"
        state = _upgrade_state.load(node.state_dir)
        assert state is not None
        assert (state.phase, state.old, state.new) == (UPGRADED, old, new), f"write {number}"
    assert number > 8


def kill_in_watch(node: Upgraded, request: Request) -> None:
    """As a lost connection may."""
    child = os.fork()
    if child == 0:
        try:
            _upgrade._watch = lambda *_run: os.kill(os.getpid(), signal.SIGKILL)
            upgrade(request, node.places)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    state = _upgrade_state.load(node.state_dir)
    assert state
    assert state.phase == WATCHING


def test_killed_in_the_watch_the_same_release_finishes_it(node: Upgraded) -> None:
    request = node.request(HARMLESS)
    kill_in_watch(node, request)
    done = upgrade(request, node.places)
    assert "killed during its watch was finished" in done.notes[0]
    assert done.data["upgrade"]["packets"] == 0


def test_killed_in_the_watch_another_release_begins_with_the_old_program(node: Upgraded) -> None:
    old = node.tag()
    kill_in_watch(node, node.request(HARMLESS))
    assert node.tag() != old
    with pytest.raises(UpgradeError, match=f"otherwise than {old}"):
        upgrade(node.request(WRONG_TTL), node.places)
    assert node.tag() == old
    assert pinned_tag(node.pins / "balancer") == old
    assert _upgrade_state.load(node.state_dir) is None


def test_killed_in_the_watch_a_rollback_ends_it(node: Upgraded) -> None:
    old = node.tag()
    kill_in_watch(node, node.request(HARMLESS))
    assert roll_back(node.work / "releases", node.places).changed
    assert node.tag() == old
    assert not (node.pins / "balancer_old").exists()


def test_whoever_applied_another_program_meanwhile_has_decided(node: Upgraded) -> None:
    kill_in_watch(node, node.request(HARMLESS))
    _apply.attach_program(replace(node.wanted, mode="generic"), node.state_dir)
    _apply.attach_program(node.wanted, node.state_dir)
    old = node.tag()
    done = upgrade(node.request(HARMLESS), node.places)
    assert done.data["upgrade"]["old"] == old
    assert node.tag() == done.data["upgrade"]["new"]


def test_a_reboot_ends_an_upgrade(node: Upgraded, monkeypatch: pytest.MonkeyPatch) -> None:
    old = node.tag()
    kill_in_watch(node, node.request(HARMLESS))
    _program.detach(node.wanted)
    monkeypatch.setattr(_upgrade_state, "boot_id", lambda: "another")
    restore(node.state_dir)
    assert node.tag() == old
    assert upgrade(node.request(HARMLESS), node.places).data["upgrade"]["old"] == old


def test_two_at_once_are_refused(node: Upgraded) -> None:
    with (
        alone(node.state_dir, dry=False),
        pytest.raises(LockError, match=r"l4lb\.xdp\.upgrade.*pid"),
    ):
        upgrade(node.request(HARMLESS), node.places)


# --- the way back ---


def release(node: Upgraded) -> Path:
    """The sources and a library as files in place; returns where releases are kept."""
    trees = _releases.Trees(node.wanted.source, node.work / "python", node.work / "releases")
    if not trees.library.exists():
        shutil.copytree(LIBRARY, trees.library / LIBRARY_IN)
    _releases.keep(trees, mark=False)
    return trees.releases


def test_rollback_needs_no_compiler(node: Upgraded, monkeypatch: pytest.MonkeyPatch) -> None:
    before = info(node.pins, SOURCE)
    upgrade(node.request(HARMLESS), node.places)
    dry = roll_back(node.work, node.places, dry=True)
    assert dry.changed
    assert node.tag() != before["program"]["tag"]
    monkeypatch.setattr(_schema, "require_headers", _no_compiler)
    done = roll_back(node.work, node.places)
    assert done.changed
    assert done.data["rollback"]["from"] == "pinned as balancer_previous"
    assert "fingerprint is not verified" in done.warnings[0]
    assert node.tag() == before["program"]["tag"]
    monkeypatch.undo()
    assert info(node.pins, SOURCE)["fingerprint"] == before["fingerprint"]
    again = roll_back(node.work, node.places)
    assert not again.changed
    assert again.data["rollback"]["fingerprint"] == before["fingerprint"]


def test_rollback_killed_before_each_write_the_next_one_converges(node: Upgraded) -> None:
    old = node.tag()
    for number in range(1, 20):
        upgrade(node.request(HARMLESS), node.places)
        ended = not killed(lambda: roll_back(node.work, node.places), number)
        assert None not in node.tags(), f"write {number}: an interface has no program"
        roll_back(node.work, node.places)
        assert node.tags() == {old}, f"write {number}"
        assert pinned_tag(node.pins / "balancer") == old, f"write {number}"
        assert not (node.pins / "balancer_previous").exists(), f"write {number}"
        assert not roll_back(node.work, node.places).changed
        if ended:
            break
    assert number > 4


def _no_compiler() -> None:
    raise _schema.SchemaError("no kernel headers")


def test_rollback_after_a_reboot_takes_the_kept_sources(node: Upgraded) -> None:
    before = info(node.pins, SOURCE)
    releases = release(node)
    request = node.request(HARMLESS)
    upgrade(request, node.places)
    _program.detach(node.wanted)  # all that memory held is gone
    new = replace(node.wanted, source=request.candidate)
    _apply.attach_program(new, node.state_dir)
    _apply.apply_services(*_services(node), True, node.pins, SOURCE, node.state_dir)
    assert node.tag() != before["program"]["tag"]
    done = roll_back(releases, replace(node.places, source=request.candidate))
    assert done.data["rollback"]["from"].startswith("compiled from release 0.")
    assert node.tag() == before["program"]["tag"]
    assert done.data["rollback"]["fingerprint"] == before["fingerprint"]


def _services(node: Upgraded) -> tuple[Any, Any]:
    saved = _applied.applied_services(node.state_dir)
    assert saved
    return saved["pools"], saved["services"]


def test_rollback_of_files_alone_leaves_the_program(node: Upgraded) -> None:
    """A release after the last upgrade had the same program, and only its files were installed."""
    release(node)
    upgrade(node.request(HARMLESS), node.places)
    candidate = node.request(HARMLESS).candidate
    trees = _releases.Trees(candidate, node.work / "python", node.work / "releases")
    _releases.keep(trees, mark=False)
    (trees.library / "file.py").write_text("of the next release")
    new = node.tag()
    done = roll_back(trees.releases, replace(node.places, source=candidate))
    assert not done.changed
    assert node.tag() == new
    assert [done.data["rollback"]["release"]] == _releases.kept(trees.releases)


def test_a_library_that_cannot_read_the_state_is_refused_before_anything_changes(
    node: Upgraded,
) -> None:
    release(node)
    upgrade(node.request(HARMLESS), node.places)
    new = node.tag()
    file = node.state_dir / "program-balancer.json"
    text = file.read_text()
    file.write_text(text.replace('"mode"', '"mood"'))
    with pytest.raises(L4lbError, match=r"not of this version"):
        roll_back(node.work / "releases", node.places)
    file.write_text(text)
    services = node.state_dir / "services.json"
    services.write_text(services.read_text().replace('"protocol": "tcp"', '"protocol": "quic"'))
    with pytest.raises(_releases.ReleaseError, match=r"cannot read .* since \(.*quic.*Nothing was"):
        roll_back(node.work / "releases", node.places)
    assert node.tag() == new


def test_no_way_back_says_what_to_do(node: Upgraded) -> None:
    with pytest.raises(UpgradeError, match=r"no upgrade is known.*check out.*l4lb\.xdp\.upgrade"):
        roll_back(node.work / "releases", node.places)
    upgrade(node.request(HARMLESS), node.places)
    (node.pins / "balancer_previous").unlink()
    shutil.rmtree(node.work / "releases", ignore_errors=True)
    with pytest.raises(UpgradeError, match=r"not pinned any more, and release \(unknown\) is not"):
        roll_back(node.work / "releases", node.places)


def test_detaching_takes_the_previous_program_too(node: Upgraded) -> None:
    upgrade(node.request(HARMLESS), node.places)
    _apply.detach_program(node.wanted, node.state_dir)
    left = [path.name for path in node.pins.iterdir() if path.suffix != ".debug"]
    assert left == []
