# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from l4lb_agent.options import Options, OptionsError, load

from .playing import ON_THIS_HOST, ROOT, played

_PLAY = """
- hosts: localhost
  gather_facts: false
  vars_files: [{role}/defaults/main.yml, {role}/vars/main.yml]
  tasks:
    - ansible.builtin.copy:
        content: "{{{{ __agent_options | to_nice_json }}}}"
        dest: "{to}"
        mode: "0644"
"""


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "agent.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_not_given_has_its_default(tmp_path: Path) -> None:
    assert load(written(tmp_path, {})) == Options()


def test_values_get_their_types(tmp_path: Path) -> None:
    options = load(written(tmp_path, {"pins": "/x", "lease": 5, "peers": ["http://a/ready"]}))

    assert options == Options(pins=Path("/x"), lease=5, peers=("http://a/ready",))


@pytest.mark.usefixtures("ansible")
def test_role_writes_what_is_read(tmp_path: Path) -> None:
    play, options = tmp_path / "play.yml", tmp_path / "agent.json"
    play.write_text(_PLAY.format(role=ROOT / "roles/agent", to=options))
    played(*ON_THIS_HOST, "-e", f"ansible_python_interpreter={sys.executable}", str(play))

    assert set(json.loads(options.read_text())) == {field.name for field in fields(Options)}
    assert load(options) == Options()


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    content = {
        "lose": 1,
        "lease": 1,
        "hold": True,
        "pins": "bpf",
        "peers": "http://a",
        "listen": 9474,
    }
    with pytest.raises(OptionsError) as caught:
        load(written(tmp_path, content))

    text = str(caught.value)
    assert len(text.splitlines()) == len(content)
    assert "unknown key 'lose'; known are pins," in text
    assert "lease: 1 is not an integer from 2 to 86400" in text
    assert "hold: True is not an integer" in text
    assert "pins: 'bpf' is not an absolute path" in text
    assert "peers: 'http://a' is not a list of texts" in text
    assert "listen: 9474 is not text" in text


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_what_is_no_dictionary_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(OptionsError, match=r"agent\.json.*l4lb\.xdp\.agent writes it"):
        load(written(tmp_path, text))


def test_a_file_that_is_missing_names_the_role(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"the role l4lb\.xdp\.agent writes it"):
        load(tmp_path / "agent.json")
