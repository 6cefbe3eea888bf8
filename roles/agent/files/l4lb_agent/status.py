# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent says of itself: plain data, written whole at every turn."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _agent_status
from ansible_collections.l4lb.xdp.plugins.module_utils._config import Fleet
from ansible_collections.l4lb.xdp.plugins.module_utils._health import Health, Healths
from l4lb_agent.judge import Judgement

Key = tuple[str, str]
Reasons = Mapping[str, Sequence[str]]


def services(fleet: Fleet, reasons: Reasons) -> list[dict[str, Any]]:
    """Each service with why its gate does not hold; reasons: by the service's name."""
    return [{**vars(each), "reasons": list(reasons.get(each.name, ()))} for each in fleet.services]


def addresses(
    fleet: Fleet, announced: Collection[str], reasons: Reasons, of_pools: Reasons
) -> dict[str, Any]:
    """Whether each service address is announced, and why not. of_pools: reasons by a pool's name.

    backends_only: nothing is wrong with this node, healthy backends are missing.
    """
    pools: dict[str, set[str]] = {}
    for service in fleet.services:
        pools.setdefault(service.address, set()).update(of_pools.get(service.pool, ()))
    return {
        address: {
            "announced": address in announced,
            "reasons": list(reasons.get(address, ())),
            "backends_only": bool(reasons.get(address)) and set(reasons[address]) <= known,
        }
        for address, known in pools.items()
    }


def pools(fleet: Fleet, healthy: Mapping[str, int]) -> dict[str, Any]:
    return {
        pool.name: {
            "backends": len(pool.backends),
            "healthy": healthy.get(pool.name, 0),
            "minimum_healthy": pool.minimum_healthy,
        }
        for pool in fleet.pools
    }


def backends(
    fleet: Fleet, judged: Mapping[Key, Judgement], healths: Healths
) -> list[dict[str, Any]]:
    """Each backend as its check sees it, and as the ring has it."""
    return [
        _backend(pool.name, pool.health_check.type, backend, judged, healths)
        for pool in fleet.pools
        for backend in pool.backends
    ]


def _backend(
    pool: str, check: str, backend: Any, judged: Mapping[Key, Judgement], healths: Healths
) -> dict[str, Any]:
    key = pool, backend.address
    health = healths.get(key, Health())
    said = judged.get(key)
    answer = said.answer if said else None
    return {
        "pool": pool,
        "address": backend.address,
        "state": backend.state,
        "check": check,
        "health": said.health if said else "unknown",
        "since": said.since if said else 0,
        "in_ring": backend.state == "active" and health.health == "up",
        "share": health.share,
        "answer": answer.text if answer else "",
        "seconds": answer.seconds if answer else 0,
        "asked": said.asked if said else 0,
        "failed": said.failed if said else 0,
    }


def unasked(judged: Mapping[Key, Judgement]) -> list[str]:
    """A line when this node itself cannot ask backends: that says nothing of them."""
    texts = {key: j.answer.text for key, j in judged.items() if j.answer and j.answer.local}
    if not texts:
        return []
    (pool, address), text = min(texts.items())
    return [f"{len(texts)} backends cannot be asked; backend {address} of pool {pool}: {text}"]


def write(run_dir: Path, content: Mapping[str, Any]) -> None:
    """Replaces the file in one step. Not brought to the disk: it is of this boot only."""
    path = run_dir / _agent_status.STATUS_FILE
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    os.replace(fresh, path)
