# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example's fleet, in which some nodes announce and one is reached by static routes (root)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from l4lb_agent.announcer import Announcer

from .bgp import ROOT, V4, V6, documented, pair, until
from .playing import played

_PLAY = """
- hosts: l4lb_nodes
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.include_role:
        name: l4lb.xdp.bird
        tasks_from: validate
        public: true
    - ansible.builtin.file:
        path: "{to}/{{{{ inventory_hostname }}}}"
        state: directory
        mode: "0755"
    - ansible.builtin.template:
        src: "{root}/templates/{{{{ item }}}}.j2"
        dest: "{to}/{{{{ inventory_hostname }}}}/{{{{ item }}}}"
        mode: "0644"
      loop: [bird-secrets.conf, bird.conf]
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Configurations of inventories/example's nodes, as the role renders them, taken by BIRD."""
    directory = tmp_path_factory.mktemp("example")
    play = directory / "play.yml"
    play.write_text(_PLAY.format(root=ROOT, to=directory))
    own = f"{directory}/{{{{ inventory_hostname }}}}"
    values = {
        "ansible_python_interpreter": sys.executable,
        "bird_secrets": f"{own}/bird-secrets.conf",
        "bird_extra": f"{own}/extra",
        "bird_announcements": f"{own}/announce.conf",
    }
    played("--inventory=inventories/example", "-e", json.dumps(values), str(play))
    found = {}
    for config in directory.glob("*/bird.conf"):
        subprocess.run(["bird", "-p", "-c", str(config)], check=True)
        found[config.parent.name] = config.read_text()
    return found


def test_two_announce_and_one_is_reached_by_static_routes(nodes: dict[str, str]) -> None:
    sessions = {name: set(re.findall(r"protocol bgp (\w+)", it)) for name, it in nodes.items()}
    both = {"router1_ipv4", "router1_ipv6"}
    assert sessions == {
        "lb1.example.net": both,
        "lb2.example.net": both,
        "lb3.example.net": set(),
    }


def test_the_guard_against_loops_is_the_same_on_all(nodes: dict[str, str]) -> None:
    guards = {tuple(re.findall(r"route (\S+) unreachable;", it)) for it in nodes.values()}
    assert len(guards) == 1
    assert {f"{V4}/32", f"{V6}/128"} <= set(*guards)


def test_documented_static_routes_wait_behind_what_is_announced(tmp_path: Path) -> None:
    """One node, of two addresses: what it withdraws goes to the third node."""
    router = re.sub(r"^.*node2_ipv.*\n", "", documented("bird"), flags=re.MULTILINE)
    router += documented("bird static")
    options = {"bird_bfd": True, "bird_ttl_security": True}
    with pair(tmp_path, "l4lb-last", router, **options) as ends:
        announcer = Announcer(ends.announcements, ends.node.config, ends.node.control)
        announcer.announce([V4, V6], draining=False)
        for address, node, last in (
            (V4, "192.0.2.11", "192.0.2.13"),
            (V6, "2001:db8:1::11", "2001:db8:1::13"),
        ):
            until(lambda a=address, n=node: f"via {n} on lan" in ends.router.chosen(a))
            assert f"via {last} on lan" in ends.router.route(address)
        announcer.announce([], draining=False)
        until(lambda: "via 192.0.2.13 on lan" in ends.router.chosen(V4))
        until(lambda: "via 2001:db8:1::13 on lan" in ends.router.chosen(V6))
