# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role bird's options do to sessions and announcements: real BIRD on both ends (root)."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import NetNS

from l4lb_agent.announcer import AnnounceError, Announcer

from .bgp import OTHER4, ROUTER, V4, V6, Bird, Pair, documented, pair, render, until


def router(*lines: str, password: str = "lab-bgp", extra: str = "") -> str:  # noqa: S107
    """A router that takes everything; lines: of each session."""
    sessions = [
        f"""
protocol bgp node_ipv{family} {{
    local as 65000;
    neighbor {address} as 65001;
    password "{password}";
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 2;
    {" ".join(lines)}
    ipv{family} {{ import all; export all; }};
}}
"""
        for family, address in ((4, "192.0.2.11"), (6, "2001:db8:1::11"))
    ]
    return ROUTER + extra + "".join(sessions)


def neighbors(ipv4: dict[str, Any], ipv6: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The router's two, with options of their own."""
    both = (("4", "192.0.2.1", ipv4), ("6", "2001:db8:1::1", ipv6 or {}))
    return [
        {"name": f"r{end}", "address": address, "as": 65000, "password": "lab-bgp", **options}
        for end, address, options in both
    ]


def announce(ends: Pair, *addresses: str, draining: bool = False) -> None:
    told = Announcer(ends.announcements, ends.node.config, ends.node.control)
    told.announce(addresses, draining)


def test_communities_go_with_every_announcement(tmp_path: Path) -> None:
    with pair(
        tmp_path,
        "l4lb-communities",
        bird_communities=["65000:100", "65000:1:2"],
        l4lb_bgp_neighbors=neighbors({}, {"communities": ["65000:4294967295:3"]}),
    ) as ends:
        announce(ends, V4, V6)
        until(lambda: ends.heard() == {V4, V6})
        assert "BGP.community: (65000,100)\n" in ends.router.route(V4)
        assert "BGP.large_community: (65000, 1, 2)\n" in ends.router.route(V4)
        assert "BGP.community" not in ends.router.route(V6)
        assert "BGP.large_community: (65000, 4294967295, 3)\n" in ends.router.route(V6)
        announce(ends, V4, V6, draining=True)
        until(lambda: "(65535,0)" in ends.router.route(V4))
        assert re.search(r"BGP.community: .*\(65000,100\)", ends.router.route(V4))


ROGUE = """
protocol static rogue4 {
    ipv4 { table announce4; };
    route 203.0.113.0/24 unreachable;
    route 203.0.113.11/32 unreachable;
}
protocol static rogue6 {
    ipv6 { table announce6; };
    route 2001:db8:100::/48 unreachable;
}
"""
ANNOUNCED = f"""
protocol static announced4 {{
    ipv4 {{ table announce4; }};
    route {V4}/32 unreachable;
    route 203.0.113.128/25 unreachable;
}}
"""
OFFERED = """
protocol static offered4 {
    ipv4;
    route 0.0.0.0/0 unreachable;
    route 203.0.113.12/32 unreachable;
}
protocol static offered6 {
    ipv6;
    route ::/0 unreachable;
}
"""


def test_services_of_this_node_go_out_and_nothing_comes_in(tmp_path: Path) -> None:
    """Neither other routes in the same tables, added by the operators, nor those of the router."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra/rogue.conf").write_text(ROGUE)
    with pair(tmp_path, "l4lb-only", router(extra=OFFERED)) as ends:
        ends.announcements.write_text(ANNOUNCED)
        ends.node.ask("configure")
        until(lambda: ends.heard() == {V4})
        told = ends.router.ask("show", "route", "protocol", "node_ipv4", "count")
        assert told.splitlines()[-1].startswith("1 of "), told
        for family in (4, 6):
            sent = ends.router.ask("show", "route", "export", f"node_ipv{family}", "count")
            assert not sent.splitlines()[-1].startswith("0 of"), "the router offers some"
            heard = ends.node.ask(
                "show", "route", "table", "all", "protocol", f"router_ipv{family}"
            )
            assert "router_ipv" not in heard
        with NetNS(ends.node.namespace) as ip:
            ways = [route for route in ip.get_routes(family=2) if not route["dst_len"]]
        assert not ways, "no default route"


def test_no_more_than_the_limit_is_announced_and_the_session_stays(tmp_path: Path) -> None:
    with pair(tmp_path, "l4lb-limit", bird_export_limit=1) as ends:
        since = ends.node.sessions()
        announce(ends, V4, V6)
        until(lambda: ends.heard() == {V4, V6})
        announce(ends, V4, OTHER4, V6)
        until(lambda: _refused_to_export(ends, "router_ipv4"))
        assert ends.heard() == {V4, V6}
        assert ends.node.stood_since(since)


def _refused_to_export(ends: Pair, session: str) -> int:
    """Routes that the session held back. Columns: received, rejected, ..."""
    words = ends.node.ask("show", "protocols", "all", session)
    return int(re.findall(r"Export updates: +\d+ +(\d+)", words)[0])


def test_bfd_finds_a_bird_that_hangs_in_a_moment(tmp_path: Path) -> None:
    """The hold time of 9 seconds has nothing to do with it."""
    watched = "bfd { interval 100 ms; multiplier 3; };"
    with pair(
        tmp_path,
        "l4lb-bfd",
        router(watched, extra="protocol bfd {}\n"),
        bird_bfd=True,
        l4lb_bgp_neighbors=neighbors({"bfd_interval": 100, "bfd_multiplier": 5}, {"bfd": False}),
    ) as ends:
        # Address, interface, state, since, interval, timeout (of the other's multiplier)
        until(lambda: re.search(r"192\.0\.2\.1 +eth0 +Up .* 0\.100 +0\.300", _bfd(ends.node)))
        until(lambda: re.search(r"192\.0\.2\.11 +lan +Up .* 0\.100 +0\.500", _bfd(ends.router)))
        assert "2001:db8:1::1" not in _bfd(ends.node), "not asked for"
        announce(ends, V4)
        until(lambda: ends.heard() == {V4})
        assert ends.node.process is not None
        ends.node.process.send_signal(signal.SIGSTOP)
        try:
            assert until(lambda: not ends.heard()) < 3
        finally:
            ends.node.process.send_signal(signal.SIGCONT)
        until(lambda: ends.heard() == {V4})


def _bfd(end: Bird) -> str:
    return end.ask("show", "bfd", "sessions")


@pytest.mark.parametrize(
    ("counter", "wrong", "right", "options"),
    [
        ("TCPMinTTLDrop", router(), router("ttl security on;"), {"bird_ttl_security": True}),
        ("TCPMD5Failure", router(password="another"), router(), {}),  # noqa: S106
    ],
    ids=["ttl security", "password"],
)
def test_router_that_cannot_prove_itself_is_not_spoken_to(
    tmp_path: Path, counter: str, wrong: str, right: str, options: dict[str, Any]
) -> None:
    with pair(tmp_path, "l4lb-trust", wrong, sessions=0, **options) as ends:
        until(lambda: ends.refused(counter))
        assert not ends.node.sessions()
        ends.router.config.write_text(right)
        ends.router.ask("configure")
        until(lambda: len(ends.node.sessions()) == 2)
        announce(ends, V4, V6)
        until(lambda: ends.heard() == {V4, V6})


def loopbacks(spaces: dict[str, str]) -> None:
    """Addresses there, and the way to the other's."""
    for end, link, own, peer, via in (
        ("node", "eth0", 11, 1, "192.0.2.1"),
        ("router", "lan", 1, 11, "192.0.2.11"),
    ):
        with NetNS(spaces[end]) as ip:
            loopback, way = (ip.link_lookup(ifname=name)[0] for name in ("lo", link))
            ip.addr("add", index=loopback, address=f"198.51.100.{own}", prefixlen=32)
            ip.route("add", dst=f"198.51.100.{peer}/32", gateway=via, oif=way)


def test_router_that_is_no_neighbour_by_an_address_of_the_loopback(tmp_path: Path) -> None:
    far = {
        "address": "198.51.100.1",
        "source_address": "198.51.100.11",
        "multihop": 2,
        "ttl_security": True,
        "bfd": True,
    }
    session = """
protocol bfd {}
protocol static way { ipv4; route 198.51.100.11/32 via 192.0.2.11; }
protocol bgp node {
    local 198.51.100.1 as 65000;
    neighbor 198.51.100.11 as 65001;
    multihop 2;
    ttl security on;
    bfd;
    password "lab-bgp";
    connect delay time 1;
    connect retry time 1;
    ipv4 { import all; export none; };
}
"""
    with pair(
        tmp_path,
        "l4lb-far",
        ROUTER + session,
        sessions=1,
        prepare=loopbacks,
        l4lb_bgp_neighbors=neighbors(far)[:1],
    ) as ends:
        until(lambda: re.search(r"198\.51\.100\.1 +--- +Up", _bfd(ends.node)))
        announce(ends, V4)
        until(lambda: "BGP.next_hop: 198.51.100.11\n" in ends.router.route(V4))
        assert "via 192.0.2.11 on lan" in ends.router.route(V4)


def test_router_as_documented(tmp_path: Path) -> None:
    with pair(
        tmp_path,
        "l4lb-documented",
        documented("bird"),
        bird_bfd=True,
        bird_ttl_security=True,
        l4lb_services=[{"address": address} for address in (V4, V6, "198.51.100.10")],
    ) as ends:
        until(lambda: _bfd(ends.node).count(" Up ") == 2)
        announce(ends, V4, V6, "198.51.100.10")
        until(lambda: ends.heard() == {V4, V6})
        assert not ends.router.route("198.51.100.10"), "no address of services"
        with NetNS(ends.router.namespace) as ip:
            until(lambda: {V4, V6} <= {it.get_attr("RTA_DST") for it in ip.get_routes()})
        announce(ends, V4, V6, draining=True)
        until(lambda: "BGP.local_pref: 0" in ends.router.route(V4))
        until(lambda: "BGP.local_pref: 0" in ends.router.route(V6))


# --- graceful restart ---


def test_graceful_restart_keeps_routes_while_bird_is_away(tmp_path: Path) -> None:
    with pair(
        tmp_path, "l4lb-graceful", router("graceful restart aware;"), bird_graceful_restart=True
    ) as ends:
        announce(ends, V4, V6)
        until(lambda: ends.heard() == {V4, V6})
        ends.node.stop(kill=True)
        until(lambda: not re.search(r"Established", ends.router.ask("show", "protocols")))
        assert ends.heard() == {V4, V6}
        # What is decided meanwhile holds: the other one is withdrawn as soon as BIRD is back.
        ends.announcements.write_text(ends.announcements.read_text().replace(V6, "2001:db8::1"))
        ends.node.start("-R")
        until(lambda: V4 not in ends.heard() or V6 not in ends.heard())
        assert ends.heard() == {V4}
        until(lambda: len(ends.node.sessions()) == 2)
        assert ends.heard() == {V4}


def test_bird_that_does_not_come_back_is_withdrawn_in_time(tmp_path: Path) -> None:
    with pair(
        tmp_path,
        "l4lb-gone",
        router("graceful restart aware;"),
        bird_graceful_restart=True,
        bird_graceful_restart_time=2,
    ) as ends:
        announce(ends, V4)
        until(lambda: ends.heard() == {V4})
        ends.node.stop(kill=True)
        assert 1 < until(lambda: not ends.heard()) < 6


def test_stopping_bird_withdraws_at_once_all_the_same(tmp_path: Path) -> None:
    with pair(
        tmp_path, "l4lb-stopped", router("graceful restart aware;"), bird_graceful_restart=True
    ) as ends:
        announce(ends, V4)
        until(lambda: ends.heard() == {V4})
        ends.node.stop()
        assert until(lambda: not ends.heard()) < 2


def test_unit_starts_bird_for_recovery_only_with_graceful_restart(tmp_path: Path) -> None:
    unit = render(tmp_path, bird_graceful_restart=True).with_name("bird-unit.conf").read_text()
    assert "\nEnvironment=BIRD_ARGS=-R\n" in unit
    assert "l4lb-restore" not in unit
    unit = render(tmp_path, bird_announce="always").with_name("bird-unit.conf").read_text()
    assert "BIRD_ARGS" not in unit
    assert "\nRequires=l4lb-restore.service\n" in unit


# --- without BGP ---


def test_node_behind_static_routes_keeps_the_guard(tmp_path: Path) -> None:
    """What the agent proves is in BIRD all the same, and nobody hears it."""
    with pair(
        tmp_path, "l4lb-static", sessions=0, l4lb_bgp_neighbors=[], bird_static_routes=True
    ) as ends:
        until(lambda: ends.guarded() == {V4, OTHER4, V6})
        announce(ends, V4)
        assert "BGP" not in ends.node.ask("show", "protocols")
        assert not ends.heard()


# --- the operators' part ---


def test_operators_may_add_and_their_mistakes_are_refused(tmp_path: Path) -> None:
    with pair(tmp_path, "l4lb-extra") as ends:
        extra = tmp_path / "extra"
        extra.mkdir()
        (extra / "mine.conf").write_text("protocol static mine { ipv4; }\n")
        announce(ends, V4)
        assert "mine" in ends.node.ask("show", "protocols")
        (extra / "mine.conf").write_text("rubbish;\n")
        with pytest.raises(AnnounceError, match=r"mine\.conf:1:.* syntax error"):
            announce(ends, V4, V6)
        until(lambda: ends.heard() == {V4})


@pytest.mark.parametrize("file", ["bird.conf", "bird-secrets.conf"])
def test_passwords_are_in_their_own_file_only(tmp_path: Path, file: str) -> None:
    text = render(tmp_path).with_name(file).read_text()
    assert ("lab-bgp" in text) == (file == "bird-secrets.conf")
    assert (
        subprocess.run(["bird", "-p", "-c", str(tmp_path / "bird.conf")], check=False).returncode
        == 0
    )
