# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit finds each kind of thing that is wrong, on the host where it is, and nothing else."""

from __future__ import annotations

import copy
from typing import Any, Callable

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._audit import judge, report

SIZES = {"ring": 251, "services": 10, "pools": 10, "backends": 10, "flows": 100}
NODE: dict[str, Any] = {
    "info": {
        "failed": False,
        "program": {
            "version": "0.1.0",
            "tag": "6ae9",
            "interfaces": [{"interface": "eth0", "mode": "native"}],
        },
        "settings": {"schema_version": 4, "sizes": SIZES},
        "steering": "7c1a",
        "fingerprint": "0b5d",
        "flow_tables": {"ipv4": {"entries": 3, "size": 100}},
    },
    "node": {
        "failed": False,
        "node": {
            "state": "announcing",
            "agent": True,
            "announced": ["203.0.113.10"],
            "reasons": [],
            "problems": [],
            "withheld": {},
        },
    },
    "program": {"changed": False},
    "tuning": {"changed": False},
    "services": {
        "changed": False,
        "plan": {"overrides": [], "holds": {"services": 1, "pools": 1, "backends": 2}},
    },
    "differs": [],
    "sysctls": [],
    "units": {"l4lb-agent.service": ["active", "enabled"]},
    "interfaces": ["eth0"],
    "kept": ["0.1.0-abc"],
}
REAL: dict[str, Any] = {
    "decap": {"changed": False},
    "addresses": {"added": [], "removed": []},
    "rules": {"changed": False},
    "rules_loaded": True,
    "sysctls": [],
    "units": {"l4lb-restore.service": ["active", "enabled"]},
}


def fleet() -> tuple[dict[str, Any], dict[str, Any]]:
    return {name: copy.deepcopy(NODE) for name in ("n1", "n2")}, {"r1": copy.deepcopy(REAL)}


def set_at(tree: Any, path: str, value: Any) -> None:
    *way, last = path.split("/")
    for key in way:
        tree = tree[key]
    tree[last] = value


def test_sound_fleet_has_no_findings() -> None:
    nodes, real = fleet()
    assert judge(nodes, real) == []
    assert report(nodes, [])[-1] == "0 wrong, 0 to be known"


DIFF = [{"before": "pool web: maglev\n", "after": ""}]
WRONG = [
    ("n2/info", {"failed": True, "msg": "no balancer is prepared"}, "n2", "no balancer is"),
    ("n2/info/program/tag", "beef", "fleet", r"n1 (6ae9) against n2 (beef)"),
    ("n2/info/settings/schema_version", 3, "fleet", "layout"),
    ("n2/info/steering", "0000", "fleet", "steering"),
    ("n2/info/program/interfaces", [], "n2", "no balancer runs on eth0"),
    ("n2/info/flow_tables/ipv4/entries", 80, "n2", "80 % of the ipv4 flow table"),
    ("n2/services/plan/holds/pools", 8, "n2", "raise l4lb_max_pools"),
    ("n2/services/changed", True, "n2", "l4lb.xdp.services"),
    ("n2/services", {"changed": True, "diff": DIFF}, "n2", "has 'pool web: maglev'"),
    ("n2/services", {"failed": True, "msg": "mistakes"}, "n2", "cannot be compared: mistakes"),
    ("n2/tuning/changed", True, "n2", "tuning: differs"),
    ("n2/program/changed", True, "n2", "program: differs"),
    ("n2/node", {"failed": True, "msg": "no file"}, "n2", "no file"),
    ("n2/node/node/agent", False, "n2", "none is at work"),
    ("n2/node/node/reasons", ["no program"], "n2", "no program"),
    ("n2/node/node/withheld", {"203.0.113.20": ["proof"]}, "n2", "203.0.113.20 is withheld: proof"),
    ("n2/differs", ["_plan.py"], "n2", "_plan.py"),
    ("n2/sysctls", ["net/ipv4/ip_forward:0"], "n2", "net/ipv4/ip_forward:0"),
    ("n2/units", {"bird.service": ["failed", "enabled"]}, "n2", "bird.service is failed"),
    ("n2/units", {"bird.service": ["active", "disabled"]}, "n2", "not started at the next boot"),
    ("n2", {}, "n2", "was not reached"),
]


@pytest.mark.parametrize(("path", "value", "host", "text"), WRONG)
def test_what_is_wrong_is_found_where_it_is(path: str, value: Any, host: str, text: str) -> None:
    nodes, real = fleet()
    set_at(nodes, path, value)
    found = judge(nodes, real)
    assert [each.host for each in found if each.wrong] == [host]
    assert text in "\n".join(report(nodes, found))


REAL_WRONG = [
    ("r1/addresses/added", ["203.0.113.10"], "203.0.113.10 is missing"),
    ("r1/addresses/removed", ["203.0.113.99"], "203.0.113.99 is not wanted"),
    ("r1/addresses", {"failed": True, "msg": "no link"}, "no link"),
    ("r1/rules/changed", True, "rules: differs"),
    ("r1/decap", {"changed": True}, "decapsulation: differs"),
    ("r1/sysctls", ["net/ipv4/conf/all/arp_ignore:0"], "arp_ignore:0"),
    ("r1/rules_loaded", False, "the kernel has not those of the file"),
    ("r1/units", {"l4lb-nftables.service": ["active", ""]}, "is not installed"),
    ("r1", {}, "was not reached"),
]


@pytest.mark.parametrize(("path", "value", "text"), REAL_WRONG)
def test_what_is_wrong_with_a_real_server_is_found(path: str, value: Any, text: str) -> None:
    nodes, real = fleet()
    set_at(real, path, value)
    (found,) = judge(nodes, real)
    assert found.wrong
    assert found.host == "r1"
    assert text in str(found)


def drained(nodes: dict[str, Any]) -> None:
    nodes["n2"]["node"]["node"].update(state="withdrawn", announced=[], withheld={"a": ["b"]})


def overridden(nodes: dict[str, Any]) -> None:
    nodes["n2"]["services"]["plan"]["overrides"] = ["pool web backend 192.0.2.71: state draining"]


def nothing_kept(nodes: dict[str, Any]) -> None:
    nodes["n2"]["kept"] = []


@pytest.mark.parametrize("what", [drained, overridden, nothing_kept])
def test_what_somebody_meant_is_told_and_not_wrong(what: Callable[[dict[str, Any]], None]) -> None:
    nodes, real = fleet()
    what(nodes)
    (found,) = judge(nodes, real)
    assert not found.wrong
    assert found.host == "n2"


def test_fleet_that_announces_nothing_is_wrong() -> None:
    nodes, real = fleet()
    for seen in nodes.values():
        seen["node"]["node"].update(state="withdrawn", announced=[])
    assert [each.text for each in judge(nodes, real) if each.wrong] == [
        "no node announces anything"
    ]
