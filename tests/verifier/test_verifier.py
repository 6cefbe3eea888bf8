# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other kernels and another clang take every program, and packets come out of them the same.

Debian 12's bcc on the running kernel is what all other tests are run with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import debian, machine

PROGRAMS = ["balancer", "explain", "probe", "decap"]
PACKETS = 23
"""That check.py runs."""


def next_bcc() -> list[dict[str, Any]]:
    return machine.in_chroot(debian.ensure_next()[0])


def next_release() -> list[dict[str, Any]]:
    root, kernel = debian.ensure_next()
    return machine.emulated(kernel, root)


def this_release() -> list[dict[str, Any]]:
    return machine.emulated(debian.ensure_kernel(), Path("/"))


@pytest.mark.parametrize(
    ("told", "kernel", "bcc"),
    [
        pytest.param(next_bcc, "", "0.31.", id="Debian 13's bcc on this kernel"),
        pytest.param(this_release, "6.1.", "0.26.", id="Debian 12"),
        pytest.param(next_release, "6.12.", "0.31.", id="Debian 13"),
    ],
)
def test_every_program_is_taken_and_does_the_same(
    told: Callable[[], list[dict[str, Any]]], kernel: str, bcc: str
) -> None:
    about, *answers = told()
    assert (about["kernel"].startswith(kernel), about["bcc"].startswith(bcc)) == (True, True), about
    packets = [answer for answer in answers if "packet" in answer]
    assert [answer for answer in packets if not answer["right"]] == []
    assert len(packets) == PACKETS
    assert [answer["program"] for answer in answers if "program" in answer] == PROGRAMS
