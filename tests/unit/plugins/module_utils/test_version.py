# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that are said in two places."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils._schema import LAYOUT, schema
from ansible_collections.l4lb.xdp.plugins.module_utils._version import VERSION

ROOT = Path(__file__).parents[4]


def test_version_is_that_of_the_collection() -> None:
    galaxy = ROOT / "galaxy.yml"
    released = re.findall(r"^version: *(\S+)$", galaxy.read_text(encoding="utf-8"), re.MULTILINE)
    assert released == [VERSION]


def test_library_is_written_for_the_maps_beside_it() -> None:
    assert schema(ROOT / "bpf").version == LAYOUT
