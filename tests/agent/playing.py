# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook on this checkout; with the fixture `ansible` the oldest one, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

ON_THIS_HOST = ("-i", "localhost,", "-c", "local")

_RENDER = """
- hosts: localhost
  gather_facts: false
  vars_files: [{root}/roles/{role}/defaults/main.yml, {root}/roles/{role}/vars/main.yml]
  tasks:
    - ansible.builtin.template:
        src: "{root}/templates/{{{{ item }}}}.j2"
        dest: "{to}/{{{{ item }}}}"
        mode: "0644"
      loop: {names}
"""


def played(*arguments: str) -> str:
    """What a run says, which must not fail."""
    which = os.environ.get("L4LB_ANSIBLE", "")
    done = subprocess.run(
        [ROOT / ".venv" / which / "bin/ansible-playbook", *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/.venv/collections",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rendered(directory: Path, role: str, *names: str, **variables: Any) -> None:
    """Has the role's templates of these names rendered into the directory."""
    values = {"ansible_python_interpreter": sys.executable, **variables}
    play = directory / "play.yml"
    play.write_text(_RENDER.format(root=ROOT, role=role, to=directory, names=json.dumps(names)))
    played(*ON_THIS_HOST, "-e", json.dumps(values), str(play))
