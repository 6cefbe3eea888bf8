#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: services
short_description: The pools and services that a node balances
version_added: 0.1.0
description:
  - Makes the kernel of a node hold these pools, their backends and rings, and these services.
  - All mistakes are reported at once and before anything is written. An unchanged set writes
    nothing. What was written is read back.
  - A ring is replaced whole. Flows of living backends stay where they are; the diff and RV(plan)
    say which share of new flows goes elsewhere, and which share of the old ones breaks, before it
    happens in check mode.
  - What was applied is remembered in O(state_dir), from where C(l4lb-restore.service) brings it
    back at boot.
  - Where M(l4lb.xdp.backend) has set a state or weight, that stands until it is given back, the
    backend leaves inventory, or inventory says the same. A warning names it.
  - One module at a time writes to a node. A second one waits up to a minute and says for whom.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - bcc (on Debian, C(python3-bpfcc) with C(ansible_python_interpreter=/usr/bin/python3))
  - netaddr
  - a node prepared by M(l4lb.xdp.program)
extends_documentation_fragment:
  - l4lb.xdp.attributes
  - l4lb.xdp.paths
  - l4lb.xdp.paths.state
options:
  pools:
    description:
      - Pools by name. Each is a mapping with C(backends) (a list of C(address), C(weight) and
        C(state), which is C(active), C(draining) or C(disabled)), and as options C(algorithm)
        (C(maglev) or C(rendezvous)), C(identity) (C(five_tuple), C(without_source_port),
        C(source_address) or C(destination_port)), C(forwarding) (C(ipip), C(l2) or C(gue)),
        C(tracking) (C(adaptive), C(always) or C(never)), C(udp_transition) and C(settle) (seconds).
        For the agent there are C(health_check) (see docs/operations.md), C(minimum_healthy) (fewer
        healthy backends, and the services are withdrawn), C(all_down) (C(withdraw) or
        C(fail_open)), C(max_unhealthy) (per cent of backends that health takes out at once) and
        C(slow_start) (seconds).
      - A pool with C(quic), a mapping with C(server_id_length) (bytes, 1 to 8) and C(config_id) (0
        to 6, by default 0), sends UDP datagrams where their QUIC connection id says; then each
        backend has C(server_id), a number, or hexadecimal text like C(0x0a0b), that its server
        writes into its ids. See docs/steering.md.
      - C(identity) is what of a flow picks its backend. With C(forwarding=l2) packets get other MAC
        addresses and no outer header, for backends on the nodes' own links; with C(forwarding=gue)
        an outer UDP header as well.
      - A pool with C(state=absent) is removed.
      - Required unless O(state=settled).
    type: dict
  services:
    description:
      - Services, each a mapping with C(name), C(address), C(port) (C(0) is any), C(protocol)
        (C(tcp), C(udp) or C(sctp)) and C(pool), and as options C(allow) (prefixes of the clients
        that may come in; left out, all may) and C(new_flows) (how many connections may open a
        second on a node, by TCP SYN or SCTP INIT; V(0) is no limit).
      - One with C(state=absent) is removed; its C(name) says which, or, where it has none, its
        C(address), C(protocol) and C(port).
      - Required unless O(state=settled).
    type: list
    elements: dict
  deny:
    description:
      - Prefixes, of both families, from which no service takes a packet. The list is the whole one,
        whatever O(purge) says. An address alone is a prefix, too.
      - Without this option it stays as it is.
    type: list
    elements: str
  state:
    description:
      - With V(present) pools and services are brought to what is given.
      - With V(settled) nothing else changes than that slots whose change has been over for longer
        than their pool's C(settle) forget it, and need the flow table no longer. It breaks no flow
        that was seen within that time.
    type: str
    choices: [present, settled]
    default: present
  purge:
    description: Whether to remove pools and services that are not named here.
    type: bool
    default: false
  max_moved:
    description:
      - Refuse the change, before anything is written, when more than this share of new flows of any
        pool, or of any service that gets another pool, would go to another backend. In per cent.
      - Removing a pool or a service moves nothing.
    type: float
    default: 100
  steering:
    description:
      - Whether to tell in RV(plan.steering) by what nodes are compared, before and after.
      - It reads every ring, which takes some time where pools are many.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Balance one service over two real servers
  l4lb.xdp.services:
    pools:
      web:
        backends:
          - {address: 192.0.2.71, weight: 100}
          - {address: 192.0.2.72, weight: 50}
    services:
      - {name: web, address: 203.0.113.10, port: 80, protocol: tcp, pool: web}
    purge: true

