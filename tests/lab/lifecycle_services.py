# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is balanced, and by whom it is answered: edits of services.yml and what they do to flows."""

from __future__ import annotations

import copy
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable

import client
import edits
import fleet
import inside
import kernel_rings
import view
from breakage import INVENTORY
from common import LabError, wait_for
from lifecycle_fleet import reboot
from rehearsal import Run, Scenario
from routes import nodes_for
from scenarios import NODE, OTHER
from topology import HOSTS
from visitor import visiting

BACKENDS = {name: HOSTS[name].address4 for name in ("real1", "real2", "real3")}
EXTRA = {"name": "extra", "address": "203.0.113.40", "port": 80, "protocol": "tcp", "pool": "web"}
VISITS = 200
REQUESTS = 10_000
POINTS = 2.0  # per cent of the requests
PREDICTED = 0.1  # per cent of the slots
SUMMARY = re.compile(r"pool (\w+): ([\d.]+) % of new flows go elsewhere")
DRIFT = 5.0  # seconds until whoever scrapes can see it


def rings() -> dict[str, dict[str, list[str]]]:
    return {node: kernel_rings.read(node) for node in (NODE, OTHER)}


def predicted(played: fleet.Played, pool: str) -> float:
    """Per cent of the pool's new flows that a plan says move; every node says the same."""
    said = {percent for name, percent in SUMMARY.findall(played.output) if name == pool}
    if len(said) != 1:
        raise LabError(f"the plan says {said or 'nothing'} of pool {pool}")
    return float(said.pop())


def backends(node: str, pool: str) -> dict[str, dict]:
    info = fleet.nodes_info(INVENTORY, "backends")[node]
    return {each["address"]: each for each in info["backends"] if each["pool"] == pool}


def answered(run: Run, began: float) -> Counter[str]:
    """Short connections to services of pool web since then, by real server."""
    urls = [url for url, pool in run.stage.inventory.urls.items() if pool == "web"]
    found: Counter[str] = Counter()
    for key, count in run.load.answers(began, time.monotonic()).items():
        url, server = key.split()
        if url in urls:
            found[server] += count
    return found


def back_to_inventory(run: Run) -> None:
    if run.balanced != INVENTORY:
        run.play("services")


# --- a service comes and goes ---


def add_and_remove_service(run: Run) -> None:
    before = rings()
    run.play("services", inventory=edits.inventory(lambda _pools, all_: all_.append(EXTRA)))
    wait_for(
        lambda: nodes_for(EXTRA["address"]) == {NODE, OTHER},
        30,
        f"the router does not know {EXTRA['address']}",
    )
    with visiting(EXTRA["address"], EXTRA["port"]) as visits:
        visits.wait_for(VISITS)
        counted = unserved()
        run.play("services")
    run.check(not visits.failed, f"{visits.failed} visits failed while the router had its route")
    run.check(visits.gone is not None, "the router still knows the service")
    lost = {node: count - counted[node] for node, count in unserved().items()}
    run.check(not any(lost.values()), f"packets came for a service that was gone: {lost}")
    left = [
        node
        for node, info in fleet.nodes_info(INVENTORY, "services").items()
        if EXTRA["name"] in {each["name"] for each in info["services"]}
    ]
    run.check(not left, f"the service is still in the kernel of {left}")
    run.check(rings() == before, "rings of other services are not what they were")
    run.shows(
        f"{visits.answered} visits answered, none failed before the router had withdrawn it;"
        " the rings of the others unchanged"
    )


def unserved() -> dict[str, int]:
    found = fleet.nodes_info(INVENTORY, "verdicts")
    return {node: info["verdicts"]["drop_unserved"]["packets"] for node, info in found.items()}


# --- a backend goes ---


def with_real3(pools: dict, _services: list) -> None:
    pools["web"]["backends"].append({"address": BACKENDS["real3"], "weight": 100})


def add_real3(run: Run) -> None:
    run.play("services", inventory=edits.inventory(with_real3))


