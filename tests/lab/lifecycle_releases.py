# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other releases on a running fleet: good ones, bad ones, and the way back."""

from __future__ import annotations

import re
from pathlib import Path

import edits
import fleet
from breakage import INVENTORY
from common import CHECKOUT
from lifecycle_fleet import difference, everybody
from rehearsal import Run, Scenario
from scenarios import NODE, OTHER

from tests import releases

# Shorter than the defaults, or the table would take an hour.
PATIENCE = ("-e", "l4lb_baseline=3", "-e", "l4lb_watch=8")
FIRST = ("-e", f"l4lb_hosts={NODE}")
ANEW = (*FIRST, "-e", "l4lb_relayout=true", "-e", "l4lb_drain_threshold=50")
# Where a release says which layout its maps have: its program, and the library that fills them.
LAYOUTS = {
    "bpf/maps.h": r"(?m)^#define SCHEMA_VERSION \d+$",
    "plugins/module_utils/_schema.py": r"(?m)^LAYOUT = \d+$",
}


def tags() -> dict[str, str]:
    info = fleet.nodes_info(INVENTORY, "program")
    return {node: each["program"]["tag"] for node, each in info.items()}


def fingerprints() -> set[str]:
    return {each["fingerprint"] for each in fleet.nodes_info(INVENTORY, "fingerprint").values()}


def discard(_run: Run) -> None:
    edits.discard_release()


def kept() -> dict[str, dict]:
    """All files but those that say who wrote last to a node: its agent does all the while."""
    return {
        host: {path: at for path, at in files.items() if path != "var/lib/l4lb/lock"}
        for host, files in everybody().items()
    }


def dry_run(run: Run, playbook: str, *options: str, root: Path = CHECKOUT) -> None:
    """Changes nothing, and says that the program would be another on both nodes."""
    before, files = tags(), kept()
    said = run.play(playbook, "--check", "--diff", *options, root=root).output
    changed = difference(files, kept())
    run.check(not changed and tags() == before, f"{playbook} --check changed {changed or tags()}")
    for node, tag in before.items():
        run.check(f"-eth0: balancer {tag}" in said, f"{playbook} --check: {node} keeps its program")


def upgrade_and_roll_back(run: Run) -> None:
    before, same = tags(), fingerprints()
    other = edits.release(releases.HARMLESS)
    dry_run(run, "upgrade", *PATIENCE, root=other)
    run.play("upgrade", *PATIENCE, root=other)
    upgraded = tags()
    run.check(
        len(set(upgraded.values())) == 1 and not before.items() & upgraded.items(),
        f"programs after the upgrade: {upgraded}, before: {before}",
    )
    run.check(len(fingerprints()) == 1, "nodes differ after the upgrade")
    dry_run(run, "rollback")
    played = run.play("rollback")
    run.check(tags() == before, f"programs after the rollback: {tags()}, before: {before}")
    run.check(fingerprints() == same, "the fingerprint is not the former one")
    run.shows(f"both nodes another program, and after {played.seconds:.0f} s the former again")


def refuse_by_golden(run: Run) -> None:
    before = tags()
    run.play(
        "upgrade",
        *PATIENCE,
        root=edits.release(releases.WRONG_TTL),
        refused="golden packets otherwise than",
    )
    run.check(tags() == before, "a program was replaced")
    run.shows("refused on the first node, with the packets that differ")


def take_back_by_watch(run: Run) -> None:
    before = tags()
    run.play(
        "upgrade",
        *PATIENCE,
        root=edits.release(releases.LOSSY),
        refused="packets fared worse",
    )
    run.check(tags() == before, f"programs: {tags()}, before: {before}")
    run.shows("the first node got its program back by itself, the second never had another")


def other_layout(run: Run) -> None:
    before = tags()
    root = edits.release()
    for file, line in LAYOUTS.items():
        text = (CHECKOUT / file).read_text()
        (root / file).write_text(re.sub(line, lambda found: f"{found[0]}9", text))
    run.play("upgrade", *FIRST, root=root, refused="l4lb_relayout")
    run.check(tags() == before, "the refused run replaced a program")
    run.play("upgrade", *ANEW, root=root)
    run.well()
    run.play("site", refused="l4lb_relayout")
    run.play("upgrade", *ANEW)
    run.well()
    run.check(tags() == before, f"programs afterwards: {tags()}, before: {before}")
    run.shows(
        f"refused; then {NODE} drained, begun anew and announced; the same back, but not by site;"
        f" {OTHER} went on"
    )


def back_to_layout(run: Run) -> None:
    edits.discard_release()
    if run.result.wrong:
        run.play("upgrade", *ANEW, "-e", "l4lb_force=true")


def scenarios() -> dict[str, Scenario]:
    return {
        "upgrade": Scenario(
            "upgrade, and rollback, each after a dry run", upgrade_and_roll_back, mends=discard
        ),
        "upgrade_golden": Scenario(
            "upgrade to a release that fails a golden test", refuse_by_golden, mends=discard
        ),
        "upgrade_watch": Scenario(
            "upgrade to a release whose watch fails",
            take_back_by_watch,
            mends=discard,
            loss="an eighth of the IPv4 packets over one node, until the watch sees it",
        ),
        "layout": Scenario(
            "a release whose maps have another layout", other_layout, mends=back_to_layout
        ),
    }
