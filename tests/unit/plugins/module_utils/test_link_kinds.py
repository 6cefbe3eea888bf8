# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""On which interfaces the balancer can work, and what is said of the others, without a kernel."""

from __future__ import annotations

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _link_kinds, _preflight_links
from ansible_collections.l4lb.xdp.plugins.module_utils._link_kinds import Shape, judge
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_check import Environment
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_paths import Path, judge_redirects


def bond(mode: str, *members: str, vlan_srcmac: bool = False) -> Shape:
    return Shape("bond", bond_mode=mode, members=members, vlan_srcmac=vlan_srcmac)


PORT = Shape("veth", master="br0", master_kind="bridge")
CASES = [
    ("hardware", Shape(), "ok", "ok", ""),
    ("veth", Shape("veth"), "ok", "ok", ""),
    ("a tap of tun", Shape("tun"), "ok", "ok", ""),
    ("a tun of tun", Shape("tun", frames=False), "failed", "failed", "no Ethernet frames"),
    ("WireGuard", Shape("wireguard", frames=False), "failed", "failed", "no Ethernet frames"),
    ("VLAN", Shape("vlan", lower="eth5"), "failed", "warning", "name eth5: the balancer reads"),
    ("bridge", Shape("bridge"), "failed", "ok", "taken out of x0"),
    ("port of a bridge", PORT, "failed", "warning", "name br0"),
    ("macvlan", Shape("macvlan", lower="eth5"), "failed", "ok", "name eth5"),
    ("ipvlan elsewhere", Shape("ipvlan"), "failed", "ok", "the interface below it"),
    ("vxlan", Shape("vxlan", lower="eth5"), "failed", "ok", "come in bare"),
    ("vrf", Shape("vrf", members=("eth5", "eth6")), "failed", "failed", "members: eth5, eth6"),
    ("in a vrf", Shape(master="red", master_kind="vrf"), "ok", "ok", ""),
    ("team", Shape("team"), "failed", "ok", "make it a bond"),
    ("in a team", Shape(master="t0", master_kind="team"), "failed", "failed", "name t0 and"),
    ("in a bond", Shape(master="b0", master_kind="bond"), "failed", "failed", "name b0"),
    ("bond", bond("802.3ad", "eth5", "eth6"), "ok", "ok", "of eth5, eth6"),
    ("empty bond", bond("active-backup"), "warning", "warning", "give it members"),
    ("bond that hashes tags", bond("802.3ad", "a", vlan_srcmac=True), "failed", "ok", "layer3+4"),
    ("bond that could", bond("active-backup", "a", vlan_srcmac=True), "ok", "ok", ""),
    *(
        (f"bond {mode}", bond(mode, "a"), status, "ok", mode)
        for mode, status in (
            ("balance-rr", "ok"),
            ("active-backup", "ok"),
            ("balance-xor", "ok"),
            ("broadcast", "failed"),
            ("balance-tlb", "failed"),
            ("balance-alb", "failed"),
        )
    ),
]


@pytest.mark.parametrize(
    ("seen", "native", "generic", "says"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_kind_is_supported_or_refused_with_the_reason(
    seen: Shape, native: str, generic: str, says: str
) -> None:
    judged = judge("x0", seen, "native")
    assert judged.status == native
    assert judge("x0", seen, "generic").status == generic
    assert says in f"{judged.found}; {judged.remedy}"
    assert bool(judged.remedy) == (judged.status != "ok")


def test_refused_interface_is_told_once() -> None:
    vlan = _preflight_links.Link("eth5.7", xdp_features=0, shape=Shape("vlan", lower="eth5"))
    checks = _preflight_links.judge_link(vlan, "native", 2, ["tcp4"], Environment())
    assert [(check.name, check.status) for check in checks] == [("link_kind", "failed")]
    (check,) = _preflight_links.judge_link(vlan, "generic", 2, ["tcp4"], Environment())[:1]
    assert check.status == "warning"


def test_route_by_a_vlan_is_refused_with_where_it_should_lead() -> None:
    vlan = _preflight_links.Link("eth5.7", xdp_features=0, shape=Shape("vlan", lower="eth5"))
    path = Path("192.0.2.71", interface="eth5.7", next_hop="192.0.2.1", mtu=1500)
    (check,) = judge_redirects([path], ["eth5"], {"eth5.7": vlan}, "native")
    assert check.status == "failed"
    assert "by eth5, or" in check.remedy
    assert judge_redirects([path], ["eth5"], {"eth5.7": vlan}, "generic") == []


def test_every_kind_that_takes_nothing_is_known_to_have_no_native_xdp() -> None:
    for kind in _link_kinds.TAKES_NOTHING:
        assert judge("x0", Shape(kind), "native").status == "failed", kind