def remove_backend(run: Run) -> None:
    """Drained until its last connection ends, then out of the inventory."""
    address = BACKENDS["real3"]
    before = rings()
    share = predicted(run.play("services", "--check"), "web")
    held = list(run.load.servers(time.monotonic()).values()).count("real3")

    def end_connections() -> None:
        """Clients end theirs in time; what they open instead goes elsewhere."""
        wait_for(lambda: address not in kernel_rings.read(OTHER)["web"], 60, "it is not drained")
        run.load.leave("real3")

    ending = threading.Thread(target=end_connections)
    ending.start()
    run.play("drain_backend", "-e", f"l4lb_backend={address}", "-e", "l4lb_drain_idle=3")
    ending.join()
    after = rings()
    for node in (NODE, OTHER):
        moved = kernel_rings.moved(before[node]["web"], after[node]["web"])
        run.check(abs(moved - share) <= PREDICTED, f"{node}: {moved:.2f} % moved, not {share} %")
    began = time.monotonic()
    run.play("services")
    run.check(not answered(run, began)["real3"], "new connections met it after the drain")
    left = [node for node in (NODE, OTHER) if address in backends(node, "web")]
    run.check(not left, f"still in the kernel of {left}")
    run.shows(
        f"moved {moved:.2f} %, predicted {share} %; its {held} connections ended by themselves"
    )


# --- weights ---


def weighing(first: int, second: int) -> Callable[[dict, list], None]:
    def edit(pools: dict, _services: list) -> None:
        weights = {BACKENDS["real1"]: first, BACKENDS["real2"]: second}
        pools["web"]["backends"] = [{"address": a, "weight": w} for a, w in weights.items()]

    return edit


def weigh_alike(run: Run) -> None:
    run.play("services", inventory=edits.inventory(weighing(100, 100)))


def weigh_three_to_one(run: Run) -> None:
    run.play("services", inventory=edits.inventory(weighing(300, 100)))
    urls = [url for url, pool in run.stage.inventory.urls.items() if pool == "web"]
    traffic = client.send_requests(urls, REQUESTS)
    found: Counter[str] = Counter()
    for tally in traffic["urls"].values():
        found.update(tally["answered"])
    share = 100 * found["real1"] / (found.total() or 1)
    run.check(traffic["failed"] == 0, f"{traffic['failed']} of {REQUESTS} requests failed")
    run.check(abs(share - 75) <= POINTS, f"real1 got {share:.1f} % instead of 75 %")
    run.shows(f"{share:.1f} % and {100 - share:.1f} % of {found.total()} connections")


# --- other tunnels ---


def in_udp(pools: dict, _services: list) -> None:
    for pool in pools.values():
        pool["forwarding"] = "gue"


def change_tunnels(run: Run) -> None:
    """Real servers have to open both before the first node changes, and until the last has."""
    run.play("services", inventory=edits.inventory(in_udp))
    ports = {name: open_port(name) for name in BACKENDS}
    run.check(ports == {"real1": 6080, "real2": 6080, "real3": 0}, f"GUE is open at {ports}")
    run.play("site")
    ports = {name: open_port(name) for name in BACKENDS}
    run.check(not any(ports.values()), f"GUE is still open at {ports}")
    run.shows("IP in IP became GUE by services, and was again by site; then its port is closed")


def open_port(real: str) -> int:
    """At which a real server takes GUE; 0: at none."""
    return json.loads(inside.read(real, "/var/lib/l4lb/program-decap.json"))["gue_port"]


# --- a backend is drained ---


def drain_backend(run: Run) -> None:
    """And a node reboots. Nobody is connected, so nothing has to be waited for.

    A connection that a node has moved to another backend is known to that node alone, as long as
    the slot remembers the former one: under load such a node is not rebooted.
    """
    run.play("drain_backend", "-e", f"l4lb_backend={BACKENDS['real2']}", "-e", "l4lb_drain_idle=2")
    reboot(run, OTHER)


def watch_drained(run: Run) -> None:
    stays_drained(run, "after the reboot")
    pid = view.look(run.stage.addresses).pid(NODE)
    inside.do(NODE, "systemctl", "restart", "l4lb-agent.service")
    run.watch(
        lambda now: now.fresh(NODE) and now.pid(NODE) not in (0, pid), "the agent is back", 30
    )
    stays_drained(run, "after the agent's restart")


def stays_drained(run: Run, when: str) -> None:
    began = time.monotonic()
    wait_for(lambda: answered(run, began).total() >= VISITS, 60, "short connections end")
    found = answered(run, began)
    run.check(not found["real2"], f"{found['real2']} new connections met it {when}")
    for node in (NODE, OTHER):
        states = backends(node, "web")[BACKENDS["real2"]]["state"]
        run.check(states == "draining", f"{node} has it {states} {when}")
    run.shows(f"{when} {found.total()} new connections, none to it")


