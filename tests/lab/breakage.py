# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong in the lab, and how it is put right again. Each mending may come twice."""

from __future__ import annotations

import fleet
import inside
from common import CHECKOUT
from network import index_of
from network import inside as namespace
from topology import ROUTER, SEGMENTS, of_kind

INVENTORY = CHECKOUT / "inventories/lab"
SERVERS = ("nginx.service", "lab-udp-echo.service")
AGENT = "l4lb-agent.service"
REAL = SEGMENTS["real"]
# A second way out for a real server, on the same wire: with it loose and strict filtering differ.
SECOND_WAY = "second"
SECOND_ADDRESS = f"192.0.2.81/{REAL.length4}"


def systemctl(host: str, *words: str) -> None:
    inside.do(host, "systemctl", *words)


# --- backends ---


def kill_servers(*hosts: str) -> None:
    for host in hosts:
        systemctl(host, "kill", "--signal=KILL", *SERVERS)


def start_servers(*hosts: str) -> None:
    for host in hosts:
        systemctl(host, "start", *SERVERS)


def plug(host: str, state: str) -> None:
    """Pull a host's cable, or put it back: nothing goes in or out, nobody says a word."""
    with namespace(ROUTER) as ipr:
        ipr.link("set", index=index_of(ipr, host), state=state)


def lose_addresses(host: str) -> None:
    inside.shell(
        host,
        "ip -oneline address show dev lo scope global | while read -r _ _ _ address _; do",
        '  ip address delete "$address" dev lo',
        "done",
    )


def restore(host: str) -> None:
    """What a boot would do: programs, addresses, from what Ansible last applied."""
    systemctl(host, "restart", "l4lb-restore.service")


def stop_decapsulation(host: str) -> None:
    """The program off its interface; where the kernel's tunnels are used, their devices down."""
    inside.shell(
        host,
        "if ip link show dev eth0 | grep -q xdp; then",
        "  ip link set dev eth0 xdp off",
        "else",
        "  ip link set dev l4lb4 down; ip link set dev l4lb6 down",
        "fi",
    )


def start_decapsulation(host: str) -> None:
    inside.shell(
        host,
        "if ip link show dev l4lb4 > /dev/null 2>&1; then",
        "  ip link set dev l4lb4 up; ip link set dev l4lb6 up",
        "fi",
    )
    restore(host)


def add_second_way(host: str) -> None:
    """Answers leave by another interface than packets come in by. Loose filtering lets them."""
    inside.shell(
        host,
        f"ip link add link eth0 name {SECOND_WAY} type macvlan mode bridge",
        f"ip link set dev {SECOND_WAY} mtu {REAL.mtu} up",
        f"ip address add {SECOND_ADDRESS} dev {SECOND_WAY} noprefixroute",
        f"ip route replace default via {REAL.gateway4} dev {SECOND_WAY} onlink",
    )


def filter_strictly(host: str) -> None:
    inside.do(host, "sysctl", "--quiet", "--write", "net.ipv4.conf.eth0.rp_filter=1")


def remove_second_way(host: str) -> None:
    inside.shell(
        host,
        "sysctl --quiet --write net.ipv4.conf.eth0.rp_filter=2",
        f"ip route replace default via {REAL.gateway4} dev eth0",
        f"ip link delete dev {SECOND_WAY} 2> /dev/null || true",
    )


# --- nodes ---


def signal_agent(node: str, name: str) -> None:
    systemctl(node, "kill", f"--signal={name}", AGENT)


def start_agent(node: str) -> None:
    systemctl(node, "start", AGENT)


def detach_program(node: str) -> None:
    inside.do(node, "ip", "link", "set", "dev", "eth0", "xdp", "off")


def run_site(node: str) -> None:
    """What an operator does who does not know what is wrong."""
    fleet.ansible("ansible-playbook", "-i", str(INVENTORY), "playbooks/site.yml", "--limit", node)


def plug_mtu(node: str, mtu: int) -> None:
    inside.do(node, "ip", "link", "set", "dev", "eth0", "mtu", str(mtu))


def set_node(node: str, state: str) -> None:
    arguments = f"state={state} wait=true timeout=60"
    fleet.ansible("ansible", "-i", str(INVENTORY), node, "-m", "l4lb.xdp.node", "-a", arguments)


def backends() -> tuple[str, ...]:
    """The real servers that pools name."""
    pools = fleet.read_inventory(INVENTORY).pools.values()
    named = {fleet.host_of(each["address"]) for pool in pools for each in pool["backends"]}
    return tuple(host.name for host in of_kind("real_server") if host.name in named)
