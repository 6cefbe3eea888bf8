# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest

from l4lb_agent.options import Options, OptionsError, load


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "agent.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_not_given_has_its_default(tmp_path: Path) -> None:
    assert load(written(tmp_path, {})) == Options()


def test_values_get_their_types(tmp_path: Path) -> None:
    options = load(written(tmp_path, {"pins": "/x", "lease": 5, "peers": ["http://a/ready"]}))

    assert options == Options(pins=Path("/x"), lease=5, peers=("http://a/ready",))


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
