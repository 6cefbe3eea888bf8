# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A status as an agent writes it: two services in order, a third with too few backends."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any


def _backend(pool: str, address: str, **changes: Any) -> dict[str, Any]:
    return {
        "pool": pool,
        "address": address,
        "state": "active",
        "check": "http",
        "health": "up",
        "since": 0,
        "in_ring": True,
        "share": 100,
        "answer": "ok 200",
        "seconds": 0.004,
        "asked": 100,
        "failed": 0,
        **changes,
    }


def _service(name: str, address: str, pool: str, *reasons: str) -> dict[str, Any]:
    return {
        "name": name,
        "address": address,
        "port": 80,
        "protocol": "tcp",
        "pool": pool,
        "reasons": list(reasons),
    }


TOO_FEW = "1 of 2 backends of pool api are healthy, 2 are needed (minimum_healthy)"

_STATUS: dict[str, Any] = {
    "version": 1,
    "pid": 4711,
    "turn_seconds": 0.012,
    "node": {"state": "announcing", "wanted": "announcing", "since": 1_700_000_000, "reasons": []},
    "applied": "00",
    "lease": 30,
    "services": [
        _service("web", "203.0.113.10", "web"),
        _service("web6", "2001:db8:100::10", "web"),
        _service("api", "203.0.113.20", "api", TOO_FEW),
    ],
    "addresses": {
        "203.0.113.10": {"announced": True, "reasons": []},
        "2001:db8:100::10": {"announced": True, "reasons": []},
        "203.0.113.20": {"announced": False, "reasons": [TOO_FEW]},
    },
    "pools": {
        "web": {"backends": 2, "healthy": 2, "minimum_healthy": 1},
        "api": {"backends": 2, "healthy": 1, "minimum_healthy": 2},
    },
    "backends": [
        _backend("web", "192.0.2.71"),
        _backend("web", "192.0.2.72"),
        _backend("api", "192.0.2.73"),
        _backend(
            "api",
            "192.0.2.74",
            health="down",
            in_ring=False,
            answer="connection refused",
            failed=7,
        ),
    ],
    "proofs": {"made": 12, "failed": 0, "services": {"web": 6, "web6": 6}},
    "problems": [],
}


def status(age: float = 0.0, **changes: Any) -> dict[str, Any]:
    """Written `age` seconds ago."""
    now = time.time()
    return {**copy.deepcopy(_STATUS), "written": now - age, "started": now - 3600, **changes}


def written(run_dir: Path, age: float = 0.0, **changes: Any) -> Path:
    """The directory with such a status in it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "status.json").write_text(json.dumps(status(age, **changes)), encoding="utf-8")
    return run_dir
