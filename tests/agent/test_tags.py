# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags of the playbook site: the roles' names, each bringing its role and nothing else."""

from __future__ import annotations

import re
from functools import cache

import pytest

from .playing import played

ROLES = {"agent", "balancer", "bird", "bpffs", "real_server"}
# What is done whatever the tag: nothing changes before the inventory was found to be right.
ALWAYS = {
    "Refuse mistakes in what is balanced, before anything changes",
    "Refuse mistakes in who is told",
}


@cache
def listed(*options: str) -> str:
    return played("--inventory=inventories/example", "playbooks/site.yml", *options)


def tasks(tag: str) -> set[str]:
    """Names of the tasks that are done with --tags TAG; of a role's begin with the role's."""
    return set(
        re.findall(r"^ {6}(?! )(.+?)\tTAGS: \[", listed("--list-tasks", f"--tags={tag}"), re.M)
    )


def test_tags_are_the_roles_names() -> None:
    found = {
        tag
        for each in re.findall(r"TASK TAGS: \[(.*)\]", listed("--list-tags"))
        for tag in each.split(", ")
    }
    assert found - {""} == ROLES | {"always"}


@pytest.mark.parametrize("role", sorted(ROLES))
def test_tag_brings_its_role_and_no_other(role: str) -> None:
    own = tasks(role) - ALWAYS
    assert own
    assert tasks(role) >= ALWAYS
    foreign = {name for name in own if " : " in name and not name.startswith(f"l4lb.xdp.{role} : ")}
    # Ansible tags the look at a role's variables with always.
    foreign = {name for name in foreign if " : Validating arguments against arg spec" not in name}
    assert not foreign


def test_without_a_tag_everything_is_done() -> None:
    assert tasks("all") == {name for role in ROLES for name in tasks(role)}
