# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of the role real_server that purges nothing leaves for the next to remove."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from .playing import ON_THIS_HOST, ROOT, played

_PLAY = """
- hosts: localhost
  gather_facts: false
  vars_files: [{root}/roles/real_server/vars/main.yml]
  vars:
    real_server_addresses: [203.0.113.10]
    real_server_tunnel_sources: [192.0.2.11]
    real_server_tunnel_sources_extra: [198.51.100.7]
    real_server_gue_port: 6080
  tasks:
    - ansible.builtin.copy:
        content: "{{{{ __real_server_leftovers | to_json }}}}"
        dest: "{to}"
        mode: "0644"
"""


def encoded(text: str) -> dict[str, str]:
    return {"content": b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("addresses", "sources", "port", "left"),
    [
        (["203.0.113.10"], "192.0.2.11 198.51.100.7", 6080, []),
        ([], "", 0, []),
        (["203.0.113.10", "203.0.113.11"], "192.0.2.11", 6080, ["203.0.113.11"]),
        (["203.0.113.10"], "192.0.2.11 192.0.2.12", 0, ["192.0.2.12"]),
        (["203.0.113.10"], "192.0.2.11", 6081, [6081]),
    ],
)
def test_leftovers(
    addresses: list[str], sources: str, port: int, left: list[Any], tmp_path: Path
) -> None:
    play, answer = tmp_path / "play.yml", tmp_path / "leftovers.json"
    play.write_text(_PLAY.format(root=ROOT, to=answer))
    before = {
        "ansible_python_interpreter": sys.executable,
        "__real_server_addressed": {"addresses": addresses},
        "__real_server_rules_before": encoded(f"# Sources: {sources}\n"),
        "__real_server_decap_before": {"results": [encoded(json.dumps({"gue_port": port}))]},
    }
    played(*ON_THIS_HOST, "-e", json.dumps(before), str(play))
    assert json.loads(answer.read_text()) == left
