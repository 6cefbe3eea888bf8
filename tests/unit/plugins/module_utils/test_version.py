# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One release number, said in two places."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils._version import VERSION


def test_version_is_that_of_the_collection() -> None:
    galaxy = Path(__file__).parents[4] / "galaxy.yml"
    released = re.findall(r"^version: *(\S+)$", galaxy.read_text(encoding="utf-8"), re.MULTILINE)
    assert released == [VERSION]
