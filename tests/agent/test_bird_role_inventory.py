# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mistakes that the role bird refuses before anything changes, and in which words."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from .playing import played

_PLAY = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - block:
        - ansible.builtin.include_role: {{name: l4lb.xdp.bird, tasks_from: validate}}
      rescue:
        - ansible.builtin.copy:
            content: "{{{{ ansible_failed_result | to_json }}}}"
            dest: "{to}/{{{{ inventory_hostname }}}}.json"
"""

ROUTER = {"name": "router1", "address": "192.0.2.1", "as": 65000}
GOOD: dict[str, Any] = {
    "bird_services": [{"address": "203.0.113.10"}, {"address": "2001:db8:100::10"}],
    "bird_as": 4200000001,
    "bird_router_id": "192.0.2.11",
    "bird_neighbors": [
        {**ROUTER, "password": "pssst", "multihop": 2, "source_address": "192.0.2.11"},
        {"name": "router1_v6", "address": "2001:db8:1::1", "as": 4294967295, "bfd": True},
    ],
    "bird_communities": ["65000:100", "4294967295:0:1"],
}


def neighbor(**options: Any) -> dict[str, Any]:
    return {"bird_neighbors": [{**ROUTER, **options}]}


TWICE = [{**ROUTER, "name": "a"}, {**ROUTER, "name": "b"}]
CASES: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    (neighbor(bfd=False, communities=["65535:65281"]), ""),
    ({"bird_extra": "/etc/bird/*"}, "bird_extra: '/etc/bird/*' must be an absolute path"),
    ({"bird_router_id": "node1"}, "bird_router_id (by default l4lb_bgp_router_id) is 'node1'"),
    ({"bird_as": 0}, "bird_as (by default l4lb_bgp_as) is '0' and must be 1 to 4294967295"),
    ({"bird_neighbors": []}, "is empty: name the routers of case"),
    ({"bird_hold_time": 2}, "bird_hold_time: 2 must be 3 to 65535."),
    ({"bird_multihop": 1}, "bird_multihop: 1 must be 2 to 255, or 0."),
    ({"bird_bfd_interval": 5}, "bird_bfd_interval: 5 must be 10 to 60000."),
    ({"bird_export_limit": 0}, "bird_export_limit: 0 must be 1 to 4294967295."),
    (neighbor(name="router-1"), "entry 'router-1': the name must consist of letters"),
    (neighbor(name="services4"), "entry 'services4': the name must consist of letters"),
    (neighbor(address="192.0.2.256"), "entry 'router1': the name must"),
    (neighbor(password='a"b'), "entry 'router1': password must not contain a double quote"),  # noqa: S106
    (neighbor(multihop=1), "entry 'router1': multihop must be 0 or 2 to 255"),
    (neighbor(source_address="2001:db8::1"), "source_address an address of this node of the fam"),
    ({"bird_communities": ["65000:65536"]}, "'65000:65536' must be a standard one"),
    (neighbor(communities=["no-export"]), "'no-export' must be a standard one"),
    ({"bird_communities": ["65535:0"]}, "and not 65535:0, by which a node that drains"),
    ({"bird_neighbors": TWICE}, "bird_neighbors has one address twice: 192.0.2.1, 192.0.2.1."),
    ({"bird_graceful_restart": True}, "bird_graceful_restart and BFD (bird_bfd, or bfd of"),
    ({"bird_graceful_restart": True, **neighbor(bfd=False)}, ""),
    ({"bird_graceful_restart": True, "bird_bfd": True, **neighbor()}, "ask for opposite things"),
    (
        {"bird_services": [{"address": f"203.0.113.{n}"} for n in (1, 2)], "bird_export_limit": 1},
        "There are 2 IPv4 and 0 IPv6 addresses of services, and no more than 1 of a family",
    ),
    (
        {
            "bird_services": [{"address": "203.0.113.1"}, {"address": "203.0.113.2", "port": 1}],
            **neighbor(export_limit=1),
        },
        "raise bird_export_limit (or export_limit of the neighbour)",
    ),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory, ansible: str) -> dict[int, str]:
    """What the role said, by number of the case; one run of Ansible for all of them."""
    directory = tmp_path_factory.mktemp(ansible)
    hosts = {f"case{number}": {**GOOD, **changes} for number, (changes, _words) in enumerate(CASES)}
    common = {"ansible_python_interpreter": sys.executable}
    inventory, play = directory / "hosts.json", directory / "play.yml"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
    play.write_text(_PLAY.format(to=directory))
    played(f"--inventory={inventory}", str(play))
    return {int(file.stem[4:]): file.read_text() for file in directory.glob("case*.json")}


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number][1][:40])
def test_mistakes_are_refused_in_clear_words(refusals: dict[int, str], number: int) -> None:
    words = CASES[number][1]
    result = json.loads(refusals.get(number, '{"msg": ""}'))
    said = [result["msg"], *(one["msg"] for one in result.get("results", []) if one.get("failed"))]
    assert any(words in one for one in said) if words else number not in refusals, said


def test_a_refused_password_is_not_shown(refusals: dict[int, str]) -> None:
    assert not any("pssst" in text or 'a\\"b' in text for text in refusals.values())
