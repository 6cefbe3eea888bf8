# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node is brought back when it steers as the others do, which may take some looks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .playing import ROOT, played

_MODULE = """#!{python}
# WANT_JSON
import json, pathlib
looks = pathlib.Path("{base}/looks")
seen = looks.read_text() + "." if looks.exists() else "."
looks.write_text(seen)
print(json.dumps({{"changed": False, "steering": len(seen) if len(seen) <= {differ} else 0}}))
"""
"""Says something else each time, until so many have asked."""

_PLAY = """
- hosts: node1
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_tasks: bring_back.yml
      rescue:
        - ansible.builtin.debug: {msg: "LEFT: {{ ansible_failed_result.msg }}"}
"""


def bring_back(base: Path, differ: int) -> str:
    """What the run says of a node that comes back, when so many answers differ from all others."""
    (base / "library").mkdir()
    (base / "library/look.py").write_text(
        _MODULE.format(python=sys.executable, base=base, differ=differ)
    )
    for name in ("bring_back.yml", "alike.yml"):
        text = (ROOT / "playbooks/tasks" / name).read_text()
        text = text.replace("l4lb.xdp.info", "look").replace("l4lb.xdp.node", "look")
        (base / name).write_text(text.replace("seconds: 3", "seconds: 0"))
    (base / "play.yml").write_text(_PLAY)
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    nodes = {"hosts": {"node1": host, "node2": host}}
    (base / "hosts.yml").write_text(json.dumps({"l4lb_nodes": nodes}))
    return played(f"--inventory={base}/hosts.yml", str(base / "play.yml"))


def test_node_that_soon_steers_as_the_others_comes_back(tmp_path: Path) -> None:
    said = bring_back(tmp_path, differ=4)
    assert "LEFT" not in said
    assert "has no attribute" not in said
    assert (tmp_path / "looks").read_text() == "." * (3 * 2 + 1)  # of two nodes, then announcing


def test_node_that_goes_on_to_steer_differently_is_left_withdrawn(tmp_path: Path) -> None:
    said = bring_back(tmp_path, differ=1000)
    assert "LEFT: node1 is left withdrawn, for it steers some flows differently than node2" in said
