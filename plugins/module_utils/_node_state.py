# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is to announce, on disk: its state, and addresses withheld while their services go.

Private to the collection. The agent reads it at every turn and does it. `withdraw` is how a writer
has addresses withdrawn before it stops forwarding for them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _agent_status, _applied
from ansible_collections.l4lb.xdp.plugins.module_utils._address import canonical, order
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._reader import few

NODE_FILE = "node.json"
STATES = ("announcing", "draining", "withdrawn")
PATIENCE = 10.0
"""Seconds in which the agent has to withdraw addresses; one that is silent has its lease, too."""

ANNOUNCE_FILE = "announce.conf"
LEASE = 30.0
"""Seconds, unless the agent said otherwise."""
SETTLING = 3.0
"""Seconds from the file to what BIRD does, where nobody says that it is done."""

ROUTE = re.compile(r"^\s*route (\S+)/(?:32|128) unreachable(.*)$", re.MULTILINE)
"""A line of ANNOUNCE_FILE: the address, and what is said of it besides."""

_PAUSE = 0.1


class WithdrawError(L4lbError):
    """The agent still announces addresses that are about to go."""


@dataclass(frozen=True)
class NodeState:
    """since: Unix time of the state. withheld: addresses not to be announced, whatever the state:
    their services are about to go.
    """

    state: str = "announcing"
    since: int = 0
    withheld: tuple[str, ...] = ()


def load(state_dir: Path) -> NodeState:
    """The node's state; announcing where nothing was ever said.

    Raises AppliedError for a file that `save` did not write.
    """
    found = _applied.read(
        state_dir / NODE_FILE,
        _read,
        "a node's state",
        "remove it (the node announces then) and set the state again with l4lb.xdp.node",
    )
    return found or NodeState()


def save(state_dir: Path, state: NodeState) -> bool:
    """Writes it; returns whether that changed anything."""
    path = state_dir / NODE_FILE
    content = {**vars(state), "withheld": sorted(set(state.withheld), key=order)}
    held = _applied.load(path)
    if held == content or (held is None and state == NodeState()):
        return False
    _applied.save(path, content)
    return True


def release(state_dir: Path) -> bool:
    """Withholds nothing any more; returns whether anything was. The caller is the only writer, so
    what is withheld was left by one that was killed, or is its own.
    """
    return save(state_dir, replace(load(state_dir), withheld=()))


def withdraw(
    addresses: Collection[str],
    state_dir: Path,
    run_dir: Path,
    patience: float | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Has the agent withdraw these addresses, and waits until it says so; returns whether there
    is one to ask. They stay withheld until `release`.

    An agent that is silent (starting, hanging, stopped) may have left them announced: then it, or
    its lease, has `patience` seconds and the lease's to take them out of what BIRD reads.

    The caller is the only writer and holds the lock: the agent must not wait for it. patience: in
    seconds, PATIENCE where None. Raises WithdrawError when the time is over; nothing is withheld
    then.
    """
    silent = _agent_status.running(run_dir) is None
    if not addresses or (silent and not _listed(addresses, run_dir, clock())):
        return False
    if patience is None:
        patience = PATIENCE
    if silent:
        patience += _lease(run_dir)
    save(state_dir, replace(load(state_dir), withheld=tuple(addresses)))
    asked = clock()
    try:
        while left := _announced(addresses, run_dir, asked, clock()):
            if clock() - asked > patience:
                raise WithdrawError(_text(left, patience, run_dir if silent else None))
            sleep(_PAUSE)
    except BaseException:
        release(state_dir)
        raise
    return True


def _announced(
    addresses: Collection[str], run_dir: Path, asked: float, now: float
) -> Collection[str]:
    """Those that may still be announced.

    A turn of the agent reads node.json when it begins and its status is written when it ends: one
    that was written since `asked` and has an address withdrawn says that it stays so, for every
    later turn begins after that.
    """
    status = _agent_status.read(run_dir)
    written = 0.0 if status is None else float(status["written"])
    if status is None or written <= asked:
        if now - written < _agent_status.FRESH:
            return addresses
        listed = _listed(addresses, run_dir, now)
        return addresses if listed is None else listed
    announced = {a for a, each in status["addresses"].items() if each["announced"]}
    return [address for address in addresses if address in announced]


def _listed(addresses: Collection[str], run_dir: Path, now: float) -> Collection[str] | None:
    """Those that BIRD was told to announce, by what the agent and its lease have it read; None when
    there never was an agent. All of them while BIRD may still be about to read it.
    """
    path = run_dir / ANNOUNCE_FILE
    try:
        told = {address for address, _more in ROUTE.findall(path.read_text(encoding="utf-8"))}
        if now - path.stat().st_mtime < SETTLING:
            return addresses
    except FileNotFoundError:
        return None
    return [address for address in addresses if address in told]


def _lease(run_dir: Path) -> float:
    status = _agent_status.read(run_dir)
    return LEASE if status is None else float(status.get("lease", LEASE))


def _text(left: Collection[str], patience: float, silent_in: Path | None) -> str:
    """silent_in: the run_dir of an agent that was silent from the beginning."""
    if silent_in is not None:
        return (
            f"nothing was changed: {few(left)} may be announced and packets for them would be "
            f"lost, for {silent_in / ANNOUNCE_FILE} has told BIRD so, and l4lb-agent, which is "
            f"silent, did not withdraw them within {patience:.0f} s. Start it (systemctl restart "
            "l4lb-agent) or its lease (l4lb-lease), then apply again; to go on without them, stop "
            "bird.service and remove that file"
        )
    return (
        f"nothing was changed: l4lb-agent did not withdraw {few(left)} within {patience:.0f} s, "
        "and packets for them would be lost. See `l4lb status`, journalctl -u l4lb-agent, and "
        "whether bird.service runs, then apply again; to go on without the agent, stop it first "
        "(systemctl stop l4lb-agent), whereupon its lease withdraws the node"
    )


def _read(content: Any) -> NodeState:
    """The content of the file. Raises KeyError, TypeError or ValueError."""
    state = NodeState(content["state"], content["since"], tuple(content["withheld"]))
    if state.state not in STATES:
        raise ValueError(f"state {state.state!r}: one of {', '.join(STATES)}")
    if not _applied.is_integer(state.since, 0):
        raise ValueError(f"since {state.since!r}")
    for address in state.withheld:
        if address != canonical(address):
            raise ValueError(f"address {address!r} is to be written {canonical(address)}")
    return state
