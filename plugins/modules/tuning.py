#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: tuning
short_description: Queues, interrupts, hashing and offloads of a node's interfaces
version_added: 0.1.0
description:
  - Brings settings of NICs to what is wanted. What is not named is left as it is, and what was
    named before and is not any more is put back to what it was.
  - What an interface does not have is reported, one warning a setting, and everything else is done;
    see O(required). Virtual interfaces have little of it.
  - Of a bond the members are tuned.
  - Most drivers take the link down, for a moment or for seconds, when queues or rings change.
  - What was applied is remembered in O(state_dir), from where C(l4lb-tuning.service) brings it
    back at boot.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - pyroute2 >= 0.7.2 (on Debian, C(python3-pyroute2) with
    C(ansible_python_interpreter=/usr/bin/python3))
extends_documentation_fragment:
  - l4lb.xdp.attributes
  - l4lb.xdp.paths.state
options:
  state:
    description: V(absent) puts everything back to what it was before this module changed it.
    type: str
    choices: [present, absent]
    default: present
  interfaces:
    description: Interfaces to tune. Others that were tuned before are put back.
    type: list
    elements: str
    default: []
  required:
    description:
      - Whether to fail when a setting is not possible. What the driver tells beforehand is found
        before anything is changed.
    type: bool
    default: false
  cpus:
    description:
      - CPUs that packets are handled on, as in V(0-7,16). Empty is all that are online; those of
        the NIC's own memory node come first.
    type: str
    default: ""
  queues:
    description:
      - Receive queues. A number, or V(cpus) for one for each of O(cpus), as far as the driver has
        so many.
    type: str
    default: ""
  affinity:
    description:
      - Whether each queue's interrupts go to one CPU of O(cpus), the first queue's to the first.
      - irqbalance would move them again.
    type: bool
    default: false
  hash_fields:
    description:
      - What packets of TCP and UDP are spread over the queues by, in ethtool's letters. V(s) and
        V(d) are the addresses, V(f) and V(n) the ports, of source and destination.
    type: str
    default: ""
  hash_key:
    description:
      - What they are hashed with. Bytes in hexadecimal with colons are the key, any other text is
        what a key of the NIC's length is derived from. The same text gives the same hash on every
        node.
    type: str
    default: ""
  lro_off:
    description: Whether LRO and hardware GRO are switched off, which XDP does not go with.
    type: bool
    default: false
  ring_rx:
    description: Packets that a receive queue holds, a number or V(max).
    type: str
    default: ""
  ring_tx:
    description: Packets that a send queue holds, a number or V(max).
    type: str
    default: ""
  napi_defer_hard_irqs:
    description:
      - How many times a queue that was found empty is polled again, each after
        O(gro_flush_timeout), before its interrupt is switched on again.
    type: str
    default: ""
  gro_flush_timeout:
    description: Nanoseconds between these polls.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: A queue a CPU, hashed the same on every node, polled under load
  l4lb.xdp.tuning:
    interfaces: [enp1s0]
    queues: cpus
    affinity: true
    hash_fields: sdfn
    hash_key: one text for the fleet
    lro_off: true
    ring_rx: max
    napi_defer_hard_irqs: "2"
    gro_flush_timeout: "200000"

- name: Everything as it was
  l4lb.xdp.tuning:
    state: absent
"""

RETURN = r"""
tuning:
  description: Each setting that is asked for, or put back, of each interface.
  returned: success
  type: list
  elements: dict
  contains:
    interface:
      description: The interface, a bond's member where a bond was named.
      type: str
      sample: enp1s0
    setting:
      description: What it is about.
      type: str
      sample: ring_rx
    status:
      description: V(as wanted), V(changed) (in check mode, would be) or V(not possible).
      type: str
      sample: changed
    value:
      description: What it is now.
      type: str
      sample: "4096"
    why:
      description: Why it is not possible.
      type: str
      sample: ""
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._module import STATE, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._tuning import apply
from ansible_collections.l4lb.xdp.plugins.module_utils._tuning_settings import Tuning

WORDS = {
    "cpus": {"type": "str", "default": ""},
    "queues": {"type": "str", "default": ""},
    "affinity": {"type": "bool", "default": False},
    "hash_fields": {"type": "str", "default": ""},
    "hash_key": {"type": "str", "default": "", "no_log": True},
    "lro_off": {"type": "bool", "default": False},
    "ring_rx": {"type": "str", "default": ""},
    "ring_tx": {"type": "str", "default": ""},
    "napi_defer_hard_irqs": {"type": "str", "default": ""},
    "gro_flush_timeout": {"type": "str", "default": ""},
}
SPEC = {
    "state": {"choices": ["present", "absent"], "default": "present"},
    "interfaces": {"type": "list", "elements": "str", "default": []},
    "required": {"type": "bool", "default": False},
    **WORDS,
    **STATE,
}


def tune(module: AnsibleModule) -> Outcome:
    """Plans and, outside check mode, applies."""
    asked, state_dir = module.params, Path(module.params["state_dir"])
    if asked["state"] == "absent":
        return apply([], Tuning(), state_dir, dry=module.check_mode)
    tuning = Tuning(**{word: asked[word] for word in WORDS})
    return apply(
        asked["interfaces"], tuning, state_dir, required=asked["required"], dry=module.check_mode
    )


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    finish(module, lambda: tune(module), "interfaces")


if __name__ == "__main__":
    main()
