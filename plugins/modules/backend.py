#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: backend
short_description: One backend's admin state and weight, and waiting until nothing uses it
version_added: 0.1.0
description:
  - Sets the state or the weight of one backend on a node, over what inventory says, for use in the
    deployment of an application. Run it on every node, with C(delegate_to).
  - "Who wins: what is set here is an override, remembered in O(state_dir). It wins over inventory,
    in every later run of M(l4lb.xdp.services) and when the node is restored at boot, until it is
    given back (O(state=inventory)), the backend leaves inventory, or inventory says the same. So
    O(state=active) on a backend that inventory has active leaves no override behind. State and
    weight are judged each on its own."
  - Only the rings of the pools that have the backend change. Flows of a draining backend stay on
    it, those of a disabled one go elsewhere at once.
  - When the last backend of a pool that gets new flows is drained or disabled, new flows are
    dropped, and the module warns.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - bcc (on Debian, C(python3-bpfcc) with C(ansible_python_interpreter=/usr/bin/python3))
  - netaddr
  - a node with pools and services by M(l4lb.xdp.services)
extends_documentation_fragment:
  - l4lb.xdp.attributes
  - l4lb.xdp.paths
  - l4lb.xdp.paths.state
options:
  address:
    description: The backend's address.
    type: str
    required: true
  pool:
    description: The pool that it is in; without this, every pool that has the address.
    type: str
  state:
    description:
      - V(active) gets new flows.
      - V(draining) keeps the flows it has and gets no new ones.
      - V(disabled) gets nothing, its flows break.
      - V(inventory) is what inventory says, and gives back a weight that was set, too, unless
        O(weight) sets one.
      - One of O(state) and O(weight) is required.
    type: str
    choices: [active, draining, disabled, inventory]
  weight:
    description: Share of new flows, relative to the other backends of the pool, from 1 to 1000.
    type: int
  wait:
    description:
      - V(none) returns when the change is made.
      - V(flows) waits until no flow uses the backend any more. A flow that is silent is not seen,
        so the backend counts as quiet when for O(idle) seconds it was sent no packet, no flow seen
        within that time is recorded on it, and the pool's C(udp_transition) is over if it serves
        UDP. That takes O(idle) seconds at least. The node can be changed by others meanwhile.
      - V(seconds) waits O(timeout) seconds, whatever the flows do.
      - In a loop over nodes the waits follow one another, on nodes where it was quiet long before,
        too. A play over the nodes waits on all at the same time.
      - Waiting is for a backend that is then draining. A disabled one has no flows, and is not
        waited for; an active one is refused. In check mode nothing is waited for.
    type: str
    choices: [none, flows, seconds]
    default: none
  timeout:
    description: Seconds to wait at most. For O(wait=flows) at least O(idle).
    type: int
    default: 300
  idle:
    description: Seconds without a packet after which a flow counts as ended.
    type: int
    default: 60
  fail_on_timeout:
    description: Whether to fail when O(wait=flows) has not come true in time, not only to warn.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Deploy the application, one real server at a time
  hosts: l4lb_real_servers
  serial: 1
  any_errors_fatal: true
  tasks:
    - name: Let its connections end, on every node
      l4lb.xdp.backend:
        address: "{{ ansible_host }}"
        state: draining
      delegate_to: "{{ node }}"
      loop: "{{ groups['l4lb_nodes'] }}"
      loop_control:
        loop_var: node

    - name: Wait until it has none, ten minutes at most
      l4lb.xdp.backend:
        address: "{{ ansible_host }}"
        state: draining
        wait: flows
        timeout: 600
      delegate_to: "{{ node }}"
      loop: "{{ groups['l4lb_nodes'] }}"
      loop_control:
        loop_var: node

    - name: Deploy
      ansible.builtin.package:
        name: "shop={{ shop_version }}"
        state: present

    # Where this is not reached, because the deployment failed, the real server stays drained.
    - name: Give it new connections again, as inventory says
      l4lb.xdp.backend:
        address: "{{ ansible_host }}"
        state: inventory
      delegate_to: "{{ node }}"
      loop: "{{ groups['l4lb_nodes'] }}"
      loop_control:
        loop_var: node

- name: Drain a real server for its repair, all nodes waiting at the same time
  hosts: l4lb_nodes
  tasks:
    - name: Drain
      l4lb.xdp.backend:
        address: 192.0.2.71
        state: draining
        wait: flows
        timeout: 3600
        fail_on_timeout: true

- name: What else it is good for
  hosts: l4lb_nodes
  tasks:
    - name: Give a new version a tenth of the usual share, in one pool
      l4lb.xdp.backend:
        address: 192.0.2.71
        pool: web
        weight: 10

    - name: Take a broken real server out at once
      l4lb.xdp.backend:
        address: 192.0.2.72
        state: disabled
"""

RETURN = r"""
backend:
  description: The backend in each pool, as it is now (in check mode, would be).
  returned: success
  type: list
  elements: dict
  contains:
    pool:
      description: The pool's name.
      type: str
    address:
      description: The backend's address.
      type: str
    state:
      description: Its admin state.
      type: str
    weight:
      description: Its weight.
      type: int
    overridden:
      description: Whether state or weight stand in place of inventory's.
      type: bool
    inventory:
      description: State and weight that inventory, as last applied, has.
      type: dict
  sample:
    - pool: web
      address: 192.0.2.71
      state: draining
      weight: 100
      overridden: true
      inventory: {state: active, weight: 100}
plan:
  description: What the change does (in check mode, would do) to flows.
  returned: success
  type: dict
  contains:
    pools:
      description:
        - Pools whose ring changes. In per cent, C(moved) is the share of new flows that go to
          another backend than before, C(unavoidable) and C(collateral) its parts, C(broken) the
          share of old flows that lose their backend, at most.
      type: dict
      sample: {web: {moved: 33.34, unavoidable: 33.33, collateral: 0.01, broken: 0.0}}
wait:
  description: What the waiting came to.
  returned: when something was to be waited for, also when that fails
  type: dict
  contains:
    reached:
      description: Whether what was waited for came true before the deadline.
      type: bool
    waited_seconds:
      description: How long it took.
      type: float
    flows:
      description: Flows seen within the last O(idle) seconds that are left.
      type: int
    packets:
      description: Packets that the backend was sent meanwhile.
      type: int
  sample: {reached: true, waited_seconds: 84.2, flows: 0, packets: 5120}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._backend import Request, apply_backend
from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, STATE, finish

SPEC = {
    "address": {"type": "str", "required": True},
    "pool": {"type": "str"},
    "state": {"type": "str", "choices": ["active", "draining", "disabled", "inventory"]},
    "weight": {"type": "int"},
    "wait": {"type": "str", "choices": ["none", "flows", "seconds"], "default": "none"},
    "timeout": {"type": "int", "default": 300},
    "idle": {"type": "int", "default": 60},
    "fail_on_timeout": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={**SPEC, **PATHS, **STATE},
        required_one_of=[("state", "weight")],
        supports_check_mode=True,
    )
    given = module.params
    finish(
        module,
        lambda: apply_backend(
            Request(**{key: given[key] for key in SPEC}),
            Path(given["pins"]),
            Path(given["source"]),
            Path(given["state_dir"]),
            module.check_mode,
        ),
        f"backend {given['address']}",
    )


if __name__ == "__main__":
    main()
