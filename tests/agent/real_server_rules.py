# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules that the role real_server makes of an inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .bgp import V4, V6
from .playing import ROOT, rendered

REAL4, REAL6 = "192.0.2.71", "2001:db8:2::71"
NODE4 = "192.0.2.11"
FACTS = {
    "eth0": {
        "mtu": 1500,
        "ipv4": {"address": REAL4},
        "ipv6": [{"address": REAL6, "scope": "global"}, {"address": "fe80::1", "scope": "link"}],
    }
}
POOLS = {"web": {"forwarding": "gue", "backends": [{"address": REAL4}]}}
SERVICES = [
    {"name": str(number), "address": address, "port": 80, "protocol": "tcp", "pool": "web"}
    for number, address in enumerate((V4, V6))
]


def render(directory: Path, **variables: Any) -> Path:
    """The rules that the role would install."""
    values = {
        "ansible_facts": FACTS,
        "role_path": f"{ROOT}/roles/real_server",
        "l4lb_real_server_interface": "eth0",
        "l4lb_pools": POOLS,
        "l4lb_services": SERVICES,
        "real_server_tunnel_sources": [NODE4, "2001:db8:2::10/127"],
        **variables,
    }
    name = "l4lb-real-server.nft"
    rendered(directory, "real_server", name, **values)
    return directory / name
