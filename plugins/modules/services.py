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
    nothing.
  - A ring is replaced whole. Flows of living backends stay where they are; the diff says which
    share of new flows goes elsewhere, and which share of the old ones breaks.
  - What was applied is remembered in O(state_dir), from where C(l4lb-restore.service) brings it
    back at boot.
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
        (C(maglev) or C(rendezvous)), C(forwarding) (C(ipip)), C(tracking) (C(adaptive), C(always)
        or C(never)), C(udp_transition) and C(settle) (seconds), C(minimum_healthy),
        C(health_check).
    type: dict
    required: true
  services:
    description:
      - Services, each a mapping with C(name), C(address), C(port) (C(0) is any), C(protocol)
        (C(tcp) or C(udp)) and C(pool).
    type: list
    elements: dict
    required: true
  purge:
    description: Whether to remove pools and services that are not named here.
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
"""

RETURN = r"""
plan:
  description: What the change does (in check mode, would do) to flows.
  returned: success
  type: dict
  contains:
    pools:
      description:
        - Pools whose ring changes. In per cent, C(moved) is the share of new flows that go to
          another backend than before, C(unavoidable) and C(collateral) its parts, C(broken) the
          share of old flows whose backend is gone.
      type: dict
      sample: {web: {moved: 33.34, unavoidable: 33.33, collateral: 0.01, broken: 0.0}}
    services:
      description: How many services there are.
      type: int
      sample: 4
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._apply import apply_services
from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, STATE, finish

SPEC = {
    "pools": {"type": "dict", "required": True},
    "services": {"type": "list", "elements": "dict", "required": True},
    "purge": {"type": "bool", "default": False},
    **PATHS,
    **STATE,
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    given = module.params
    finish(
        module,
        lambda: apply_services(
            given["pools"],
            given["services"],
            given["purge"],
            Path(given["pins"]),
            Path(given["source"]),
            Path(given["state_dir"]),
            module.check_mode,
        ),
        "pools and services",
    )


if __name__ == "__main__":
    main()
