# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""BIRD on the router: hears the services' routes from every node and spreads over all of them."""

from __future__ import annotations

from string import Template

from topology import BGP_PASSWORD, NODE_AS, ROUTER_AS, SERVICE_PREFIXES, Host, of_kind

BASE = Template("""\
# Written by the lab.
log syslog all;
router id 192.0.2.1;

protocol device { scan time 1; }

protocol kernel kernel4 {
  merge paths yes;
  ipv4 { import none; export all; };
}

protocol kernel kernel6 {
  merge paths yes;
  ipv6 { import none; export all; };
}

# A node that drains asks for graceful shutdown (RFC 8326): any other node is better.
filter services4 {
  if net !~ [ $prefix4+ ] then reject;
  if (65535, 0) ~ bgp_community then bgp_local_pref = 0;
  accept;
}
filter services6 {
  if net !~ [ $prefix6+ ] then reject;
  if (65535, 0) ~ bgp_community then bgp_local_pref = 0;
  accept;
}
""")

SESSION = Template("""
protocol bgp $name {
  local as $router_as;
  neighbor $address as $node_as;
  password "$password";
  # Quick to start, and again after a node was away: nobody wants to wait for a lab.
  connect delay time 1;
  connect retry time 3;
  error wait time 1, 3;
  hold time 9;
  $family { import filter services$version; export none; };
}
""")


def session(host: Host, version: int) -> str:
    return SESSION.substitute(
        name=f"{host.name}_ipv{version}",
        address=host.address4 if version == 4 else host.address6,
        router_as=ROUTER_AS,
        node_as=NODE_AS,
        password=BGP_PASSWORD,
        family=f"ipv{version}",
        version=version,
    )


def bird_configuration() -> str:
    """One session a family and node: a family's routes come over its own addresses."""
    prefix4, prefix6 = SERVICE_PREFIXES
    base = BASE.substitute(prefix4=prefix4, prefix6=prefix6)
    sessions = [session(host, version) for host in of_kind("node") for version in (4, 6)]
    return base + "".join(sessions)
