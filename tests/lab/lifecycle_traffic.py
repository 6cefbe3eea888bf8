# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients do: a flood of SYNs, and packets that do not fit on their way."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import bulk
import client
import edits
import fleet
import inside
import ssh
from breakage import INVENTORY
from common import run as command
from rehearsal import Run, Scenario
from scenarios import NODE, OTHER
from topology import HOSTS, SEGMENTS

FLOOD = Path(__file__).resolve().parent / "flood.py"
RATE, SECONDS = 3000, 10
BEFORE = 3.0  # seconds of comparison
SLOWER = 5.0  # milliseconds that the median answer may take longer: the flood's share of the CPUs

REAL, CLIENT = HOSTS["real1"], HOSTS["client"]
NARROW = 1400  # towards the client
NARROW_TUNNEL = 1450  # towards the real server, with the outer header
BULK = {"bulk4": ("203.0.113.50", REAL.address4), "bulk6": ("2001:db8:100::50", REAL.address6)}
GATEWAYS = SEGMENTS["nodes"].gateway4, SEGMENTS["nodes"].gateway6


# --- a flood ---


def tables() -> dict[str, tuple[int, int]]:
    """Flows that are recorded, and slots that make it so, by node."""
    info = fleet.nodes_info(INVENTORY, "flow_tables", "pools")
    return {
        node: (
            sum(each["entries"] for each in found["flow_tables"].values()),
            sum(pool["tracked_slots"] for pool in found["pools"].values()),
        )
        for node, found in info.items()
    }


def flood(run: Run) -> None:
    target = next(s for s in run.stage.inventory.services if s["protocol"] == "tcp")
    where = target["address"], str(target["port"])
    before = tables()
    time.sleep(BEFORE)
    began = time.monotonic()
    calm = run.load.took(began - BEFORE, began)
    words = client.command(*where, str(RATE), str(SECONDS), script=FLOOD)
    done = subprocess.run(["nice", *words], text=True, stdout=subprocess.PIPE, check=True)
    sent = client.result_of(done.stdout)["sent"]
    flooded = run.load.took(began, time.monotonic())
    after = tables()
    grown = {node: after[node][0] - before[node][0] for node in after}
    if not any(slots for _entries, slots in before.values()):
        run.check(not any(grown.values()), f"flow tables grew: {grown}")
    run.check(
        not run.stage.strict or flooded <= calm + SLOWER,
        f"the median answer took {flooded:.1f} ms, before {calm:.1f} ms",
    )
    run.shows(
        f"{sent} SYNs of 4,096 clients that do not exist; flow tables grew by"
        f" {sum(grown.values())}; median answer {calm:.1f} ms before, {flooded:.1f} ms meanwhile"
    )


# --- path MTU ---


def with_bulk(pools: dict, services: list[dict]) -> None:
    for name, (address, backend) in BULK.items():
        pools[name] = {"backends": [{"address": backend}]}
        place = {"address": address, "port": bulk.PORT, "protocol": "tcp"}
        services.append({"name": name, **place, "pool": name})


def add_bulk(run: Run) -> None:
    bulk.start(REAL.name)
    run.play("services", inventory=edits.inventory(with_bulk))


def narrow() -> None:
    """The routers on the way take less than both ends: to the client, and to the real server."""
    link = SEGMENTS["client"].bridge
    for address in (CLIENT.address4, CLIENT.address6):
        words = "dev", link, "mtu", "lock", str(NARROW)
        inside.do("router", "ip", "route", "replace", address, *words)
    for node in (NODE, OTHER):
        for address, gateway in zip((REAL.address4, REAL.address6), GATEWAYS, strict=True):
            words = "via", gateway, "dev", "eth0", "mtu", "lock", str(NARROW_TUNNEL)
            inside.do(node, "ip", "route", "replace", address, *words)


def widen() -> None:
    for host, addresses in (
        ("router", (CLIENT.address4, CLIENT.address6)),
        (NODE, (REAL.address4, REAL.address6)),
        (OTHER, (REAL.address4, REAL.address6)),
    ):
        for address in addresses:
            inside.ask(host, "ip", "route", "delete", address)


def learnt(route: str) -> int:
    """The path MTU in a route as `ip route get` shows it; 0 when there is none."""
    found = re.search(r"\bmtu (\d+)", route)
    return int(found[1]) if found else 0


def transfer(run: Run) -> None:
    narrow()
    time.sleep(1.5)  # a node's next hops are cached for a second
    for name, (address, backend) in BULK.items():
        failed = bulk.there_and_back(address)
        run.check(not failed, failed)
        four = ":" not in address
        home = CLIENT.address4 if four else CLIENT.address6
        there = learnt(command(ssh.inside_command(CLIENT, "ip", "route", "get", address)).stdout)
        # IPv6 remembers it for the two addresses, IPv4 for the one.
        back = learnt(inside.do(REAL.name, "ip", "route", "get", home, "from", address))
        inner = NARROW_TUNNEL - (20 if ":" not in backend else 40)
        run.check(there == inner, f"{name}: the client learnt {there}, not {inner}")
        run.check(back == NARROW, f"{name}: the real server learnt {back}, not {NARROW}")
        run.shows(f"IPv{4 if four else 6}: the client learnt {there}, the real server {back}")


def remove_bulk(run: Run) -> None:
    widen()
    bulk.stop(REAL.name)
    run.play("services")


def scenarios() -> dict[str, Scenario]:
    return {
        "syn_flood": Scenario("a SYN flood", flood),
        "path_mtu": Scenario(
            "narrow links both ways, half a megabyte over each",
            transfer,
            prepares=add_bulk,
            mends=remove_bulk,
        ),
    }
