# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One case of bench-control in a process of its own: arguments as JSON in, times as JSON out.

`seconds` is what the case is about: to the last write of a map where it writes, to the end where it
only reads.
"""

from __future__ import annotations

import ctypes as ct
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()

from ansible_collections.l4lb.xdp.plugins.module_utils import (  # noqa: E402
    _applied,
    _apply,
    _backend,
    _bpf,
    _explain,
    _flows,
    _info,
    _plan,
    _settle,
    _tables,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import parse  # noqa: E402

IMPORTED = time.perf_counter()

steps: list[dict[str, Any]] = []


def timed(owner: Any, name: str, step: str) -> None:
    """Notes when this function runs."""
    real = getattr(owner, name)

    def run(*arguments: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            return real(*arguments, **more)
        finally:
            ended = time.perf_counter()
            steps.append({"step": step, "began": began - IMPORTED, "ended": ended - IMPORTED})

    setattr(owner, name, run)


def watch() -> None:
    timed(_apply, "parse_change", "validate")
    timed(_tables.Tables, "__init__", "open the maps")
    timed(_tables.Tables, "actual", "read the maps")
    timed(_plan, "make", "plan")
    timed(_plan, "apply", "write the maps")
    timed(_plan, "verify", "read back")
    timed(_applied, "save", "remember")


def places(given: dict[str, Any]) -> tuple[Path, Path, Path]:
    return Path(given["pins"]), Path(given["source"]), Path(given["state_dir"])


def apply(given: dict[str, Any], dry: bool = False) -> Any:
    outcome = _apply.apply_services(given["pools"], given["services"], True, *places(given), dry)
    return outcome.data["plan"]["writes"]


def check(given: dict[str, Any]) -> Any:
    return apply(given, dry=True)


def backend(given: dict[str, Any]) -> Any:
    request = _backend.Request(address=given["address"], state=given["state"])
    outcome = _backend.apply_backend(request, *places(given))
    assert outcome.changed
    return outcome.changed


def info(given: dict[str, Any]) -> Any:
    return len(json.dumps(_info.info(*places(given)[:2])))


def fingerprint(given: dict[str, Any]) -> Any:
    return _info.info(*places(given)[:2], ["fingerprint"])["fingerprint"]


def explain(given: dict[str, Any]) -> Any:
    pins, source, _state = places(given)
    explainer = _explain.Explainer(_tables.Tables(pins, source), source, pins)
    asked = parse("198.51.100.2", "198.18.5.6", "tcp", 40000, 443)
    return explainer.explain(asked)["verdict"]


def memory(given: dict[str, Any]) -> Any:
    return _info.info(*places(given)[:2], ["memory"])["memory"]


def write_flows(given: dict[str, Any]) -> Any:
    """That many flows of living clients, recorded on the service's backends."""
    pins, source, _state = places(given)
    tables = _tables.Tables(pins, source)
    table, rng, now = tables.table("flows4"), random.Random(3), _tables.now_tick()
    total, size = given["flows"], 1 << 16
    for begin in range(0, total, size):
        count = min(size, total - begin)
        keys, values = (table.Key * count)(), (table.Leaf * count)()
        for i in range(count):
            keys[i].source = begin + i
            keys[i].destination = int.from_bytes(bytes([198, 18, 0, 1]), sys.byteorder)
            keys[i].source_port = rng.getrandbits(16)
            keys[i].destination_port = 443 << 8 & 0xFF00 | 443 >> 8
            keys[i].protocol = 6
            values[i].backend, values[i].seen = rng.randrange(1, 31), now
        done = ct.c_uint32(count)
        assert _bpf.lib.bpf_update_batch(table.map_fd, keys, values, ct.byref(done)) == 0
    track(tables)
    return _flows.count(tables)["ipv4"]


def track(tables: Any) -> None:
    """Every slot has changed, longer ago than its pool's settle time."""
    slots = tables.ring(0)
    slots.tracked[:] = type(slots.tracked)("I", [1] * len(slots))
    tables.put_ring(0, slots)


def scan(given: dict[str, Any]) -> Any:
    pins, source, _state = places(given)
    tables = _tables.Tables(pins, source)
    began = time.perf_counter()
    living = _flows.living_by_backend(tables, _tables.now_tick(), 1 << 20)
    steps.append({"seconds": time.perf_counter() - began})
    return sum(living.values())


def settle(given: dict[str, Any]) -> Any:
    outcome = _settle.settle_node(*places(given), dry=True)
    return outcome.data


CASES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "apply": apply,
    "check": check,
    "backend": backend,
    "info": info,
    "fingerprint": fingerprint,
    "explain": explain,
    "memory": memory,
    "write flows": write_flows,
    "scan": scan,
    "settle": settle,
}


def main() -> None:
    given = json.load(sys.stdin)
    watch()
    answer = CASES[given["case"]](given)
    whole = time.perf_counter() - IMPORTED
    result: dict[str, Any] = {"answer": answer, "whole": whole, "importing": IMPORTED - BEGAN}
    last = [step for step in steps if step.get("step") == "write the maps"]
    own = [step["seconds"] for step in steps if "seconds" in step]
    result["seconds"] = last[-1]["ended"] if last else own[-1] if own else whole
    result["steps"] = [step for step in steps if "step" in step]
    result.update(answer if given["case"] == "memory" else {})
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
