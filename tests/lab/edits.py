# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator edits before a playbook runs: an inventory, or another release's checkout."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml
from breakage import INVENTORY
from common import CHECKOUT, STATE

from tests import releases

EDITED = STATE / "inventory"
SERVICES = Path("group_vars/all/services.yml")
RELEASE = STATE / "release"
# What a release consists of; the rest of a checkout is for its developers.
PARTS = ("bpf", "galaxy.yml", "meta", "playbooks", "plugins", "roles", "templates")

Edit = Callable[[dict, list[dict]], None]
"""Changes pools and services in place."""


def inventory(edit: Edit) -> Path:
    """The lab's inventory with another services.yml, in place of one edited before."""
    shutil.rmtree(EDITED, ignore_errors=True)
    shutil.copytree(INVENTORY, EDITED)
    path = EDITED / SERVICES
    variables = yaml.safe_load(path.read_text())
    edit(variables["l4lb_pools"], variables["l4lb_services"])
    path.write_text(yaml.safe_dump(variables, sort_keys=False))
    return EDITED


def of_host(host: str, **variables: object) -> Path:
    """The lab's inventory, in which one host has variables of its own."""
    inventory(lambda _pools, _services: None)
    path = EDITED / f"host_vars/{host}.yml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(variables, sort_keys=False))
    return EDITED


def release(*changes: releases.Change) -> Path:
    """A checkout of another release, in place of one made before; changes to the program."""
    discard_release()
    root = RELEASE / "ansible_collections/l4lb/xdp"
    root.mkdir(parents=True)
    for part in PARTS:
        source = CHECKOUT / part
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / part)
    for change in changes:
        releases.make(root / "bpf", change)
    return root


def discard_release() -> None:
    shutil.rmtree(RELEASE, ignore_errors=True)
