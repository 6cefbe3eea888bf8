#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: The files of a release on a node, and those of the one before
version_added: 0.1.0
description:
  - Keeps a copy of the C sources and of the library before another release is written over them,
    and brings them back. One release is kept.
  - Used by the role P(l4lb.xdp.balancer#role) and the playbook C(l4lb.xdp.rollback).
  - The running program is the affair of M(l4lb.xdp.upgrade).
author:
  - The l4lb.xdp authors (@l4lb)
extends_documentation_fragment:
  - l4lb.xdp.attributes
options:
  state:
    description:
      - V(kept) copies the release in place to O(releases), where it becomes the only one. With
        O(installing) it then says of the files in place that they are about to be written over.
        Files of which that was said before are half a release, and nothing is kept.
      - V(installed) says that they are whole again.
      - V(in_place) puts the kept release O(name) in place, each directory in one step.
    type: str
    choices: [kept, installed, in_place]
    required: true
  installing:
    description: Whether the files in place are about to be written over.
    type: bool
    default: false
  name:
    description: The kept release to put in place; without it, the only one.
    type: str
    default: ""
  source:
    description: Directory of the C sources in place.
    type: path
    default: /usr/lib/l4lb/bpf
  library:
    description: Directory of the library in place.
    type: path
    default: /usr/lib/l4lb/python
  releases:
    description: Directory where a release is kept.
    type: path
    default: /usr/lib/l4lb/releases
"""

EXAMPLES = r"""
- name: Keep what is about to be written over
  l4lb.xdp.release:
    state: kept
    installing: true

- name: Put the kept release in place
  l4lb.xdp.release:
    state: in_place
"""

RETURN = r"""
release:
  description: The releases of this node.
  returned: success
  type: dict
  contains:
    name:
      description: The release that was kept or put in place; none where there was nothing whole.
      type: str
    kept:
      description: The kept releases.
      type: list
      elements: str
  sample:
    name: 0.1.0-1f0b9a4c2d3e
    kept: [0.1.0-1f0b9a4c2d3e]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._module import finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._releases import (
    RELEASES,
    Trees,
    bring_back,
    keep,
    unmark,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import SOURCE

SPEC = {
    "state": {"choices": ["kept", "installed", "in_place"], "required": True},
    "installing": {"type": "bool", "default": False},
    "name": {"type": "str", "default": ""},
    "source": {"type": "path", "default": SOURCE},
    "library": {"type": "path", "default": "/usr/lib/l4lb/python"},
    "releases": {"type": "path", "default": RELEASES},
}


def run(given: dict[str, Any], dry: bool) -> Outcome:
    trees = Trees(*(Path(given[key]) for key in ("source", "library", "releases")))
    if given["state"] == "kept":
        return keep(trees, given["installing"], dry)
    if given["state"] == "installed":
        return unmark(trees, dry)
    return bring_back(trees, given["name"], dry)


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    finish(module, lambda: run(module.params, module.check_mode), "releases")


if __name__ == "__main__":
    main()