- name: Add a service and remove another, leave the rest alone
  l4lb.xdp.services:
    pools: {}
    services:
      - {name: api, address: 203.0.113.11, port: 443, protocol: tcp, pool: web}
      - {name: old, state: absent}

- name: Change weights, but not if that moves more than a tenth of the flows
  l4lb.xdp.services:
    pools: "{{ l4lb_pools }}"
    services: "{{ l4lb_services }}"
    purge: true
    max_moved: 10

- name: Let nobody in from two networks
  l4lb.xdp.services:
    pools: {}
    services: []
    deny: [198.51.100.0/24, "2001:db8:bad::/48"]

- name: Let slots forget changes that are over
  l4lb.xdp.services:
    state: settled
"""

RETURN = r"""
plan:
  description: What the change does (in check mode, would do) to flows, and how much is written.
  returned: O(state=present)
  type: dict
  contains:
    pools:
      description:
        - Pools whose ring changes. In per cent, C(moved) is the share of new flows that go to
          another backend than before, C(unavoidable) and C(collateral) its parts, C(broken) the
          share of old flows that lose their backend.
      type: dict
      sample: {web: {moved: 33.34, unavoidable: 33.33, collateral: 0.01, broken: 0.0}}
    services:
      description:
        - The same for services that go from one pool to another; their flows meet another ring, so
          what moves breaks.
      type: dict
      sample: {api: {moved: 50.1, unavoidable: 50.0, collateral: 0.1, broken: 50.1}}
    summary:
      description: The same in words, a line for each pool and service of which flows move or break.
      type: list
      elements: str
      sample:
        - >-
          pool web: 33.34 % of new flows go elsewhere (33.33 % unavoidable, 0.01 % collateral),
          0.0 % of old flows break
    writes:
      description: How many entries of each kind are written or removed; empty when none is.
      type: dict
      sample: {rings: 1, pools: 1, backends: 1}
    holds:
      description: What the node holds afterwards.
      type: dict
      sample: {services: 3000, pools: 300, backends: 9000}
    overrides:
      description: What M(l4lb.xdp.backend) set and is not as given here.
      type: list
      elements: str
      sample: ["pool web backend 192.0.2.71: state draining (inventory is overridden)"]
    steering:
      description:
        - What M(l4lb.xdp.info) tells as C(steering), before the change and after it. Nodes whose
          values are equal send a new flow to the same backend.
      type: dict
      returned: with O(steering), on a node that was prepared by M(l4lb.xdp.program)
      sample:
        before: 7c1a9f3e5b2d4860a9c8e7f6d5b4a392
        after: 0d5b8f21c49e4a7db3c6e1a2908f7d54
served:
  description: Whether services were applied on the node before.
  returned: O(state=present)
  type: bool
leftovers:
  description: Whether pools or services stay that were not given, which O(purge=true) would remove.
  returned: O(state=present), on a node that was prepared by M(l4lb.xdp.program)
  type: bool
settled:
  description: Slots that need the flow table, by pool, before and after, for pools that had any.
  returned: O(state=settled)
  type: dict
  sample: {web: {before: 21845, after: 12, busy: 12}}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._apply import apply_services, has_services
from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, STATE, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._settle import settle_node

SPEC = {
    "pools": {"type": "dict"},
    "services": {"type": "list", "elements": "dict"},
    "deny": {"type": "list", "elements": "str"},
    "state": {"type": "str", "choices": ["present", "settled"], "default": "present"},
    "purge": {"type": "bool", "default": False},
    "max_moved": {"type": "float", "default": 100},
    "steering": {"type": "bool", "default": False},
    **PATHS,
    **STATE,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=SPEC,
        supports_check_mode=True,
        required_if=[("state", "present", ("pools", "services"))],
    )
    given = module.params
    paths = Path(given["pins"]), Path(given["source"]), Path(given["state_dir"])

    def work() -> Outcome:
        if given["state"] == "settled":
            return settle_node(*paths, module.check_mode)
        served = has_services(Path(given["pins"]), Path(given["state_dir"]))
        outcome = apply_services(
            given["pools"],
            given["services"],
            given["purge"],
            *paths,
            module.check_mode,
            given["max_moved"],
            compared=given["steering"],
            deny=given["deny"],
        )
        outcome.data["served"] = served
        return outcome

    finish(module, work, "pools and services")


if __name__ == "__main__":
    main()
