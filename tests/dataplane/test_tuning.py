# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tuning of real interfaces: a veth with several queues, which has no rings, hash or interrupts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SETUP = """
set -e
mount -t sysfs sysfs /sys
for name in e0 e1; do
    ip link add $name numrxqueues 4 numtxqueues 4 type veth peer name p$name
done
echo ready
exec sleep infinity
"""
WORK = """
import json, sys
from pathlib import Path
from ansible_collections.l4lb.xdp.plugins.module_utils import _tuning
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._tuning_settings import Tuning
asked = json.loads(sys.argv[1])
interfaces, state = asked.pop("interfaces"), Path(asked.pop("state"))
options = {name: asked.pop(name) for name in ("dry", "required") if name in asked}
try:
    outcome = _tuning.apply(interfaces, Tuning(**asked), state, **options)
    print(json.dumps(vars(outcome)))
except L4lbError as error:
    print(json.dumps({"refused": str(error)}))
"""
Tune = Callable[..., dict[str, Any]]


@pytest.fixture
def host() -> Iterator[Callable[..., str]]:
    """Runs a command in a network of its own, which /sys shows."""
    with subprocess.Popen(
        ["unshare", "--net", "--mount", "--propagation=private", "bash", "-c", SETUP],
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"

        def run(*command: str) -> str:
            inside = ["nsenter", f"--target={holder.pid}", "--net", "--mount", *command]
            environment = {**os.environ, "PYTHONPATH": f"{ROOT}/.venv/collections"}
            done = subprocess.run(
                inside, check=False, capture_output=True, text=True, env=environment, cwd=ROOT
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        yield run
        holder.kill()


@pytest.fixture
def tune(host: Callable[..., str], tmp_path: Path) -> Tune:
    def apply(*interfaces: str, **asked: Any) -> dict[str, Any]:
        asked = {"interfaces": interfaces, "state": str(tmp_path), **asked}
        return json.loads(host(sys.executable, "-c", WORK, json.dumps(asked)))

    return apply


def queues(host: Callable[..., str], name: str = "e0") -> int:
    """Receive queues, as ethtool tells."""
    now = host("ethtool", "-l", name).split("Current")[1]
    return int(now.split("RX:")[1].split()[0])


def napi(host: Callable[..., str], setting: str, name: str = "e0") -> int:
    return int(host("cat", f"/sys/class/net/{name}/{setting}"))


POLLED = {"napi_defer_hard_irqs": "2", "gro_flush_timeout": "200000"}


def test_settings_are_brought_once_and_a_dry_run_brings_none(
    tune: Tune, host: Callable[..., str]
) -> None:
    dry = tune("e0", queues="3", **POLLED, dry=True)
    assert dry["changed"]
    assert queues(host) == 4
    wet = tune("e0", queues="3", **POLLED)
    assert wet["before"] == [
        "e0 queues: 4 rx, 4 tx",
        "e0 napi_defer_hard_irqs: 0",
        "e0 gro_flush_timeout: 0",
    ]
    assert (wet["before"], wet["after"]) == (dry["before"], dry["after"])
    assert queues(host) == 3
    assert (napi(host, "napi_defer_hard_irqs"), napi(host, "gro_flush_timeout")) == (2, 200000)
    for again in (tune("e0", queues="3", **POLLED), tune("e0", queues="3", **POLLED, dry=True)):
        assert not again["changed"]
        assert not again["after"]


def test_a_queue_for_each_cpu_as_far_as_there_are(tune: Tune, host: Callable[..., str]) -> None:
    tune("e0", queues="cpus", cpus="0")
    assert queues(host) == 1
    tune("e0", queues="cpus")
    assert queues(host) == min(4, len(os.sched_getaffinity(0)))


def test_what_a_veth_has_not_is_told_and_the_rest_is_done(
    tune: Tune, host: Callable[..., str]
) -> None:
    asked = {"ring_rx": "max", "hash_key": "x", "affinity": True, "queues": "5", "lro_off": True}
    told = tune("e0", **asked, **POLLED)
    status = {each["setting"]: each["status"] for each in told["data"]["tuning"]}
    assert status.pop("lro") == "as wanted"
    assert [status.pop(name) for name in POLLED] == ["changed", "changed"]
    assert set(status) == {"ring_rx", "hash_key", "affinity", "queues"}
    assert set(status.values()) == {"not possible"}
    assert told["warnings"] == [
        "e0: queues is not possible: the driver has 4 queues at most",
        "e0: ring_rx is not possible: its driver does not have it",
        "e0: hash_key is not possible: its driver does not have it",
        "e0: affinity is not possible: it has no interrupts that are known to be its queues'",
    ]
    assert napi(host, "napi_defer_hard_irqs") == 2


def test_what_is_required_and_not_possible_stops_everything(
    tune: Tune, host: Callable[..., str]
) -> None:
    told = tune("e0", ring_rx="max", queues="2", required=True)
    assert told == {"refused": "e0: ring_rx is not possible: its driver does not have it"}
    assert queues(host) == 4


def test_what_is_not_wanted_any_more_is_as_it_was(tune: Tune, host: Callable[..., str]) -> None:
    host("bash", "-c", "echo 7 > /sys/class/net/e0/napi_defer_hard_irqs")
    tune("e0", "e1", queues="2", **POLLED)
    tune("e0", "e1", queues="1", **POLLED)
    tune("e0", queues="1")
    assert (queues(host), napi(host, "napi_defer_hard_irqs")) == (1, 7)
    assert (queues(host, "e1"), napi(host, "napi_defer_hard_irqs", "e1")) == (4, 0)
    assert tune()["changed"]
    assert queues(host) == 4
    assert not tune()["changed"]


def test_unit_brings_it_back_after_a_boot(
    tune: Tune, host: Callable[..., str], tmp_path: Path
) -> None:
    tune("e0", queues="3", **POLLED)
    host("ethtool", "-L", "e0", "rx", "4", "tx", "4")
    unit = "ansible_collections.l4lb.xdp.plugins.module_utils._tuning"
    assert host(sys.executable, "-m", unit, str(tmp_path)) == "e0 queues: 3 rx, 3 tx\n"
    assert queues(host) == 3
    assert host(sys.executable, "-m", unit, str(tmp_path / "nothing")) == ""


def test_interface_that_is_not_there_is_named(tune: Tune) -> None:
    assert "no interface 'e7' here; there are: " in tune("e7", queues="2")["refused"]


def test_offload_is_switched_and_others_stay(host: Callable[..., str]) -> None:
    code = (
        "from ansible_collections.l4lb.xdp.plugins.module_utils import _ethtool as e;"
        "was = e.offloads('e0'); e.set_offloads('e0', {'rx-gro': not was['rx-gro']});"
        "now = e.offloads('e0'); print({n for n in was if was[n] != now[n]})"
    )
    assert host(sys.executable, "-c", code) == "{'rx-gro'}\n"
