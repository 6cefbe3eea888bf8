# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short run of `make fuzz`, and that it can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .corpus import CORPUS
from .fuzz import fuzz
from .node import XDP_PASS, XDP_TX, Node
from .oracle import Wrong, check

# What the fleet of the corpus cannot bring about.
ELSEWHERE = {"to_kernel", "drop_no_backend", "drop_no_source", "drop_no_route", "drop_no_headroom"}


@pytest.mark.parametrize("seed", range(2))
def test_whatever_comes_in_nothing_wrong_goes_out(node: Node, seed: int) -> None:
    counts = fuzz(node, 20_000, seed)
    assert unmet(counts) == {*ELSEWHERE, "pass_unserved"}
    (quic,) = (i for i, pool in node.tables.actual().pools.items() if pool.quic)
    assert all(node.tables.quic_counter(quic).values()), "a way of QUIC was not met"


def unmet(counts: dict[str, int]) -> set[str]:
    return {word for word, count in counts.items() if not count}


def test_nor_with_other_options(make_node: Callable[..., Node]) -> None:
    counts = fuzz(make_node(other_ports="pass", echo="forward"), 20_000, seed=5)
    assert unmet(counts) == {*ELSEWHERE, "drop_unserved", "answered_echo"}


@pytest.mark.parametrize("byte", [0, 6, 13, 16, 22, 23, 24, 26, 33, 34, 50])
def test_a_wrong_byte_of_an_encapsulated_packet_is_seen(node: Node, byte: int) -> None:
    node.serve("192.0.2.71")
    frame = CORPUS[0]
    action, out = node.run(frame)
    assert action == XDP_TX
    check(frame, action, out)
    wrong = bytearray(out)
    wrong[byte] ^= 0x10
    with pytest.raises((Wrong, KeyError)):
        check(frame, action, bytes(wrong))


def test_a_changed_foreign_frame_is_seen() -> None:
    frame = bytes(64)
    check(frame, XDP_PASS, frame)
    with pytest.raises(Wrong):
        check(frame, XDP_PASS, bytes(63))
