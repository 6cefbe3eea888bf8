#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: program
short_description: The XDP program of a node or of a real server
version_added: 0.1.0
description:
  - Compiles the program with bcc, proves it on packets that are nobody's, and attaches it to
    interfaces, replacing a former version of itself without a gap.
  - Maps are pinned and outlive the program, so flows and rings survive a replacement. Their sizes
    (O(ring_size), O(max_services), O(max_pools), O(max_backends), O(max_flows), O(max_deny),
    O(max_allow)) are only for O(name=balancer).
  - What was attached is remembered in O(state_dir), from where C(l4lb-restore.service) brings it
    back at boot.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - bcc (on Debian, C(python3-bpfcc) with C(ansible_python_interpreter=/usr/bin/python3))
  - pyroute2 >= 0.7.2 and netaddr
  - kernel headers under C(/lib/modules)
extends_documentation_fragment:
  - l4lb.xdp.attributes
  - l4lb.xdp.paths
  - l4lb.xdp.sizes
  - l4lb.xdp.paths.state
options:
  name:
    description:
      - V(balancer) is the program of a node, V(decap) the one of a real server whose kernel has no
        IP-in-IP tunnels.
    type: str
    choices: [balancer, decap]
    default: balancer
  state:
    description:
      - V(detached) also removes the pinned maps, and with them rings, flows and counters. Where an
        agent runs, it withdraws all service addresses first; while it does not, this fails and
        changes nothing.
    type: str
    choices: [attached, detached]
    default: attached
  interfaces:
    description: Interfaces whose packets the program sees.
    type: list
    elements: str
    required: true
  mode:
    description:
      - V(native) runs in the driver, V(generic) in the kernel's stack, slower but with every
        driver.
    type: str
    choices: [native, generic]
    default: native
  replace_foreign:
    description: Whether to replace an XDP program that is not of this collection.
    type: bool
    default: false
  hash_seed:
    description:
      - Seed of the flow hash, from V(0) to V(18446744073709551615). One for all nodes.
      - Only for O(name=balancer).
    type: int
    default: 0
  source_ipv4:
    description:
      - The node's address in outer IPv4 headers. Without it backends with IPv4 addresses get
        nothing.
      - Only for O(name=balancer).
    type: str
  source_ipv6:
    description:
      - The node's address in outer IPv6 headers. Without it backends with IPv6 addresses get
        nothing.
      - Only for O(name=balancer).
    type: str
  source_prefix_ipv4:
    description:
      - A prefix like V(198.18.0.0/20), of 8 to 31 bits, over which the sources of outer IPv4
        headers are spread by the flow's hash, so that routers and receive queues which know
        nothing but addresses spread a node's tunnels. Without it all have O(source_ipv4).
      - O(source_ipv4) is still what routes are looked up with, and what packets have that are left
        to the kernel.
      - Only for O(name=balancer).
    type: str
  source_prefix_ipv6:
    description:
      - As O(source_prefix_ipv4), of 96 to 127 bits.
      - Only for O(name=balancer).
    type: str
  other_ports:
    description:
      - What becomes of a packet to a service's address that is for none of its services, be it of
        another port or another protocol. With V(pass) the kernel gets it; a node that forwards and
        does not have the address itself would send it back to the router.
      - Only for O(name=balancer).
    type: str
    choices: [drop, pass]
    default: drop
  echo:
    description:
      - Who answers an echo request to a service's address. V(answer) is the node, V(forward) a
        backend of the address' first service (by protocol and port), V(pass) the node's kernel.
      - Only for O(name=balancer).
    type: str
    choices: [answer, forward, pass]
    default: answer
  gue_port:
    description:
      - UDP port of Generic UDP Encapsulation (C(forwarding=gue) of a pool). For O(name=balancer)
        the one that packets are sent to, for O(name=decap) the one at which they are taken, V(0)
        being none.
    type: int
    default: 6080
  new_records:
    description:
      - How many flows the flow tables take on in a second, on the whole node; V(0) is no limit. A
        flow above it is sent as one that is older than the last change of its slot.
      - Only for O(name=balancer).
    type: int
    default: 0
  addresses:
    description:
      - Addresses of the real server at which tunnels end, 64 at most. Only for O(name=decap).
    type: list
    elements: str
    default: []
  sources:
    description:
      - Addresses and prefixes from which tunnels are opened, those of the nodes; without any, from
        anywhere; 4,096 at most. What comes from elsewhere is left to the kernel as it is.
      - Only for O(name=decap).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Balance what comes in by eth0
  l4lb.xdp.program:
    interfaces: [eth0]
    hash_seed: 7220431
    source_ipv4: 192.0.2.11
    source_ipv6: 2001:db8:1::11

- name: Open tunnels on a real server
  l4lb.xdp.program:
    name: decap
    interfaces: [eth0]
    addresses: [192.0.2.71, "2001:db8:2::71"]
    sources: [192.0.2.11, 192.0.2.12, "2001:db8:1::/64"]

- name: Take the balancer off
  l4lb.xdp.program:
    interfaces: [eth0]
    state: detached
"""

RETURN = r"""
program:
  description: The program as it is attached now (in check mode, before the run).
  returned: success, except in check mode on a host that is not prepared yet
  type: dict
  contains:
    name:
      description: Name of the program.
      type: str
      sample: balancer
    tag:
      description: The kernel's tag of the compiled program, equal where the instructions are equal.
      type: str
      sample: 6ae9cc9f4a64a2b5
    mode:
      description: The mode asked for.
      type: str
      sample: native
    interfaces:
      description: What each interface runs.
      type: list
      elements: dict
      sample:
        - {interface: eth0, mode: native, program: balancer, tag: 6ae9cc9f4a64a2b5}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._apply import attach_program, detach_program
from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, SIZES, STATE, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import wanted_of

SPEC = {
    "name": {"choices": ["balancer", "decap"], "default": "balancer"},
    "state": {"choices": ["attached", "detached"], "default": "attached"},
    "interfaces": {"type": "list", "elements": "str", "required": True},
    "mode": {"choices": ["native", "generic"], "default": "native"},
    "replace_foreign": {"type": "bool", "default": False},
    "hash_seed": {"type": "int", "default": 0, "no_log": False},
    **SIZES,
    "source_ipv4": {"type": "str"},
    "source_ipv6": {"type": "str"},
    "source_prefix_ipv4": {"type": "str"},
    "source_prefix_ipv6": {"type": "str"},
    "other_ports": {"choices": ["drop", "pass"], "default": "drop"},
    "echo": {"choices": ["answer", "forward", "pass"], "default": "answer"},
    "gue_port": {"type": "int", "default": 6080},
    "new_records": {"type": "int", "default": 0},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "sources": {"type": "list", "elements": "str", "default": []},
    **PATHS,
    **STATE,
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    act = attach_program if module.params["state"] == "attached" else detach_program
    state_dir = Path(module.params["state_dir"])
    finish(
        module,
        lambda: act(wanted_of(module.params), state_dir, module.check_mode),
        f"XDP programs ({module.params['name']})",
    )


if __name__ == "__main__":
    main()
