# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks, names and refusals of probes; all else needs a kernel (tests/dataplane/test_probe*.py)."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _probe
from ansible_collections.l4lb.xdp.plugins.module_utils._bpf import ProgramInfo

SOURCE = Path(__file__).parents[2] / "bpf" / "probe.c"


@pytest.mark.parametrize(("index", "mark"), [(1, 0x4C340001), (0xFFFF, 0x4C34FFFF)])
def test_mark_holds_the_backends_index(index: int, mark: int) -> None:
    assert _probe.mark(index) == mark


@pytest.mark.parametrize("index", [-1, 0, 0x10000])
def test_what_is_no_index_has_no_mark(index: int) -> None:
    with pytest.raises(ValueError, match=str(index)):
        _probe.mark(index)


@pytest.mark.parametrize("name", ["MARK", "MARK_INDEX"])
def test_mark_is_the_programs(name: str) -> None:
    found = re.search(rf"^#define {name} (0x\w+)$", SOURCE.read_text(), re.MULTILINE)
    assert found
    assert int(found[1], 16) == getattr(_probe, name)


def test_name_tells_code_and_maps_apart() -> None:
    def name(tag: str, *maps: int) -> str:
        return _probe.program_name(ProgramInfo(7, tag, "probe", frozenset(maps)))

    assert name("aa", 10, 9) == "l4lb_probe/aa/9/10"
    assert len({name("aa", 1, 2), name("ab", 1, 2), name("aa", 1, 3), name("aa", 12)}) == 4


def test_kernel_without_the_feature_is_told_by_its_option() -> None:
    text = _probe.why_not("203.0.113.10", errno.EOPNOTSUPP, "Operation not supported")
    assert "CONFIG_LWTUNNEL_BPF" in text
    assert "via: direct" in text


def test_missing_capability_is_named() -> None:
    assert "CAP_NET_ADMIN" in _probe.why_not("203.0.113.10", errno.EPERM, "not permitted")


def test_other_refusals_name_the_address_and_the_kernels_words() -> None:
    text = _probe.why_not("203.0.113.10", errno.ENOMEM, "(12, 'Cannot allocate memory')")
    assert "203.0.113.10" in text
    assert "Cannot allocate memory" in text
