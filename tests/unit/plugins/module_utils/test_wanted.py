# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of l4lb.xdp.program."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import outer_source
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import (
    Wanted,
    WantedError,
    wanted_of,
)

USUAL = {
    "name": "balancer",
    "interfaces": ["eth0"],
    "mode": "native",
    "replace_foreign": False,
    "source": "/usr/lib/l4lb/bpf",
    "pins": "/run/l4lb/bpf",
    "ring_size": 251,
    "max_services": 8,
    "max_pools": 8,
    "max_backends": 8,
    "max_flows": 8,
    "max_deny": 8,
    "max_allow": 8,
    "new_records": 0,
    "hash_seed": 1,
    "source_ipv4": "192.0.2.11",
    "source_ipv6": "2001:db8:1::11",
    "other_ports": "drop",
    "echo": "answer",
    "gue_port": 6080,
    "addresses": [],
    "sources": [],
}


def of(**changes: Any) -> Wanted:
    return wanted_of({**USUAL, **changes})


def test_interface_named_twice_is_refused() -> None:
    with pytest.raises(WantedError, match="interfaces: eth0 is named twice"):
        of(interfaces=["eth0", "eth1", "eth0"])


def test_prefix_is_kept_in_its_canonical_form() -> None:
    wanted = of(source_prefix_ipv4="198.18.0.0/20", source_prefix_ipv6="2001:DB8:9:0::/96")
    assert wanted.source_prefix_ipv4 == "198.18.0.0/20"
    assert wanted.source_prefix_ipv6 == "2001:db8:9::/96"
    assert Wanted.from_dict(wanted.as_dict()) == wanted
    assert (of().source_prefix_ipv4, of(source_prefix_ipv6="").source_prefix_ipv6) == (None, None)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("ipv4", "198.18.0.0", "not a prefix of IPv4 with a length of 8-31"),
        ("ipv4", "198.18.0.0/32", "8-31"),
        ("ipv4", "10.0.0.0/7", "8-31"),
        ("ipv4", "198.18.0.0/x", "8-31"),
        ("ipv4", "198.18.0.1/20", "write 198.18.0.0/20"),
        ("ipv4", "2001:db8::/20", "is not of IPv4"),
        ("ipv4", "224.0.0.0/8", "a multicast address"),
        ("ipv4", "nonsense/20", "not an IPv4 or IPv6 address"),
        ("ipv6", "2001:db8::/64", "96-127"),
        ("ipv6", "2001:db8::1/96", "write 2001:db8::/96"),
        ("ipv6", "192.0.2.0/100", "is not of IPv6"),
    ],
)
def test_prefix_mistake_is_named(name: str, text: str, says: str) -> None:
    with pytest.raises(WantedError) as seen:
        of(**{f"source_prefix_{name}": text})
    assert str(seen.value).startswith(f"source_prefix_{name}: {text!r} ")
    assert says in str(seen.value)


def test_nodes_own_address_is_needed_besides() -> None:
    with pytest.raises(WantedError, match="needs source_ipv4, the node's own address"):
        of(source_ipv4=None, source_prefix_ipv4="198.18.0.0/20")


def test_source_is_the_prefix_with_the_low_bits_of_the_hash() -> None:
    assert outer_source("198.18.16.0/20", 0xFFFF_FFFF_FFFF_F123) == "198.18.17.35"
    assert outer_source("2001:db8:9::/96", 0x1111_2222_3333_4444) == "2001:db8:9::3333:4444"


@pytest.mark.parametrize(
    ("argument", "prefix", "most"), [("addresses", "192.0.2.", 64), ("sources", "2001:db8::", 4096)]
)
def test_more_than_a_real_server_has_room_for_is_refused(
    argument: str, prefix: str, most: int
) -> None:
    entries = [f"{prefix}{i}" for i in range(most)]
    assert len(vars(of(**{argument: [*entries, entries[0]]}))[argument]) == most + 1
    with pytest.raises(WantedError, match=f"^{argument}: {most + 1} are given, .* room for {most}"):
        of(**{argument: [*entries, f"{prefix}{most}"]})
