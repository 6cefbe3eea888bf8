# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server on Debian 12's kernel, which has all there is: tunnels of the kernel, and rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.agent.real_server_rules import render
from tests.uml.real_server import IN_IP, IN_UDP, NODE

from . import debian, machine

FORMS = [*IN_IP, *IN_UDP]
WAYS = ["kernel", "BPF, generic", "BPF, native", "kernel again"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What real_server.py told, from one boot."""
    rules = render(tmp_path_factory.mktemp("rules"), real_server_tunnel_sources=NODE)
    return machine.emulated(debian.ensure_kernel(), Path("/"), "real_server", RULES=rules)


@pytest.mark.parametrize("way", WAYS)
def test_tunnels_of_nodes_are_let_in_and_others_are_not(
    told: list[dict[str, Any]], way: str
) -> None:
    answers = [each for each in told if each.get("way") == way]
    assert answers == [
        *({"way": way, "form": form, "node": True, "other": False} for form in FORMS),
        {"way": way, "refused": len(FORMS)},
    ]


def test_nothing_is_lost_while_the_way_becomes_the_other_one(told: list[dict[str, Any]]) -> None:
    steps = [each for each in told if "step" in each]
    assert len(steps) == 9
    assert [each for each in steps if each["lost"] or not each["sent"]] == []
