# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet in the lab, seen as its operator sees it: an inventory, playbooks, what nodes count."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common import CHECKOUT, LOGS, LabError
from topology import HOSTS

# L4LB_ANSIBLE=oldest: with the oldest Ansible that is supported.
BIN = CHECKOUT / ".venv" / os.environ.get("L4LB_ANSIBLE", "") / "bin"
NODES = "l4lb_nodes"


def environment(**more: str) -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), **more}


def ansible(program: str, *arguments: str) -> str:
    """Run one of Ansible's programs for what it prints."""
    result = subprocess.run(
        [BIN / program, *arguments],
        cwd=CHECKOUT,
        # Molecule forces colours on what it runs.
        env=environment(ANSIBLE_CALLBACK_RESULT_FORMAT="json", ANSIBLE_FORCE_COLOR="0"),
        text=True,
        capture_output=True,
        check=False,
    )
    if result.returncode != 0:
        raise LabError(f"{program} {' '.join(arguments)}:\n{result.stdout}{result.stderr}")
    return result.stdout


def play(inventory: Path, playbook: str, *options: str) -> None:
    """Run a playbook; all that it says goes to the terminal and to a log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log_path = LOGS / f"{playbook}.log"
    where = "-i", str(inventory), f"playbooks/{playbook}.yml"
    command = [BIN / "ansible-playbook", *where, *options]
    with (
        log_path.open("w") as log,
        subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            log.write(line)
    if process.returncode != 0:
        raise LabError(f"playbooks/{playbook}.yml failed: see {log_path}")


@dataclass(frozen=True)
class Played:
    """A playbook's run; seconds: how long it took."""

    failed: bool
    output: str
    seconds: float

    @property
    def changed(self) -> int:
        """Tasks that changed something, on all hosts."""
        return sum(map(int, re.findall(r"\bchanged=(\d+)", self.output)))


def attempt(
    inventory: Path, playbook: str, *options: str, log: Path, root: Path = CHECKOUT
) -> Played:
    """Run a playbook, also of another checkout; what it says goes into a log."""
    more = {} if root == CHECKOUT else {"ANSIBLE_COLLECTIONS_PATH": str(root.parents[2])}
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    result = subprocess.run(
        [
            *(BIN / "ansible-playbook", "-i", str(inventory)),
            *(str(root / f"playbooks/{playbook}.yml"), *options),
        ],
        cwd=CHECKOUT,
        env=environment(ANSIBLE_FORCE_COLOR="0", **more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    log.write_text(result.stdout)
    return Played(result.returncode != 0, result.stdout, time.monotonic() - began)


@dataclass(frozen=True)
class Inventory:
    """The part of an inventory that says what is balanced."""

    pools: dict[str, dict]
    services: list[dict]

    @property
    def urls(self) -> dict[str, str]:
        """Pools by the URLs of their services; those over UDP have none."""
        return {
            f"http://[{service['address']}]:{service['port']}/"
            if ":" in service["address"]
            else f"http://{service['address']}:{service['port']}/": service["pool"]
            for service in self.services
            if service["protocol"] == "tcp"
        }

    def shares(self, pool: str) -> dict[str, tuple[int, float]]:
        """Weight and share of new connections asked for, by real server."""
        weights = {
            host_of(backend["address"]): backend.get("weight", 100)
            if backend.get("state", "active") == "active"
            else 0
            for backend in self.pools[pool]["backends"]
        }
        total = sum(weights.values())
        return {name: (weight, weight / total) for name, weight in weights.items()}


def host_of(address: str) -> str:
    found = [host.name for host in HOSTS.values() if address in (host.address4, host.address6)]
    return found[0] if found else address


def read_inventory(inventory: Path) -> Inventory:
    variables = json.loads(ansible("ansible-inventory", "-i", str(inventory), "--host", "node1"))
    return Inventory(variables["l4lb_pools"], variables["l4lb_services"])


def nodes_info(inventory: Path, *gather: str) -> dict[str, dict]:
    """What `l4lb.xdp.info` says on every node, or parts of it."""
    options = ["-a", f"gather={','.join(gather)}"] if gather else []
    output = ansible("ansible", "-i", str(inventory), NODES, "-m", "l4lb.xdp.info", *options)
    answer = re.compile(r"^(\S+) \| SUCCESS => ", re.MULTILINE)
    decoder = json.JSONDecoder()
    return {
        match[1]: decoder.raw_decode(output, match.end())[0]
        for match in sorted(answer.finditer(output), key=lambda match: match[1])
    }


def packets(info: dict[str, dict]) -> dict[str, int]:
    """Packets that every node has counted for the services."""
    return {
        node: sum(service["packets"] for service in result["services"])
        for node, result in info.items()
    }
