# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flow's hash: fixed values for whoever writes it again, and how evenly it spreads."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import (
    flow_hash,
    identity_hash,
    slot,
)

SEEDS = (0, 0x0123456789ABCDEF)
TCP, UDP = 6, 17
WEB4 = bytes([203, 0, 113, 10])
WEB6 = bytes.fromhex("20010db8010000000000000000000010")
PREFIX = 0x20010DB800030000


def v4(number: int) -> bytes:
    return number.to_bytes(4, "big")


def v6(high: int, low: int) -> bytes:
    return high.to_bytes(8, "big") + low.to_bytes(8, "big")


@pytest.mark.parametrize(
    ("seed", "source", "destination", "protocol", "ports", "expected"),
    [
        (0, "198.51.100.2", "203.0.113.10", TCP, (40000, 80), 0x7926D45403B09193),
        (1, "198.51.100.2", "203.0.113.10", UDP, (53, 53), 0x79EEBCF4C839F410),
        (SEEDS[1], "2001:db8:3::2", "2001:db8:100::10", TCP, (40000, 443), 0x4C06AE5EF670989E),
        (2**64 - 1, "2001:db8:3::2", "2001:db8:100::10", UDP, (65535, 1), 0xCAF37C20CAC173AD),
    ],
)
def test_values_never_change(
    seed: int, source: str, destination: str, protocol: int, ports: tuple[int, int], expected: int
) -> None:
    assert flow_hash(seed, source, destination, protocol, *ports) == expected


@pytest.mark.parametrize(
    ("identity", "kept"),
    [
        ("five_tuple", ("198.51.100.2", "203.0.113.10", TCP, 40000, 80)),
        ("without_source_port", ("198.51.100.2", "203.0.113.10", TCP, 0, 80)),
        ("source_address", ("198.51.100.2", "0.0.0.0", 0, 0, 0)),
        ("destination_port", ("0.0.0.0", "0.0.0.0", 0, 0, 80)),
    ],
)
def test_identity_hashes_what_counts(identity: str, kept: tuple[str, str, int, int, int]) -> None:
    source = bytes([198, 51, 100, 2])
    hashed = identity_hash(identity, SEEDS[1], source, WEB4, TCP, 40000, 80)
    assert hashed == flow_hash(SEEDS[1], *kept)


@pytest.mark.parametrize(
    ("identity", "kept"),
    [
        ("source_address", ("2001:db8:3::2", "::", 0, 0, 0)),
        ("destination_port", ("0.0.0.0", "0.0.0.0", 0, 0, 80)),
    ],
)
def test_identity_over_ipv6(identity: str, kept: tuple[str, str, int, int, int]) -> None:
    source = bytes.fromhex("20010db8000300000000000000000002")
    hashed = identity_hash(identity, SEEDS[1], source, WEB6, TCP, 40000, 80)
    assert hashed == flow_hash(SEEDS[1], *kept)


@given(st.integers(0, 2**64 - 1), st.binary(min_size=4, max_size=4), st.integers(0, 65535))
def test_text_and_bytes_are_the_same_address(seed: int, source: bytes, port: int) -> None:
    text = ".".join(map(str, source))
    assert flow_hash(seed, text, "203.0.113.10", TCP, port, 80) == flow_hash(
        seed, source, WEB4, TCP, port, 80
    )


def test_two_families_in_one_flow_are_refused() -> None:
    with pytest.raises(ValueError, match="different families"):
        flow_hash(0, "198.51.100.2", "2001:db8:100::10", TCP, 1, 2)


@pytest.mark.parametrize("address", ["10.1", "nonsense", b"12345"])
def test_what_is_no_address_is_refused(address: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"address|IPNetwork"):
        flow_hash(0, address, WEB4, TCP, 1, 2)


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1))
def test_slot_is_in_the_ring(hash_: int, size: int) -> None:
    assert 0 <= slot(hash_, size) < size


def test_slot_ends() -> None:
    assert slot(0, 65537) == 0
    assert slot(2**64 - 1, 65537) == 65536


