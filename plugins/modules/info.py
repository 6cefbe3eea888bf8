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
  - Reads program, pools, services, backends and counters from the kernel of a node.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - bcc (on Debian, C(python3-bpfcc) with C(ansible_python_interpreter=/usr/bin/python3))
  - pyroute2 >= 0.7.2 and netaddr
extends_documentation_fragment:
  - l4lb.xdp.attributes.info_module
  - l4lb.xdp.paths
"""

EXAMPLES = r"""
- name: Read what the node does
  l4lb.xdp.info:
  register: node

- name: Show how many packets each verdict got
  ansible.builtin.debug:
    var: node.verdicts
"""

RETURN = r"""
program:
  description: The balancer and the interfaces that run it.
  returned: success
  type: dict
  sample: {name: balancer, tag: 6ae9cc9f4a64a2b5, interfaces: [{interface: eth0, mode: native}]}
settings:
  description: The node's own settings and the sizes of its maps.
  returned: success
  type: dict
  sample: {hash_seed: 7220431, source_ipv4: 192.0.2.11, source_ipv6: "2001:db8:1::11"}
verdicts:
  description: Packets and bytes by verdict since the maps were made.
  returned: success
  type: dict
  sample: {sent: {packets: 12000, bytes: 960000}}
services:
  description: Services with their counters.
  returned: success
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
pools:
  description: Pools by name, with the number of slots that remember a former backend.
  returned: success
  type: dict
  sample: {web: {algorithm: maglev, forwarding: ipip, tracking: adaptive, tracked_slots: 0}}
backends:
  description: Backends with their counters.
  returned: success
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
fingerprint:
  description: Equal on nodes that balance alike, whatever their history.
  returned: success
  type: str
  sample: 0b5d2c1f8a6e4d7f9b3a1c5e7d9f2b4a
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._info import info
from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome


def main() -> None:
    module = AnsibleModule(argument_spec=PATHS, supports_check_mode=True)
    pins, source = Path(module.params["pins"]), Path(module.params["source"])
    finish(module, lambda: Outcome(False, data=info(pins, source)), "node")


if __name__ == "__main__":
    main()
