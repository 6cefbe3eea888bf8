# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's own tunnels as the far end, in an emulated machine: not every kernel has them."""

from __future__ import annotations

from typing import Any

import pytest

from .machine import needs_uml, told_by
from .real_server import IN_IP, IN_UDP

pytestmark = needs_uml


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    """What guest.py told, from one boot."""
    return told_by("guest")


@pytest.mark.parametrize("form", [*IN_IP, *IN_UDP])
def test_tunnelled_packet_reaches_the_service(told: list[dict[str, Any]], form: str) -> None:
    assert {"form": form, "received": form} in told


def test_port_of_gue_becomes_another_one(told: list[dict[str, Any]]) -> None:
    assert {"form": "other port", "received": "gue 4in4"} in told
    assert {"form": "old port", "received": None} in told


def test_no_device_is_left(told: list[dict[str, Any]]) -> None:
    assert told[-1] == {"left": [], "ports": []}
