# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bonds and VLANs of a real kernel: what is said of them is what it does with programs there."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from .machine import needs_uml, told_by

pytestmark = needs_uml


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    """What guest_links.py told, from one boot."""
    return told_by("guest_links")


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("bond0", "ok", "a bond (balance-xor) of eth0, eth1"),
        ("bond0.7", "failed", "name bond0: the balancer reads VLAN tags itself"),
        ("eth0", "failed", "name bond0"),
        ("tlb", "failed", "balance-tlb"),
        ("tags", "failed", "xmit_hash_policy vlan+srcmac"),
        ("a", "ok", "veth"),
    ],
)
def test_kind_is_read_and_judged(
    told: list[dict[str, Any]], name: str, status: str, says: str
) -> None:
    (found,) = (line for line in told if line.get("kind") == name)
    assert found["status"] == status
    assert says in f"{found['found']}; {found['remedy']}"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("bond0.7", errno.EOPNOTSUPP),
        ("tlb", errno.EOPNOTSUPP),
        ("tags", errno.EOPNOTSUPP),
        ("eth0", errno.EEXIST),  # the bond has given it one
    ],
)
def test_kernel_refuses_what_is_refused(told: list[dict[str, Any]], name: str, number: int) -> None:
    assert {"kernel": name, "errno": number} in told


def test_program_is_the_bonds(told: list[dict[str, Any]]) -> None:
    """Its members run it, and netlink does not show it there."""
    assert {"runs": {"bond0": "native", "eth0": None, "eth1": None}} in told


def test_frame_comes_in_by_a_member_and_leaves_by_the_bond(told: list[dict[str, Any]]) -> None:
    assert {"bounced": True, "by_member": True} in told
