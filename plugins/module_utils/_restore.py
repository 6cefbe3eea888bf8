# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a node back at boot to what was last applied, without Ansible: l4lb-restore.service runs
this.

Private to the collection. The program is compiled and proven, the rings are filled, and only then
is it attached. What this host never had is passed over, so nodes and real servers share it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _applied,
    _links,
    _node_state,
    _program,
    _wanted,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import applied_services
from ansible_collections.l4lb.xdp.plugins.module_utils._apply import apply_fleet
from ansible_collections.l4lb.xdp.plugins.module_utils._config import parse
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables


def restore(state_dir: Path) -> list[str]:
    """Restores addresses, then programs; returns a line for each thing that came back."""
    with writer(state_dir, "l4lb-restore.service"):
        return _restore(state_dir)


def _restore(state_dir: Path) -> list[str]:
    done = [f"address {text}" for text in _links.restore_addresses(str(state_dir))]
    for name in _wanted.NAMES:
        wanted = _wanted.recall(_wanted.file_of(name, state_dir))
        if wanted is None:
            continue
        loaded = _program.prepare(wanted)
        if name == "balancer":
            done += _restore_services(wanted, state_dir)
        _program.attach(loaded)
        done.append(
            f"program {name} {loaded.info.tag} on {', '.join(wanted.interfaces)} ({wanted.mode})"
        )
    return done


def _restore_services(wanted: _wanted.Wanted, state_dir: Path) -> list[str]:
    saved = applied_services(state_dir)
    if saved is None:
        return []
    fleet = parse(saved["pools"], saved["services"], saved.get("deny", ()))
    apply_fleet(fleet, Tables(wanted.pins, wanted.source), state_dir)
    _node_state.release(state_dir)  # whoever withheld addresses is gone
    return [f"{len(saved['services'])} services over {len(saved['pools'])} pools"]


def main() -> int:
    state_dir = Path(sys.argv[1] if len(sys.argv) > 1 else _applied.STATE_DIR)
    try:
        for line in restore(state_dir):
            sys.stdout.write(f"restored {line}\n")
    except (L4lbError, OSError) as error:
        sys.stderr.write(f"not restored: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
