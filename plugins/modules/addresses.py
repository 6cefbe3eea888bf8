#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: addresses
short_description: Service addresses on an interface of a real server
version_added: 0.1.0
description:
  - Puts the given addresses on an interface, as C(/32) and C(/128), and takes away those that this
    module put there before and that are not named any more.
  - Addresses that anybody else put on the interface are never removed.
  - What it put there is remembered in O(state_dir), from where C(l4lb-restore.service) puts it back
    at boot.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - pyroute2 >= 0.7.2 (on Debian, C(python3-pyroute2) with
    C(ansible_python_interpreter=/usr/bin/python3))
  - netaddr (on Debian, C(python3-netaddr))
extends_documentation_fragment:
  - l4lb.xdp.attributes
  - l4lb.xdp.paths.state
options:
  interface:
    description:
      - The interface that carries the addresses.
      - Every real server of a pool has the same service addresses, so it must be one that does not
        answer ARP or neighbour solicitations for them. The loopback interface is one.
    type: str
    default: lo
  addresses:
    description:
      - All the service addresses that belong on the interface, without prefix lengths.
    type: list
    elements: str
    required: true
  purge:
    description:
      - Whether to remove addresses that this module put on the interface before and that are not in
        O(addresses).
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Serve these addresses and no other
  l4lb.xdp.addresses:
    addresses:
      - 203.0.113.10
      - 2001:db8:100::10

- name: Serve one more and keep the others for now
  l4lb.xdp.addresses:
    addresses:
      - 203.0.113.20
    purge: false

- name: Serve none any more
  l4lb.xdp.addresses:
    addresses: []
"""

RETURN = r"""
addresses:
  description: Service addresses that are on the interface now (in check mode, would be).
  returned: success
  type: list
  elements: str
  sample: ["203.0.113.10", "2001:db8:100::10"]
added:
  description: Addresses that were put there by this run.
  returned: success
  type: list
  elements: str
  sample: ["203.0.113.10"]
removed:
  description: Addresses that were taken away by this run.
  returned: success
  type: list
  elements: str
  sample: []
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils import _links
from ansible_collections.l4lb.xdp.plugins.module_utils._lock import writer
from ansible_collections.l4lb.xdp.plugins.module_utils._module import STATE, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome, lacking

SPEC = {
    "interface": {"type": "str", "default": "lo"},
    "addresses": {"type": "list", "elements": "str", "required": True},
    "purge": {"type": "bool", "default": True},
    **STATE,
}


def bring(module: AnsibleModule) -> Outcome:
    """Plans and, outside check mode, applies."""
    wanted = module.params
    if module.check_mode and (why_not := lacking(_links.require_libraries)):
        new = sorted(wanted["addresses"])
        data = {"addresses": new, "added": new, "removed": []}
        return Outcome(True, after=new, data=data, warnings=[why_not])
    state_dir = wanted["state_dir"]
    with writer(Path(state_dir), "l4lb.xdp.addresses", module.check_mode) as waited:
        plan = _links.plan_addresses(
            wanted["interface"], wanted["addresses"], wanted["purge"], state_dir
        )
        if not module.check_mode:
            _links.apply_addresses(plan, state_dir)
    data = {"addresses": plan.after, "added": plan.add, "removed": plan.remove}
    return Outcome(plan.changed, list(plan.before), list(plan.after), data, warnings=waited)


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    finish(module, lambda: bring(module), f"{module.params['interface']} (service addresses)")


if __name__ == "__main__":
    main()
