# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a tuning is refused, and the key of a hash."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._tuning_settings import (
    Impossible,
    Tuning,
    TuningError,
    key_of,
    shown,
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"queues": "many"}, "queues: 'many' is no number from 1, or cpus"),
        ({"queues": "0"}, "queues: '0' is no number from 1, or cpus"),
        ({"ring_rx": "-1"}, "ring_rx: '-1' is no number from 1, or max"),
        ({"ring_tx": "cpus"}, "ring_tx: 'cpus' is no number from 1, or max"),
        ({"napi_defer_hard_irqs": "max"}, "napi_defer_hard_irqs: 'max' is no number from 0"),
        ({"gro_flush_timeout": "4294967296"}, "gro_flush_timeout: '4294967296' is no number"),
        ({"hash_fields": "sdfm"}, "hash_fields: 'sdfm' has other letters than s, d"),
        ({"cpus": "0-"}, "cpus: '0-' is no CPU and no range of CPUs"),
        ({"cpus": "65000"}, "cpus: 65000 not online here; those that are: 0"),
    ],
)
def test_mistakes_name_the_argument(words: dict[str, Any], said: str) -> None:
    with pytest.raises(TuningError) as refused:
        Tuning(**words)
    assert said in str(refused.value)


def test_key_is_the_same_for_the_same_text_and_begins_alike_whatever_its_length() -> None:
    short, long = key_of("fleet", 40), key_of("fleet", 52)
    assert len(short.split(":")) == 40
    assert long.startswith(short)
    assert key_of("other", 40) != short


def test_bytes_are_the_key() -> None:
    key = ":".join(["6D", "5a"] * 20)
    assert key_of(key, 40) == key.lower()
    with pytest.raises(Impossible, match="its key has 52 bytes, not 40"):
        key_of(key, 52)


def test_key_is_not_shown() -> None:
    key = key_of("fleet", 40)
    assert key not in shown("hash_key", key)
    assert shown("hash_key", key).startswith("of 40 bytes, ")


def test_values_are_shown_as_ethtool_says_them() -> None:
    assert shown("queues", {"rx": 0, "tx": 0, "combined": 8}) == "8 combined"
    assert shown("queues", {"rx": 2, "tx": 1, "combined": 0}) == "2 rx, 1 tx"
    assert shown("lro", {"rx-lro": True, "rx-gro-hw": False}) == "lro on"
    assert shown("lro", {"rx-lro": False}) == "off"
    assert shown("hash_fields udp4", 0x30) == "sd"
    assert shown("hash_fields udp4", 0) == "0x0"
    assert shown("affinity", {"33": "0", "34": "1-3"}) == "33 on CPU 0, 34 on CPU 1-3"
