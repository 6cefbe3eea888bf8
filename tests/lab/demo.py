# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From nothing to a fleet with traffic, and through a change and a failure under connections."""

from __future__ import annotations

import difflib
import shutil
import sys
import time
from pathlib import Path

import breakage
import client
import fleet
import hosts
import inside
import view
from common import STATE, LabError, step
from verify import INVENTORY, show_echo, show_traffic, wait_for_routes

EDITED = STATE / "inventory"
SERVICES = Path("group_vars/all/services.yml")
CONNECTIONS = 200
FAILING, REQUESTS = "real1", 1000
# The demo's change: real3 joins both pools, and real2 weighs as much as real1.
CHANGES = {
    "      - {address: 192.0.2.72, weight: 50}\n": (
        "      - {address: 192.0.2.72, weight: 100}\n      - {address: 192.0.2.73, weight: 50}\n"
    ),
    '      - {address: "2001:db8:2::72", weight: 50}\n': (
        '      - {address: "2001:db8:2::72", weight: 100}\n'
        '      - {address: "2001:db8:2::73", weight: 50}\n'
    ),
}


def edit_inventory() -> None:
    """Copy the inventory and make the change in its services.yml, as an operator would."""
    shutil.rmtree(EDITED, ignore_errors=True)
    shutil.copytree(INVENTORY, EDITED)
    path = EDITED / SERVICES
    before = after = path.read_text()
    for old, new in CHANGES.items():
        if old not in before:
            raise LabError(
                f"{INVENTORY / SERVICES} has no line `{old.strip()}` for the demo to edit"
            )
        after = after.replace(old, new)
    path.write_text(after)
    lines = before.splitlines(), after.splitlines()
    print("\n".join(difflib.unified_diff(*lines, "before", "after", lineterm="", n=1)))


def change_under_traffic(connections: int) -> list[str]:
    """Apply the edited inventory while connections are in use; all of them must live on."""
    before = fleet.read_inventory(INVENTORY)
    step(f"change: {EDITED / SERVICES}")
    edit_inventory()
    after = fleet.read_inventory(EDITED)
    step(f"change: holding {connections} connections open, all of them busy")
    with client.held_connections(list(before.urls), connections) as held:
        step("change: ansible-playbook -i .lab/inventory playbooks/services.yml")
        fleet.play(EDITED, "services")
        wrong = show_traffic(EDITED, after)
    step(
        f"connections held through the change: {held['connections']},"
        f" requests on them: {held['answered']}, broken: {held['broken']}"
    )
    wrong += [f"{count} connections broke: {why}" for why, count in held["reasons"].items()]
    return wrong


def failure_under_traffic(inventory: fleet.Inventory) -> list[str]:
    """Kill a real server's processes: once the agents have noticed, nobody meets it."""
    addresses = {service["address"] for service in inventory.services}
    step(f"failure: the servers of {FAILING} die")
    breakage.kill_servers(FAILING)
    try:
        began = time.monotonic()
        noticed, _seen = view.watch(addresses, lambda now: now.is_down(FAILING), 30)
        step(f"failure: out of the rings of all nodes after {noticed - began:.1f} s")
        traffic = client.send_requests(list(inventory.urls), REQUESTS)
        step(f"failure: {traffic['answered']} of {REQUESTS} requests answered without it")
        print(inside.ask("node1", "l4lb", "backends"), flush=True)
    finally:
        breakage.start_servers(FAILING)
    view.watch(addresses, lambda now: now.is_up(FAILING), 30)
    step(f"failure: {FAILING} answers again, and is back in the rings")
    lost = REQUESTS - traffic["answered"]
    return [f"{lost} requests failed while {FAILING} was down"] if lost else []


def demo() -> list[str]:
    hosts.up()
    step("site: ansible-playbook -i inventories/lab playbooks/site.yml")
    fleet.play(INVENTORY, "site")
    inventory = fleet.read_inventory(INVENTORY)
    wait_for_routes(inventory)
    wrong = show_traffic(INVENTORY, inventory) + show_echo(inventory)
    step("agent: l4lb status on node1")
    print(inside.ask("node1", "l4lb", "status"), flush=True)
    wrong += change_under_traffic(CONNECTIONS)
    return wrong + failure_under_traffic(inventory)


def main() -> int:
    began = time.monotonic()
    wrong = demo()
    for line in wrong:
        step(f"wrong: {line}")
    step(
        f"{'failed' if wrong else 'done'} after {time.monotonic() - began:.0f} s; the lab stays up"
    )
    step("look around: make lab-shell HOST=node1 (router, real1, client, ...); end: make lab-down")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"[lab] failed: {error}\n[lab] what is up stays up: make lab-shell HOST=node1")
    except KeyboardInterrupt:
        sys.exit("[lab] interrupted; `make demo` goes on, `make lab-down` removes the lab")
