#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: info
short_description: What a node balances, and what it has counted
version_added: 0.1.0
description:
  - Reads program, pools, services, backends, counters, flow tables and memory from the kernel of a
    node, and says by one value whether nodes balance alike.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - bcc (on Debian, C(python3-bpfcc) with C(ansible_python_interpreter=/usr/bin/python3))
  - pyroute2 >= 0.7.2 and netaddr
extends_documentation_fragment:
  - l4lb.xdp.attributes.info_module
  - l4lb.xdp.paths
options:
  gather:
    description:
      - What to read and return. With many services the whole is long, and to compare nodes
        V(fingerprint) is enough.
      - Without this option all of it.
    type: list
    elements: str
    choices:
      - program
      - settings
      - verdicts
      - services
      - pools
      - backends
      - flow_tables
      - guards
      - memory
      - steering
      - fingerprint
"""

EXAMPLES = r"""
- name: Read what the node does
  l4lb.xdp.info:
  register: node

- name: Show how many packets each verdict got
  ansible.builtin.debug:
    var: node.verdicts

- name: Read by what nodes are compared
  l4lb.xdp.info:
    gather: [fingerprint]
  register: node

- name: All nodes balance alike
  ansible.builtin.assert:
    that: fingerprints | unique | length == 1
  vars:
    fingerprints: >-
      {{ ansible_play_hosts | map('extract', hostvars) | map(attribute='node.fingerprint') }}
  run_once: true
"""

RETURN = r"""
program:
  description:
    - The balancer and the interfaces that run it. C(tag) is the kernel's name for its instructions,
      C(since) when it took over, C(version) the collection's release that answers here.
  returned: unless O(gather) leaves it out
  type: dict
  sample:
    name: balancer
    version: 0.1.0
    tag: 6ae9cc9f4a64a2b5
    since: "2026-01-31T10:15:00+00:00"
    interfaces: [{interface: eth0, mode: native}]
settings:
  description: The node's own settings, the version of the maps' layout and their sizes.
  returned: unless O(gather) leaves it out
  type: dict
  sample:
    hash_seed: 7220431
    source_ipv4: 192.0.2.11
    source_ipv6: "2001:db8:1::11"
    source_prefix_ipv4: 198.18.0.0/20
    source_prefix_ipv6: null
    other_ports: drop
    echo: answer
    gue_port: 6080
    schema_version: 4
    sizes: {ring: 65537, services: 4096, pools: 512, backends: 16384, flows: 1000000}
verdicts:
  description: Packets and bytes by verdict since the maps were made.
  returned: unless O(gather) leaves it out
  type: dict
  sample: {sent: {packets: 12000, bytes: 960000}}
services:
  description:
    - Services with their counters. C(opens) are those of the packets that open a connection.
      C(not_allowed) and C(limited) are packets that the service's guards dropped.
  returned: unless O(gather) leaves it out
  type: list
  elements: dict
  sample:
    - name: web
      address: 203.0.113.10
      port: 80
      protocol: tcp
      pool: web
      packets: 900
      bytes: 72000
      opens: 80
      not_allowed: 0
      limited: 0
pools:
  description:
    - Pools by name. C(backends) counts them by state, C(tracked_slots) are those that changed and
      have not settled, C(remembering_slots) those of them in which old flows still have their
      former backend. Times are seconds. A pool with C(quic) has that too, and in it as C(packets)
      what became of its UDP datagrams; its backends have their C(server_id).
  returned: unless O(gather) leaves it out
  type: dict
  sample:
    web:
      algorithm: maglev
      identity: five_tuple
      forwarding: ipip
      tracking: adaptive
      udp_transition: 60
      settle: 3600
      backends: {active: 3, draining: 1, disabled: 0}
      tracked_slots: 16384
      remembering_slots: 16384
backends:
  description: Backends with their counters.
  returned: unless O(gather) leaves it out
  type: list
  elements: dict
  sample:
    - pool: web
      address: 192.0.2.71
      weight: 100
      state: active
      health: up
      packets: 600
      bytes: 48000
flow_tables:
  description: How many flows are recorded, and for how many there is room.
  returned: unless O(gather) leaves it out
  type: dict
  sample: {ipv4: {entries: 1200, size: 1000000}, ipv6: {entries: 0, size: 1000000}}
guards:
  description:
    - How many prefixes are denied, with a value by which lists are told apart, and allowed by
      services, and the limits of new flows, for services that have any. C(unrecorded) are packets
      whose flow was not recorded, because new_records of M(l4lb.xdp.program) had been.
  returned: unless O(gather) leaves it out
  type: dict
  sample:
    deny: {prefixes: 2, digest: 6b1d0f5c9a3e7d2484c1f0b9a8e7d6c5}
    services: {web: {new_flows: 10000, allow: 0}}
    unrecorded: 0
memory:
  description: Bytes of the kernel's memory in the maps, by its own account; C(rings) are all rings.
  returned: unless O(gather) leaves it out
  type: dict
  sample: {bytes: 217000000, maps: {flows4: 96000000, flows6: 120000000, rings: 528704}}
steering:
  description:
    - One value over hash seed, ring size, the services with their pools, and the backends, by
      address, of every slot of every ring. Equal on nodes that send a new flow to the same backend,
      whatever their history and their program.
  returned: unless O(gather) leaves it out
  type: str
  sample: 7c1a9f3e5b2d4860a9c8e7f6d5b4a392
fingerprint:
  description:
    - One value over V(steering), version of the maps' layout and the tag of the program. Equal on
      nodes that balance alike.
  returned: unless O(gather) leaves it out
  type: str
  sample: 0b5d2c1f8a6e4d7f9b3a1c5e7d9f2b4a
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._info import PARTS, info
from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome

SPEC = {"gather": {"type": "list", "elements": "str", "choices": list(PARTS)}, **PATHS}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    pins, source = Path(module.params["pins"]), Path(module.params["source"])
    gather = module.params["gather"]
    finish(module, lambda: Outcome(False, data=info(pins, source, gather)), "node")


if __name__ == "__main__":
    main()
