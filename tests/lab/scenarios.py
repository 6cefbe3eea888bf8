# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make chaos` breaks, and what has to come of it. Everything happens to node1 or real1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import breakage
from view import NODES, View

NODE, OTHER = NODES
REAL = "real1"
EVERYBODY = "*"

# The lab's health checks: fall 3, interval and timeout a second. Then an agent, which thinks twice
# a second, has to act, and BIRD to tell the router.
DETECT = 3 * 1 + 1
ACT = 1
# A pool with services at two addresses asks at them in turn: one that fails is asked later by this.
NEXT = 1
LEASE, WATCHDOG, START = 30, 12, 8


def nothing() -> None:
    """What mends itself."""


@dataclass(frozen=True)
class Scenario:
    """breaks, then noticed within so many seconds; mends, then everything is as it was.

    dead: the host whose connections nobody can save, or EVERYBODY. withdraws: whether the router
    may leave NODE. prepares: before the load begins. lossless: whether nothing may be lost at all.
    """

    title: str
    sign: str
    breaks: Callable[[], None]
    noticed: Callable[[View, View], bool]
    within: float
    mends: Callable[[], None] = nothing
    prepares: Callable[[], None] = nothing
    dead: str = ""
    withdraws: bool = False
    lossless: bool = False


def real_is_down(_before: View, now: View) -> bool:
    return now.is_down(REAL)


def node_is_left(_before: View, now: View) -> bool:
    return now.withdrawn(NODE) and now.announces(OTHER)


def all_is_withdrawn(_before: View, now: View) -> bool:
    return not any(now.routes.values())


def agent_is_back(before: View, now: View) -> bool:
    return now.fresh(NODE) and now.pid(NODE) not in (0, before.pid(NODE))


class Bird:
    """The router saw the node go, and saw it come back."""

    def __init__(self) -> None:
        self.gone = False

    def __call__(self, _before: View, now: View) -> bool:
        self.gone = self.gone or not now.announces(NODE)
        return self.gone and now.announces(NODE)


def backend(title: str, breaks: Callable[[str], None], mends: Callable[[str], None]) -> Scenario:
    return Scenario(
        title,
        "out of the rings of both nodes",
        partial(breaks, REAL),
        real_is_down,
        DETECT + ACT,
        partial(mends, REAL),
        dead=REAL,
    )


def scenarios() -> dict[str, Scenario]:
    servers = breakage.backends()
    return {
        "process_dead": backend(
            "a real server's processes die", breakage.kill_servers, breakage.start_servers
        ),
        "host_dead": backend(
            "a real server falls silent (its cable is pulled)",
            lambda host: breakage.plug(host, "down"),
            lambda host: breakage.plug(host, "up"),
        ),
        "address_missing": backend(
            "the service addresses are gone from its loopback",
            breakage.lose_addresses,
            breakage.restore,
        ),
        "decap_down": backend(
            "its decapsulation is off",
            breakage.stop_decapsulation,
            breakage.start_decapsulation,
        ),
        "rp_filter_strict": Scenario(
            "its rp_filter is strict, and answers leave by another interface",
            "out of the rings of both nodes",
            partial(breakage.filter_strictly, REAL),
            real_is_down,
            DETECT + NEXT + ACT,
            partial(breakage.remove_second_way, REAL),
            partial(breakage.add_second_way, REAL),
            dead=REAL,
        ),
        "all_down": Scenario(
            "all backends of all pools die",
            "all addresses withdrawn by both nodes",
            partial(breakage.kill_servers, *servers),
            all_is_withdrawn,
            DETECT + ACT,
            partial(breakage.start_servers, *servers),
            dead=EVERYBODY,
            withdraws=True,
        ),
        "agent_killed": Scenario(
            "a node's agent is killed (SIGKILL)",
            "another agent at work",
            partial(breakage.signal_agent, NODE, "KILL"),
            agent_is_back,
            START,
            lossless=True,
        ),
        "agent_hangs": Scenario(
            "it hangs (SIGSTOP)",
            "killed by the watchdog, another at work before the lease ends",
            partial(breakage.signal_agent, NODE, "STOP"),
            agent_is_back,
            WATCHDOG + START,
            partial(breakage.signal_agent, NODE, "CONT"),
            lossless=True,
        ),
        "agent_restarted": Scenario(
            "it is restarted",
            "another at work",
            partial(breakage.systemctl, NODE, "restart", breakage.AGENT),
            agent_is_back,
            START,
            lossless=True,
        ),
        "agent_stopped": Scenario(
            f"it is stopped, for longer than the lease ({LEASE} s)",
            "the node withdrawn by the lease",
            partial(breakage.systemctl, NODE, "stop", breakage.AGENT),
            node_is_left,
            LEASE + 2,
            partial(breakage.start_agent, NODE),
            withdraws=True,
            lossless=True,
        ),
        "bird_killed": Scenario(
            "a node's BIRD is killed (SIGKILL)",
            "its announcements gone and back",
            partial(breakage.systemctl, NODE, "kill", "--signal=KILL", "bird.service"),
            Bird(),
            10,
            withdraws=True,
            lossless=True,
        ),
        "bird_restarted": Scenario(
            "its BIRD is restarted",
            "its announcements gone and back",
            partial(breakage.systemctl, NODE, "restart", "bird.service"),
            Bird(),
            10,
            withdraws=True,
            lossless=True,
        ),
        "program_detached": Scenario(
            "a node's XDP program is detached by hand; Ansible attaches it",
            "the node withdrawn",
            partial(breakage.detach_program, NODE),
            node_is_left,
            2,
            partial(breakage.run_site, NODE),
            withdraws=True,
        ),
        "node_drained": Scenario(
            "a node is drained by `l4lb.xdp.node` with `wait`, and returned",
            "the router prefers the other",
            partial(breakage.set_node, NODE, "draining"),
            node_is_left,
            60,
            partial(breakage.set_node, NODE, "announcing"),
            withdraws=True,
            lossless=True,
        ),
    }
