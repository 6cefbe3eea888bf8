# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes and a router, with real routing daemons, in namespaces of their own.

router (192.0.2.1, 2001:db8:1::1, AS 65000) --- nodes (192.0.2.11, 2001:db8:1::11, AS 65001; ...12)

The router's end of all links is a bridge, `lan`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import NetNS, netns

from .playing import ROOT, rendered

LAB = ROOT / "tests/lab"
V4, OTHER4, V6 = "203.0.113.10", "203.0.113.11", "2001:db8:100::10"
PATIENCE = 20.0

ROUTER = """\
log syslog all;
router id 192.0.2.1;
protocol device { scan time 1; }
"""
"""Of a router's configuration, what comes before the sessions."""


def render(directory: Path, **variables: Any) -> Path:
    """The configuration that the role would install, with the run directory below this one."""
    neighbors = [
        {"name": f"router_ipv{version}", "address": address, "as": 65000, "password": "lab-bgp"}
        for version, address in ((4, "192.0.2.1"), (6, "2001:db8:1::1"))
    ]
    values = {
        "l4lb_services": [{"address": address} for address in (V4, OTHER4, V6)],
        "l4lb_bgp_as": 65001,
        "l4lb_bgp_router_id": "192.0.2.11",
        "l4lb_bgp_neighbors": neighbors,
        "bird_secrets": str(directory / "bird-secrets.conf"),
        "bird_announcements": str(directory / "run/announce.conf"),
        "bird_extra": str(directory / "extra"),
        **variables,
    }
    rendered(directory, "bird", "bird.conf", "bird-secrets.conf", "bird-unit.conf", **values)
    return directory / "bird.conf"


def router_configuration() -> str:
    """The lab's own."""
    code = "import router; print(router.bird_configuration())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=LAB, check=True, capture_output=True, text=True
    )
    return done.stdout


def documented(daemon: str) -> str:
    """The router's configuration in docs/routers.md: what is recommended is what is tested."""
    text = (ROOT / "docs/routers.md").read_text()
    found = re.search(rf"^```{daemon}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/routers.md has no block of {daemon}"
    return found[1]


def until(what: Callable[[], Any], patience: float = PATIENCE) -> float:
    """Waits until it is so; returns the seconds that took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < patience, f"not within {patience} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


@dataclass
class Bird:
    """A BIRD in a namespace."""

    namespace: str
    config: Path
    control: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{self.namespace}", "bird", "-f", *options),
                *("-c", str(self.config), "-s", str(self.control)),
                *("-P", str(self.control.with_suffix(".pid"))),
            ]
        )
        until(lambda: "is up" in self.ask("show", "status"))

    def stop(self, kill: bool = False) -> None:
        """As if it crashed, or as systemd stops it."""
        if self.process is not None:
            (self.process.kill if kill else self.process.terminate)()
            self.process.wait(timeout=10)
        self.process = None

    def ask(self, *words: str) -> str:
        done = subprocess.run(
            ["birdc", "-s", str(self.control), *words], capture_output=True, text=True, check=False
        )
        return done.stdout

    def sessions(self) -> list[str]:
        """Since when each session is established."""
        return re.findall(
            r"(?m)^\S+\s+BGP\s+\S+\s+up\s+(\S+)\s+Established", self.ask("show", "protocols")
        )

    def stood_since(self, since: list[str]) -> bool:
        """Whether these sessions have stood since then. BIRD reckons times anew, to 1 ms or so."""
        now = self.sessions()
        return len(now) == len(since) and all(
            abs(_seconds(one) - _seconds(other)) < 0.1 for one, other in zip(now, since)
        )

    def route(self, address: str) -> str:
        """All that it knows of the route; empty when it has none."""
        found = self.ask("show", "route", "all", "for", address)
        return found if f"{address}/" in found else ""

    def chosen(self, address: str) -> str:
        """Of that, what is about the best one."""
        found = self.ask("show", "route", "primary", "for", address)
        return found if f"{address}/" in found else ""


def _seconds(clock: str) -> float:
    """Of a day; "11:30:11.874"."""
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@dataclass
class Pair:
    """Both, wired."""

    node: Bird
    router: Bird
    run_dir: Path

    @property
    def announcements(self) -> Path:
        return self.run_dir / "announce.conf"

    def heard(self) -> set[str]:
        """The addresses that the router has routes to."""
        return {address for address in (V4, OTHER4, V6) if self.router.route(address)}

    def guarded(self) -> set[str]:
        """The addresses that the node's kernel refuses."""
        with NetNS(self.node.namespace) as ip:
            routes = [route for route in ip.get_routes() if route["type"] == 7]  # RTN_UNREACHABLE
        return {str(route.get_attr("RTA_DST")) for route in routes} & {V4, OTHER4, V6}

    def refused(self, counter: str) -> int:
        """The node's kernel's counter of TCP, as in /proc/net/netstat."""
        text = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.node.namespace}", "cat", "/proc/net/netstat"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        names, values = [line.split() for line in text.splitlines() if line.startswith("TcpExt")]
        return int(dict(zip(names, values))[counter])


