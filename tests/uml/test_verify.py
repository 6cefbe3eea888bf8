# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian 12's own kernel takes the programs: its verifier knows less than later ones."""

from __future__ import annotations

from typing import Any

import pytest

from .guest_verify import PROGRAMS
from .machine import needs_uml, told_by

pytestmark = needs_uml


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    """What guest_verify.py told, from one boot."""
    return told_by("guest_verify")


@pytest.mark.parametrize("program", PROGRAMS)
def test_verifier_takes_the_program(told: list[dict[str, Any]], program: str) -> None:
    (found,) = (line for line in told if line["program"] == program)
    assert found["kernel"].startswith("6.1.")
    assert found["taken"], "\n".join(found["said"])
