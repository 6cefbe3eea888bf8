# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences for people become words of a short list, whatever they name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet, Service, parse
from ansible_collections.l4lb.xdp.plugins.module_utils._node_state import NodeState
from l4lb_agent import looks, reasons
from l4lb_agent.gate import Findings, announcements, too_few

SERVICE = Service("web", "203.0.113.10", 80, "tcp", "web")
WELL: dict[str, Any] = {"node": [], "services": {}, "pools": {}}


def word_of(node: NodeState = NodeState(), now: float = 0.0, **found: Any) -> str:  # noqa: B008
    """The word of the only reason that the gate's rules give."""
    findings = Findings(**{**WELL, **found})
    _announced, why = announcements(findings, Fleet(services=(SERVICE,)), node, (), now)
    (sentence,) = why[SERVICE.address]
    return reasons.word(sentence)


def test_the_rules_own_sentences() -> None:
    assert word_of(NodeState("withdrawn")) == "withdrawn"
    assert word_of(NodeState(withheld=(SERVICE.address,))) == "removing"
    assert word_of(unproven=frozenset({"web"})) == "unproven"
    assert word_of(hold_until=5.0) == "hold"


def test_too_few_backends() -> None:
    fleet = parse({"web": {"backends": [{"address": "192.0.2.71"}]}}, [])
    (sentence,) = too_few(fleet.pools[0], 0)
    assert reasons.word(sentence) == "minimum"
    (sentence,) = too_few(replace(fleet.pools[0], backends=()), 0)
    assert reasons.word(sentence) == "empty"


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("unprepared", "no balancer is prepared on this node"),
        ("unprepared", "no balancer was applied on this node: run l4lb.xdp.program"),
        ("program", f"no program is pinned at /run/l4lb/bpf/balancer: {looks.ATTACH}"),
        ("program", f"eth0 runs no XDP program: {looks.ATTACH}"),
        (
            "program",
            f"eth0 runs another XDP program (x, id 7) than the one that is: {looks.ATTACH}",
        ),
        ("mode", f"eth0 runs the balancer in mode generic, not native: {looks.ATTACH}"),
        ("maps", f"the kernel does not hold pool web as it was applied: {looks.APPLY}"),
        ("maps", "the maps cannot be opened: no kernel headers"),
        ("next_hop", "no next hop: 192.0.2.71 is reached directly by eth0, whose link address ..."),
        ("next_hop", "backend 192.0.2.71: the route there is of type blackhole"),
        ("source", "backend 192.0.2.71: the node has no source_ipv4 (l4lb.xdp.program)"),
        ("dropped", "pool web: no backend of pool web is active: the packet is dropped (...)"),
        ("proof", "the program does not send tcp 198.18.0.1:49152 -> 203.0.113.10:80 to ..."),
        ("other", "the moon is full"),
    ],
)
def test_sentences_of_looks_and_proofs(word: str, sentence: str) -> None:
    assert reasons.word(sentence) == word


def test_nothing_that_a_sentence_names_is_in_a_word() -> None:
    """The list is all there is: a label is bounded whatever is said."""
    assert set(reasons.WORDS) >= {"other", "hold", "minimum"}
    assert all(word.isidentifier() for word in reasons.WORDS)
