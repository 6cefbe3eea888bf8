# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the router's kernel knows of the services: the nodes it spreads each address over.

routes.py ADDRESS       prints them, a line each
"""

from __future__ import annotations

import sys
from ipaddress import ip_address
from socket import AF_INET, AF_INET6

from network import inside
from topology import HOSTS, ROUTER

NODES = {
    address: host.name for host in HOSTS.values() for address in (host.address4, host.address6)
}


def gateways(route: dict) -> set[str]:
    """Next hops of a route in netlink's form: one of its own, or several."""
    hops = route.get_attr("RTA_MULTIPATH") or [route]
    return {gateway for hop in hops if (gateway := hop.get_attr("RTA_GATEWAY"))}


def nodes_for(address: str) -> set[str]:
    """Names of the nodes the router sends a service's address to."""
    family = AF_INET if ip_address(address).version == 4 else AF_INET6
    with inside(ROUTER) as ipr:
        found = [
            gateways(route)
            for route in ipr.get_routes(family)
            if route.get_attr("RTA_DST") == address
        ]
    return {NODES.get(gateway, gateway) for gateway in set().union(*found)}


if __name__ == "__main__":
    print("\n".join(sorted(nodes_for(sys.argv[1]))))