@contextmanager
def pair(
    directory: Path,
    name: str,
    router: str | None = None,
    *,
    sessions: int = 2,
    prepare: Callable[[dict[str, str]], None] = lambda _spaces: None,
    **variables: Any,
) -> Iterator[Pair]:
    """Up, with so many established sessions; the run directory is there and empty.

    router: its configuration, by default the lab's. prepare: is given the namespaces before BIRD
    is started. variables: the role's, for the node.
    """
    run_dir = directory / "run"
    run_dir.mkdir()
    config = render(directory, **variables)
    router_config = directory / "router.conf"
    router_config.write_text(router_configuration() if router is None else router)
    with namespaces(name, "router", "node") as spaces:
        prepare(spaces)
        birds = [
            Bird(spaces["node"], config, directory / "node.ctl"),
            Bird(spaces["router"], router_config, directory / "router.ctl"),
        ]
        try:
            for bird in birds:
                bird.start()
            until(lambda: len(birds[0].sessions()) == sessions)
            yield Pair(*birds, run_dir)
        finally:
            for bird in birds:
                bird.stop()


@contextmanager
def namespaces(name: str, router: str, *nodes: str) -> Iterator[dict[str, str]]:
    """Their namespaces by these names, wired, gone afterwards."""
    spaces = {end: f"{name}-{os.getpid()}-{end}" for end in (router, *nodes)}
    try:
        for space in spaces.values():
            netns.create(space)
        _wire(spaces[router], [spaces[node] for node in nodes])
        yield spaces
    finally:
        for space in spaces.values():
            with suppress(FileNotFoundError):
                netns.remove(space)


def _wire(router: str, nodes: list[str]) -> None:
    with NetNS(router) as ip:
        ip.link("add", ifname="lan", kind="bridge")
        bridge = _address(ip, "lan", 1)
        for number, node in enumerate(nodes, start=11):
            with NetNS(node) as there:
                peer = {"ifname": f"port{number}", "net_ns_fd": router}
                there.link("add", ifname="eth0", kind="veth", peer=peer)
                _address(there, "eth0", number)
            port = ip.link_lookup(ifname=f"port{number}")[0]
            ip.link("set", index=port, master=bridge, state="up")


def _address(ip: NetNS, name: str, number: int) -> int:
    """The host's address on that link, both up. Returns the link's index."""
    for link in ("lo", name):
        ip.link("set", index=ip.link_lookup(ifname=link)[0], state="up")
    index: int = ip.link_lookup(ifname=name)[0]
    ip.addr("add", index=index, address=f"192.0.2.{number}", prefixlen=26)
    ip.addr("add", index=index, address=f"2001:db8:1::{number}", prefixlen=64, flags=0x02)  # no DAD
    return index