def undrain_backend(run: Run) -> None:
    run.play("undrain_backend", "-e", f"l4lb_backend={BACKENDS['real2']}")


# --- mistakes ---


def duplicate(_pools: dict, services: list) -> None:
    services.append({**services[0], "name": "again"})


def unknown_pool(_pools: dict, services: list) -> None:
    services[0]["pool"] = "wbe"


def heavy(pools: dict, _services: list) -> None:
    pools["web"]["backends"][0]["weight"] = 100_000


def misspelt(pools: dict, _services: list) -> None:
    pools["web"]["helth_check"] = {"type": "tcp"}


def not_an_address(pools: dict, _services: list) -> None:
    pools["web"]["backends"][1]["address"] = "192.0.2.720"


MISTAKES = {
    "l4lb_services": (duplicate, unknown_pool),
    "l4lb_pools": (heavy, misspelt, not_an_address),
}


def refuse_mistakes(run: Run) -> None:
    before = rings()
    for variable, mistakes in MISTAKES.items():
        for mistake in mistakes:
            run.play("services", inventory=edits.inventory(mistake), refused=variable)
    run.check(rings() == before, "a refused run changed rings")
    count = sum(map(len, MISTAKES.values()))
    run.shows(f"{count} mistakes refused, each naming its variable; nothing changed")


# --- nodes of which inventory says different things ---


def refuse_drift(run: Run) -> None:
    """What is meant for the fleet was written into one node's variables."""
    before = rings()
    pools = copy.deepcopy(run.stage.inventory.pools)
    weighing(100, 100)(pools, [])
    services = run.stage.inventory.services[1:]
    for name, value in {"l4lb_pools": pools, "l4lb_services": services}.items():
        edited = edits.of_host(OTHER, **{name: value})
        run.play("services", inventory=edited, refused=f"after it: {NODE} against {OTHER}")
    for name, number in {"l4lb_hash_seed": 1, "l4lb_ring_size": 131071}.items():
        edited = edits.of_host(OTHER, **{name: number})
        run.play("site", inventory=edited, refused=f"{name} is not the same on all nodes")
    run.check(rings() == before, "a refused run changed rings")
    run.shows(f"pools, services, hash seed, ring size of {OTHER} alone refused; nothing changed")


# --- a run that leaves a node out ---


def limit(run: Run) -> None:
    edited = edits.inventory(weighing(100, 100))
    run.play("services", "--limit", NODE, inventory=edited, refused=f"leaves {OTHER} out")
    run.play("services", "--limit", NODE, "-e", "l4lb_limited=true", inventory=edited)
    began = time.monotonic()
    wait_for(
        lambda: view.fingerprint(NODE) != view.fingerprint(OTHER), 30, "nobody can see the drift"
    )
    took = time.monotonic() - began
    run.check(took <= DRIFT, f"the drift was to be seen only after {took:.1f} s")
    run.play("services", refused="steer differently before the change")
    run.play("services", inventory=edited)  # the same inventory: what was begun comes to its end
    wait_for(lambda: view.fingerprint(NODE) == view.fingerprint(OTHER), 30, "nodes differ still")
    run.shows(
        f"refused; when meant, metrics showed the drift {took:.1f} s after it; another change"
        " refused meanwhile; a whole run with the same inventory ended it"
    )


def scenarios() -> dict[str, Scenario]:
    return {
        "service_comes_and_goes": Scenario(
            "a service is added, and removed again",
            add_and_remove_service,
            mends=back_to_inventory,
        ),
        "backend_removed": Scenario(
            "a backend is drained, and removed",
            remove_backend,
            prepares=add_real3,
            mends=back_to_inventory,
        ),
        "weights": Scenario(
            "weights from 1:1 to 3:1",
            weigh_three_to_one,
            prepares=weigh_alike,
            mends=back_to_inventory,
        ),
        "tunnels": Scenario(
            "tunnels become GUE, and IP in IP again", change_tunnels, mends=back_to_inventory
        ),
        "backend_drained": Scenario(
            "a backend stays drained: a node reboots, an agent restarts",
            watch_drained,
            prepares=drain_backend,
            mends=undrain_backend,
        ),
        "mistakes": Scenario("mistakes in services.yml", refuse_mistakes),
        "drift": Scenario("one node's variables are not the fleet's", refuse_drift),
        "limited_run": Scenario("a run limited to one node", limit, mends=back_to_inventory),
    }
