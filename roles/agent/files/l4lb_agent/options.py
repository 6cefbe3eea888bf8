# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's options: /etc/l4lb/agent.json, which the role l4lb.xdp.agent writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

PATH = Path("/etc/l4lb/agent.json")


class OptionsError(L4lbError):
    """The file of options has mistakes; all of them are in the text."""


@dataclass(frozen=True)
class Options:
    """Times in seconds. listen: address:port of /metrics, empty for none."""

    pins: Path = Path("/run/l4lb/bpf")
    source: Path = Path("/usr/lib/l4lb/bpf")
    state_dir: Path = Path("/var/lib/l4lb")
    run_dir: Path = Path("/run/l4lb/agent")
    bird_config: Path = Path("/etc/bird/bird.conf")
    bird_socket: Path = Path("/run/bird/bird.ctl")
    listen: str = "127.0.0.1:9474"
    lease: int = 30
    hold: int = 5
    settle_interval: int = 60
    max_backend_series: int = 10_000
    peers: tuple[str, ...] = ()


_LOW = {"lease": 2, "hold": 0, "settle_interval": 1, "max_backend_series": 0}
_HIGH = 86_400


def load(path: Path = PATH) -> Options:
    """Reads the file. Raises OptionsError naming the key, its value and what is allowed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionsError(
            f"cannot read {path} ({error}): the role l4lb.xdp.agent writes it"
        ) from error
    if not isinstance(content, Mapping):
        raise OptionsError(f"{path} is not a dictionary: the role l4lb.xdp.agent writes it")
    known = {field.name: field.default for field in fields(Options)}
    mistakes = [
        f"{path}: unknown key {key!r}; known are {', '.join(known)}"
        for key in content
        if key not in known
    ]
    values = {}
    for key, default in known.items():
        try:
            values[key] = _read(key, content.get(key, MISSING), default)
        except ValueError as error:
            mistakes.append(f"{path}: {key}: {content[key]!r} {error}")
    if mistakes:
        raise OptionsError("\n".join(mistakes))
    return Options(**values)


def _read(key: str, value: Any, default: Any) -> Any:
    """The value in the option's type. Raises ValueError saying what is allowed."""
    if value is MISSING:
        return default
    if isinstance(default, Path):
        if not isinstance(value, str) or not value.startswith("/"):
            raise ValueError("is not an absolute path")
        return Path(value)
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError("is not a list of texts")
        return tuple(value)
    if isinstance(default, int):
        high = max(_HIGH, default)
        if isinstance(value, bool) or not isinstance(value, int) or not _LOW[key] <= value <= high:
            raise ValueError(f"is not an integer from {_LOW[key]} to {high}")
        return value
    if not isinstance(value, str):
        raise ValueError("is not text")
    return value
