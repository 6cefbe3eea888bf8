# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Back to the program before the last upgrade: the pinned one, which needs no compiler, or after a
reboot the one that the kept release's sources make.

Private to the collection. Verified by tag, and by the fingerprint that this node's services, rings
and settings have with that tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _bpf,
    _info,
    _links,
    _program,
    _releases,
    _upgrade,
    _upgrade_state,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome, lacking
from ansible_collections.l4lb.xdp.plugins.module_utils._program import PREVIOUS, Loaded
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import require_bpffs
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade import Places, UpgradeError
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_state import (
    OLD,
    ROLLED_BACK,
    State,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted


def roll_back(releases: Path, places: Places, dry: bool = False) -> Outcome:
    """The previous program on all interfaces; also ends an upgrade that was killed.

    releases: where releases before are kept. Raises UpgradeError when there is no way back.
    """
    wanted = _upgrade.applied(places.state_dir)
    if dry and (why_not := lacking(lambda: _require_ready(wanted))):
        return Outcome(True, warnings=[why_not])
    _require_ready(wanted)
    with _upgrade.alone(places.state_dir, dry) as waited:
        state = _upgrade_to_undo(releases, places)
        library = releases / state.release / "python"
        if state.release and library.is_dir():
            _releases.require_reads(library, places.state_dir)
        with _previous(state, wanted, releases, places) as (previous, how):
            done = _to(previous, how, state, wanted, places, dry)
    done.warnings += waited
    return done


def _require_ready(wanted: Wanted) -> None:
    """What a way back by pins needs: no compiler, no headers."""
    _bpf.require_bcc()
    _links.require_libraries()
    require_bpffs(wanted.pins)


def _upgrade_to_undo(releases: Path, places: Places) -> State:
    """The last upgrade; when other files were installed since, or there was none, the release that
    was kept then.
    """
    state = _upgrade_state.load(places.state_dir)
    names = _releases.kept(releases)
    if state and (state.unfinished or not names or not state.release):
        return state
    if state and state.release in (*names, _releases.name_of(places.source, places.library)):
        return state
    if not names:
        raise UpgradeError(
            f"no upgrade is known on this node and no release is kept in {releases}: check out the "
            "release that is wanted and run l4lb.xdp.upgrade"
        )
    return State("", "", "", names[0])


@contextmanager
def _previous(
    state: State, wanted: Wanted, releases: Path, places: Places
) -> Iterator[tuple[Loaded, str]]:
    """The program to go back to, and where it is from."""
    running = {each.tag for each in _program.attachments(wanted).values()}
    with ExitStack() as stack:
        if state.old and running == {state.old}:
            fd = stack.enter_context(_bpf.opened(places.pins / "balancer"))
            if fd is not None and _bpf.program_info(fd).tag == state.old:
                yield Loaded(wanted, None, fd, _bpf.program_info(fd), False), "it runs already"
                return
        for name in (OLD, PREVIOUS):
            fd = stack.enter_context(_bpf.opened(places.pins / name))
            if fd is not None and _serves(fd, state, places.pins):
                yield Loaded(wanted, None, fd, _bpf.program_info(fd), False), f"pinned as {name}"
                return
        yield _compiled(state, wanted, releases, places), f"compiled from release {state.release}"


def _serves(fd: int, state: State, pins: Path) -> bool:
    """Whether a pinned program is the upgrade's old one, on the maps that are pinned now."""
    info = _bpf.program_info(fd)
    with _bpf.opened(pins / "settings") as settings:
        same = settings is not None and _bpf.map_info(settings).id in info.map_ids
    return same and info.tag == state.old


def _compiled(state: State, wanted: Wanted, releases: Path, places: Places) -> Loaded:
    """After a reboot: the kept sources; they are in place already when an upgrade was killed before
    its release was installed.
    """
    source = releases / state.release / "bpf"
    if state.release == _releases.name_of(places.source, places.library):
        source = places.source
    if not state.release or not source.is_dir():
        raise UpgradeError(
            f"program {state.old} is not pinned any more, and release "
            f"{state.release or '(unknown)'} is not kept in {releases}: check that release out and "
            "run l4lb.xdp.upgrade"
        )
    _upgrade.require_layout(wanted, source)
    return _upgrade.candidate_of(wanted, source)


def _to(
    previous: Loaded, how: str, state: State, wanted: Wanted, places: Places, dry: bool
) -> Outcome:
    before = [str(each) for each in _program.attachments(wanted).values()]
    tag = previous.info.tag
    after = _upgrade.lines(wanted, tag)
    changed = bool(_program.differs(previous)) or state.phase not in ("", ROLLED_BACK)
    notes = [f"{tag}: {how}"]
    warnings: list[str] = []
    if state.old and tag != state.old:
        warnings.append(
            f"the kept sources make program {tag} here, not {state.old} as before: the kernel, its "
            "headers or the compiler are others now"
        )
    fingerprint = None
    if not dry:
        tables = _tables(places, previous, warnings)
        with writer(places.state_dir, "l4lb.xdp.upgrade"):
            expected = _fingerprint(places, previous, tables, tag)
            _upgrade.stand(previous)
            for name in (OLD, PREVIOUS):
                (places.pins / name).unlink(missing_ok=True)
            if state.phase:
                _upgrade_state.save(places.state_dir, state.then(ROLLED_BACK))
            fingerprint = _fingerprint(places, previous, tables)
        _verify(wanted, previous, expected, fingerprint)
    data = {
        "rollback": {
            "tag": tag,
            "from": how,
            "release": state.release,
            "fingerprint": fingerprint,
        }
    }
    return Outcome(changed, before, after, data, notes, warnings)


def _tables(places: Places, program: Loaded, warnings: list[str]) -> Tables | None:
    """To verify by; where they cannot be read the way back is open all the same."""
    try:
        return Tables(places.pins, program.wanted.source)
    except L4lbError as error:
        warnings.append(f"the fingerprint is not verified: {error}")
        return None


def _fingerprint(
    places: Places, program: Loaded, tables: Tables | None, tag: str = ""
) -> str | None:
    """The node's own, or the one it has with a program of this tag."""
    if tables is None:
        return None
    node = _info.Node(places.pins, program.wanted.source, tables)
    if tag:
        vars(node)["program"] = {**node.program, "tag": tag}
    return str(_info.tell(node, ("fingerprint",))["fingerprint"])


def _verify(
    wanted: Wanted, previous: Loaded, expected: str | None, fingerprint: str | None
) -> None:
    tags = {each.interface: each.tag for each in _program.attachments(wanted).values()}
    wrong = [name for name, tag in tags.items() if tag != previous.info.tag]
    if wrong or fingerprint != expected:
        what = f"{', '.join(wrong)} runs another program" if wrong else "the fingerprint differs"
        raise UpgradeError(
            f"rolled back to {previous.info.tag}, but {what} (fingerprint {fingerprint}, expected "
            f"{expected}): run again"
        )
