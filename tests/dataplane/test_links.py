# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Service addresses on a real interface: ours come and go, everybody else's stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from ansible_collections.l4lb.xdp.plugins.module_utils import _links
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

from .node import NODE_MAC, interface

OURS4, OURS6, OTHER = "203.0.113.10", "2001:db8:100::10", "203.0.113.99"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path)
    with IPRoute() as ip:
        ip.flush_addr(index=interface("lo"))


def bring(wanted: list[str], state: str, purge: bool = True) -> _links.AddressPlan:
    plan = _links.plan_addresses("lo", wanted, purge, state)
    _links.apply_addresses(plan, state)
    return plan


def test_addresses_come_once_and_go_when_unwanted(state: str) -> None:
    assert bring([OURS4, OURS6], state).add == (OURS4, OURS6)
    assert not bring([OURS6, OURS4], state).changed
    assert bring([OURS6], state).remove == (OURS4,)
    assert _links.addresses("lo") == [OURS6]


def test_same_address_written_otherwise_is_the_same(state: str) -> None:
    bring([OURS6], state)
    assert not bring(["2001:0DB8:100:0::0010"], state).changed


def test_addresses_of_others_stay(state: str) -> None:
    with IPRoute() as ip:
        ip.addr("add", index=interface("lo"), address=OTHER, prefixlen=32)
    bring([OURS4, OTHER], state)
    assert bring([], state).remove == (OURS4,)
    assert _links.addresses("lo") == [OTHER]


def test_without_purge_nothing_goes(state: str) -> None:
    bring([OURS4], state)
    assert bring([OURS6], state, purge=False).remove == ()
    assert _links.addresses("lo") == [OURS4, OURS6]


def test_plan_alone_changes_nothing(state: str) -> None:
    assert _links.plan_addresses("lo", [OURS4], True, state).changed
    assert _links.addresses("lo") == []
    assert list(Path(state).iterdir()) == []


def test_killed_run_is_repaired_by_the_next(state: str) -> None:
    """What is about to be added is claimed first: here it was claimed, and perhaps added."""
    bring([OURS4], state)
    _links.remove_address("lo", OURS4)
    assert bring([OURS4], state).add == (OURS4,)
    _links.add_address("lo", OURS4)  # a second time is no error
    assert bring([], state).remove == (OURS4,)


def test_restore_puts_ours_back(state: str) -> None:
    bring([OURS4, OURS6], state)
    for address in (OURS4, OURS6):
        _links.remove_address("lo", address)
    assert _links.restore_addresses(state) == [f"{OURS4} on lo", f"{OURS6} on lo"]
    assert _links.restore_addresses(state) == []
    assert _links.addresses("lo") == [OURS4, OURS6]


@pytest.mark.parametrize("address", ["203.0.113.10/32", "example.org", "", "10.1"])
def test_what_is_no_address_is_refused_by_name(state: str, address: str) -> None:
    with pytest.raises(L4lbError, match=repr(address)):
        _links.plan_addresses("lo", [address], True, state)


def test_broken_state_file_is_named_with_the_remedy(state: str) -> None:
    Path(state, _links.STATE_FILE).write_text("{")
    with pytest.raises(L4lbError, match=r"addresses\.json.*remove it"):
        _links.plan_addresses("lo", [OURS4], True, state)


def test_interface_is_described() -> None:
    found = _links.interface("eth0")
    assert (found.name, found.address, found.index) == ("eth0", NODE_MAC, interface("eth0"))
    assert _links.xdp("eth0") == _links.XdpAttachment(None, None)
