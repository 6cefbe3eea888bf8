# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the fleet do what an inventory says? Routes at the router, real requests, and echoes.

verify.py [INVENTORY]
"""

from __future__ import annotations

import sys
from pathlib import Path

import client
import fleet
import report
import routes
from common import CHECKOUT, LabError, step, wait_for
from fleet import Inventory
from topology import of_kind

INVENTORY = CHECKOUT / "inventories/lab"
REQUESTS = 3000
ROUTES_SECONDS = 30


def wait_for_routes(inventory: Inventory) -> None:
    """Wait until the router spreads every service over every node."""
    nodes = {host.name for host in of_kind("node")}
    for service in inventory.services:
        address = service["address"]
        wait_for(
            lambda address=address: routes.nodes_for(address) == nodes,
            ROUTES_SECONDS,
            f"the router does not spread {address} over {', '.join(sorted(nodes))}: look at "
            "`birdc show protocols` in `make lab-shell HOST=router` and HOST=node1",
        )
    step(f"router: spreads {len(inventory.services)} services over {', '.join(sorted(nodes))}")


def show_traffic(path: Path, inventory: Inventory) -> list[str]:
    """Send requests, print both tables and return what is wrong."""
    step(f"traffic: {REQUESTS} requests to {', '.join(inventory.urls)}")
    before = fleet.packets(fleet.nodes_info(path))
    traffic = client.send_requests(list(inventory.urls), REQUESTS)
    after = fleet.packets(fleet.nodes_info(path))
    counted = {node: after[node] - before[node] for node in after}
    print(report.per_node(counted, traffic["answered"]))
    print(report.per_real_server(inventory, traffic), flush=True)
    step(f"traffic: {traffic['answered']} of {REQUESTS} answered in {traffic['seconds']} s")
    idle = [f"{node} forwarded nothing" for node, packets in counted.items() if not packets]
    return report.complaints(inventory, traffic) + idle


def show_echo(inventory: Inventory) -> list[str]:
    """Ask every service's address for an echo, which the nodes answer themselves."""
    addresses = sorted({service["address"] for service in inventory.services})
    echo = client.ask_for_echo(addresses)
    step(f"echo: {echo['asked'] - len(echo['silent'])} of {echo['asked']} addresses answered")
    return [f"{address} does not answer an echo request" for address in echo["silent"]]


def main() -> int:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else INVENTORY
    inventory = fleet.read_inventory(path)
    wait_for_routes(inventory)
    wrong = show_traffic(path, inventory) + show_echo(inventory)
    for line in wrong:
        step(f"wrong: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"[lab] failed: {error}")
