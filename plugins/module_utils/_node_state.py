# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is to announce, on disk: its state, and addresses withheld while their services go.

Private to the collection. The agent reads it at every turn and does it. `withdraw` is how a writer
has addresses withdrawn before it stops forwarding for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _agent_status, _applied
from ansible_collections.l4lb.xdp.plugins.module_utils._address import canonical, order
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import AppliedError
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._reader import few

NODE_FILE = "node.json"
STATES = ("announcing", "draining", "withdrawn")
PATIENCE = 10.0
"""Seconds in which the agent has to withdraw addresses."""

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
    path = state_dir / NODE_FILE
    content = _applied.load(path)
    if content is None:
        return NodeState()
    try:
        return _read(content)
    except (KeyError, TypeError, ValueError) as error:
        raise AppliedError(
            f"cannot use {path}: it is not a node's state ({error}): remove it (the node announces "
            "then) and set the state again with l4lb.xdp.node"
        ) from error


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
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Has the agent withdraw these addresses, and waits until it says so; returns whether there
    is an agent to ask. They stay withheld until `release`.

    The caller is the only writer and holds the lock: the agent must not wait for it. Raises
    WithdrawError after `patience` seconds; nothing is withheld then.
    """
    if not addresses or _agent_status.running(run_dir) is None:
        return False
    save(state_dir, replace(load(state_dir), withheld=tuple(addresses)))
    asked = clock()
    try:
        while left := _announced(addresses, run_dir, asked):
            if clock() - asked > patience:
                raise WithdrawError(_text(left, patience))
            sleep(_PAUSE)
    except BaseException:
        release(state_dir)
        raise
    return True


def _announced(addresses: Collection[str], run_dir: Path, asked: float) -> list[str]:
    """Those that may still be announced.

    A turn of the agent reads node.json when it begins and its status is written when it ends: one
    that was written since `asked` and has an address withdrawn says that it stays so, for every
    later turn begins after that.
    """
    status = _agent_status.read(run_dir)
    if status is None or float(status["written"]) <= asked:
        return list(addresses)
    announced = {a for a, each in status["addresses"].items() if each["announced"]}
    return [address for address in addresses if address in announced]


def _text(left: Collection[str], patience: float) -> str:
    return (
        f"nothing was changed: l4lb-agent did not withdraw {few(left)} within {patience:.0f} s, "
        "and packets for them would be lost. See `l4lb status`, journalctl -u l4lb-agent, and "
        "whether bird.service runs, then apply again; to go on without the agent, stop it first "
        "(systemctl stop l4lb-agent)"
    )


def _read(content: Any) -> NodeState:
    """The content of the file. Raises KeyError, TypeError or ValueError."""
    state = NodeState(content["state"], content["since"], tuple(content["withheld"]))
    if state.state not in STATES:
        raise ValueError(f"state {state.state!r}: one of {', '.join(STATES)}")
    if type(state.since) is not int or state.since < 0:
        raise ValueError(f"since {state.since!r}")
    for address in state.withheld:
        if address != canonical(address):
            raise ValueError(f"address {address!r} is to be written {canonical(address)}")
    return state
