# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock from the first task of a playbook to a node's turn; two hosts that are one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .playing import ROOT, played

pytestmark = pytest.mark.usefixtures("ansible")

_PLAY = """
- hosts: l4lb_nodes
  gather_facts: false
  any_errors_fatal: true
  module_defaults: &here
    l4lb.xdp.fleet_lock:
      state_dir: "{base}/{{{{ item | default(inventory_hostname) }}}}"
  vars: {{l4lb_work: test}}
  tasks:
    - ansible.builtin.include_tasks: {root}/playbooks/tasks/lock.yml

- hosts: node1
  gather_facts: false
  module_defaults: *here
  tasks:
    - ansible.builtin.file: {{path: "{base}/node2", state: directory, mode: "0755"}}
    - ansible.builtin.include_tasks: {root}/playbooks/tasks/renew.yml
      vars: {{l4lb_lock_seconds: {seconds}}}
"""


def turn(base: Path, seconds: int) -> dict[str, dict[str, Any]]:
    """What nodes hold after the first one's turn, in a run that took the lock for an hour."""
    play = base / "play.yml"
    play.write_text(_PLAY.format(root=ROOT, base=base, seconds=seconds))
    inventory = base / "hosts.yml"
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    nodes = {"hosts": {"node1": host, "node2": host}}
    inventory.write_text(json.dumps({"l4lb_nodes": nodes}))
    played(f"--inventory={inventory}", str(play))
    return {n: json.loads((base / n / "fleet.json").read_text()) for n in ("node1", "node2")}


def lasts(held: dict[str, Any]) -> int:
    """Seconds from when the run took the lock."""
    return int(held["until"]) - int(held["since"])


def test_turn_keeps_the_lock_of_all_nodes(tmp_path: Path) -> None:
    """Of a lock of 2 s a third is over at once: all of it is then counted anew."""
    for name in ("node1", "node2"):
        (tmp_path / name).mkdir()
    found = turn(tmp_path, seconds=2)
    assert found["node1"]["run"] == found["node2"]["run"] != ""
    assert all(lasts(held) < 1800 for held in found.values())


def test_turn_soon_after_another_asks_its_own_node_only(tmp_path: Path) -> None:
    for name in ("node1", "node2"):
        (tmp_path / name).mkdir()
    found = turn(tmp_path, seconds=1_000_000)
    assert lasts(found["node1"]) >= 1_000_000
    assert lasts(found["node2"]) == 3600


def test_node_that_the_run_has_installed_is_locked_too(tmp_path: Path) -> None:
    (tmp_path / "node1").mkdir()
    found = turn(tmp_path, seconds=2)
    assert found["node1"]["run"] == found["node2"]["run"] != ""
