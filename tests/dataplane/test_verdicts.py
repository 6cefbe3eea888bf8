# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documented verdicts are those of the program."""

from __future__ import annotations

import re

from ansible_collections.l4lb.xdp.plugins.module_utils._schema import schema

from .node import SOURCE

PAGE = SOURCE.parent / "docs" / "packet.md"


def test_table_of_packets_has_every_verdict_and_no_other() -> None:
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    named = {word for row in rows for word in re.findall(r"`(\w+)`", row[3])}
    assert named == set(schema(SOURCE).enums["verdict"][:-1])