FLOWS: dict[str, Callable[[int, int], int]] = {
    "sequential source ports": lambda seed, i: flow_hash(
        seed, b"\xc6\x33\x64\x02", WEB4, TCP, 1024 + i, 80
    ),
    "even source ports": lambda seed, i: flow_hash(
        seed, v4(0xC6336402 + (i >> 14)), WEB4, TCP, i * 2 & 0xFFFF, 80
    ),
    "sequential IPv4 sources": lambda seed, i: flow_hash(
        seed, v4(0x0A000000 + i), WEB4, TCP, 1024, 80
    ),
    "IPv4 sources with one last byte": lambda seed, i: flow_hash(
        seed, v4(0x0A000001 + (i << 8)), WEB4, TCP, 1024, 80
    ),
    "sequential IPv4 destinations": lambda seed, i: flow_hash(
        seed, b"\xc6\x33\x64\x02", v4(0xCB000000 + i), TCP, 1024, 80
    ),
    "source and port in step": lambda seed, i: flow_hash(
        seed, v4(0x0A000000 + i), WEB4, UDP, i, 53
    ),
    "sequential IPv6 hosts": lambda seed, i: flow_hash(seed, v6(PREFIX, i), WEB6, TCP, 1024, 80),
    "sequential IPv6 networks": lambda seed, i: flow_hash(
        seed, v6(PREFIX + i, 1), WEB6, TCP, 1024, 80
    ),
    "network and host in step": lambda seed, i: flow_hash(
        seed, v6(PREFIX + i, i), WEB6, TCP, 1024, 80
    ),
    "source and destination in step": lambda seed, i: flow_hash(
        seed, v6(PREFIX, i), v6(0x20010DB801000000, i), TCP, 1024, 80
    ),
    # With a shift of 32 these two have tens of thousands of equal hashes.
    "one byte three times in the source": lambda seed, i: flow_hash(
        seed, v6(PREFIX | i % 256, i % 256 << 32 | i >> 8 << 16 | i % 256), WEB6, TCP, 1024, 80
    ),
    "one byte in source and network of destination": lambda seed, i: flow_hash(
        seed, v6(PREFIX, i % 256), v6(0x20010D0001000000 ^ i % 256 << 32 ^ i, 1), TCP, 1024, 80
    ),
}


def deviation(slots: Iterable[int], size: int) -> float:
    """How many standard deviations chi-square lies from that of an even spread."""
    counts = Counter(slots)
    mean = sum(counts.values()) / size
    chi_square = sum((counts[i] - mean) ** 2 / mean for i in range(size))
    return (chi_square - (size - 1)) / math.sqrt(2 * (size - 1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pattern", FLOWS)
def test_similar_flows_spread_evenly(pattern: str, seed: int) -> None:
    hashes = [FLOWS[pattern](seed, i) for i in range(20_000)]
    assert len(set(hashes)) == len(hashes)
    for size in (251, 65537):
        assert deviation((slot(h, size) for h in hashes), size) < 4


def test_uneven_spread_is_noticed() -> None:
    assert deviation((i * i % 251 for i in range(20_000)), 251) > 10


@pytest.mark.parametrize("length", [4, 16])
def test_every_bit_of_a_flow_changes_half_of_the_bits_that_pick_the_slot(length: int) -> None:
    draw = random.Random(1)
    samples = 200
    addresses, bits = 2 * length * 8, 2 * length * 8 + 32
    for bit in range(bits):
        flips = Counter[int]()
        for _sample in range(samples):
            flow = draw.getrandbits(bits)
            difference = _hash_of(flow, length) ^ _hash_of(flow ^ 1 << bit, length)
            flips.update(i for i in range(32, 64) if difference >> i & 1)
        mean = sum(flips.values()) / samples / 32
        assert 0.45 < mean < 0.55, f"input bit {bit} of {addresses} + 32"
        assert all(0.3 < flips[i] / samples < 0.7 for i in range(32, 64))


def _hash_of(flow: int, length: int) -> int:
    data = flow.to_bytes(2 * length + 4, "big")
    ports = int.from_bytes(data[-4:-2], "big"), int.from_bytes(data[-2:], "big")
    return flow_hash(SEEDS[1], data[:length], data[length : 2 * length], TCP, *ports)
