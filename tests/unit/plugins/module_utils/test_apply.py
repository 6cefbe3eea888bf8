# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a node has had services: where none has, site.yml configures all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._apply import has_services


@pytest.mark.parametrize("file", ["pins/schema", "state/services.json"])
def test_either_says_so(tmp_path: Path, file: str) -> None:
    for name in ("pins", "state"):
        (tmp_path / name).mkdir()
    assert not has_services(tmp_path / "pins", tmp_path / "state")
    (tmp_path / file).touch()
    assert has_services(tmp_path / "pins", tmp_path / "state")


def test_of_a_bare_host_there_is_nothing(tmp_path: Path) -> None:
    assert not has_services(tmp_path / "pins", tmp_path / "state")
