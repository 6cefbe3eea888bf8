# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each role's variables: the same names, values and types in defaults, specification and README."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

COLLECTION = Path(__file__).parents[2]
ROLES = COLLECTION / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())
TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "dict": (dict,),
    "float": (float, int),
    "int": (int,),
    "list": (list,),
    "path": (str,),
    "str": (str,),
}
# "{{ l4lb_ring_size | default(65537) }}": a variable of the fleet, and what holds without it.
FALLBACK = re.compile(r"\{\{ \w+ \| default\((.+?)\) \}\}")


def read(role: str, file: str) -> dict[str, Any]:
    path = ROLES / role / file
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


@cache
def defaults(role: str) -> dict[str, Any]:
    return read(role, "defaults/main.yml")


@cache
def entries(role: str) -> dict[str, dict[str, Any]]:
    """Entry points of the role: options of each."""
    specs = read(role, "meta/argument_specs.yml")["argument_specs"]
    return {entry: spec.get("options", {}) for entry, spec in specs.items()}


def literal(value: Any) -> tuple[bool, Any]:
    """Whether a default says itself what it is, and that."""
    if isinstance(value, str):
        found = FALLBACK.fullmatch(value)
        value = yaml.safe_load(found[1]) if found else value
    return "{{" not in str(value), value


def strings(tree: Any) -> Iterator[str]:
    """All keys and values."""
    if isinstance(tree, dict):
        tree = [*tree.keys(), *tree.values()]
    if isinstance(tree, list):
        for each in tree:
            yield from strings(each)
    elif isinstance(tree, str):
        yield tree


def options() -> list[tuple[str, str, str]]:
    """Role, entry point and option, of all."""
    return [
        (role, entry, option)
        for role in NAMES
        for entry, its in entries(role).items()
        for option in its
    ]


def test_the_roles_are_found() -> None:
    assert set(NAMES) >= {"agent", "balancer", "bird", "bpffs", "real_server"}


@pytest.mark.parametrize("role", NAMES)
def test_every_default_is_specified_and_everything_specified_has_a_default(role: str) -> None:
    specified = {option for its in entries(role).values() for option in its}
    assert specified == set(defaults(role))
    foreign = {name for name in specified if not name.startswith(f"{role}_")}
    assert not foreign, "a role's variables begin with its name"


@pytest.mark.parametrize(("role", "entry", "option"), options())
def test_option_is_what_its_default_is(role: str, entry: str, option: str) -> None:
    spec, value = entries(role)[entry][option], defaults(role)[option]
    assert spec["description"]
    assert spec["type"] in TYPES
    is_literal, value = literal(value)
    if "default" in spec:
        assert not spec.get("required"), "required, and there is a default"
        assert isinstance(spec["default"], TYPES[spec["type"]])
        if is_literal:
            assert spec["default"] == value
    if is_literal:
        assert "default" in spec or spec["type"] in ("list", "dict"), "the default is not told"
        assert isinstance(value, TYPES[spec["type"]])
        assert not isinstance(value, bool) or spec["type"] == "bool"
        assert value in spec.get("choices", [value])
    if spec["type"] == "list":
        assert spec["elements"] in TYPES


@pytest.mark.parametrize("role", NAMES)
def test_readme_names_every_variable(role: str) -> None:
    text = (ROLES / role / "README.md").read_text(encoding="utf-8")
    assert not {name for name in defaults(role) if f"`{name}`" not in text}


@pytest.mark.parametrize("role", NAMES)
def test_tasks_use_no_variable_that_is_not_specified(role: str) -> None:
    used = set()
    for folder in ("tasks", "handlers", "vars"):
        for path in (ROLES / role / folder).glob("*.yml"):
            for text in strings(yaml.safe_load(path.read_text(encoding="utf-8"))):
                used.update(re.findall(rf"(?<![\w./-]){role}_\w+", text))
    assert used, "the search finds those that are there"
    assert not used - set(defaults(role))


@pytest.mark.parametrize("role", NAMES)
def test_every_entry_point_has_its_tasks(role: str) -> None:
    assert not {
        entry for entry in entries(role) if not (ROLES / role / f"tasks/{entry}.yml").exists()
    }


def test_what_others_run_of_a_role_is_an_entry_point() -> None:
    paths = [*COLLECTION.glob("playbooks/**/*.yml"), *ROLES.glob("*/tasks/*.yml")]
    run = {
        (role, entry)
        for path in paths
        for role, entry in re.findall(
            r"name: l4lb\.xdp\.(\w+)\n\s+tasks_from: (\w+)", path.read_text(encoding="utf-8")
        )
    }
    assert ("bird", "announcements") in run
    assert not {(role, entry) for role, entry in run if entry not in entries(role)}


def test_the_oldest_ansible_that_is_admitted_is_the_one_that_is_tested() -> None:
    runtime = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text(encoding="utf-8"))
    oldest = runtime["requires_ansible"].removeprefix(">=").rpartition(".")[0]
    tested = (COLLECTION / "tests/requirements-oldest.txt").read_text(encoding="utf-8")
    assert f"\nansible-core=={oldest}." in tested
    for role in NAMES:
        assert read(role, "meta/main.yml")["galaxy_info"]["min_ansible_version"] == oldest


# Ansible's own variables; facts are not among them but in ansible_facts.
MAGIC = set(
    "ansible_check_mode ansible_collections ansible_connection ansible_diff_mode ansible_facts"
    " ansible_become ansible_failed_result ansible_failed_task ansible_host ansible_index_var"
    " ansible_limit"
    " ansible_loop ansible_loop_var ansible_managed ansible_play_batch ansible_play_hosts"
    " ansible_play_hosts_all ansible_play_name ansible_playbook_python ansible_python_interpreter"
    " ansible_run_tags ansible_skip_tags ansible_user ansible_verbosity ansible_version".split()
)


def test_facts_are_read_from_ansible_facts() -> None:
    paths = [
        *COLLECTION.glob("playbooks/**/*.yml"),
        *COLLECTION.glob("templates/*.j2"),
        *ROLES.glob("*/*/*.yml"),
    ]
    used = {
        name
        for path in paths
        for name in re.findall(r"\bansible_\w+", path.read_text(encoding="utf-8"))
    }
    assert "ansible_facts" in used
    assert not used - MAGIC
