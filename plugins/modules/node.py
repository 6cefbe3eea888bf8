#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: Whether a node announces its services, drains or is withdrawn
version_added: 0.1.0
description:
  - Tells the agent of a node what to announce, waits until that is so, and reports what the node
    announces and why not the rest. What is set here outlives a restart of the agent and a reboot,
    until it is set otherwise.
  - The agent (role P(l4lb.xdp.agent#role)) does it; while none runs the state is only written, and
    O(wait) fails.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - bcc, to wait for traffic (on Debian, C(python3-bpfcc) with
    C(ansible_python_interpreter=/usr/bin/python3))
extends_documentation_fragment:
  - l4lb.xdp.attributes
  - l4lb.xdp.paths
  - l4lb.xdp.paths.state
options:
  state:
    description:
      - V(announcing) announces every service address that is proven to work here.
      - V(draining) announces them with the community of a graceful shutdown (RFC 8326), or with a
        longer path (C(bird_draining)), so that routers prefer other nodes. Packets that still come
        are forwarded; the sessions stay up.
      - V(withdrawn) announces nothing. Packets that still come are forwarded.
      - Without this the module only reports.
    type: str
    choices: [announcing, draining, withdrawn]
  wait:
    description:
      - Whether to wait until it is so. For V(announcing), until every service address is announced,
        but for those that lack nothing except healthy backends, of which a warning tells; for the
        others, until the agent has told BIRD and fewer than O(threshold) packets a second were
        forwarded for O(quiet) seconds. In check mode nothing is waited for.
    type: bool
    default: false
  timeout:
    description: Seconds to wait at most.
    type: int
    default: 300
  threshold:
    description: Packets a second below which the node counts as quiet; proofs do not count.
    type: float
    default: 10
  quiet:
    description: Seconds for which it has to be quiet.
    type: int
    default: 5
  fail_on_timeout:
    description: Whether to fail when it has not come true in time, not only to warn.
    type: bool
    default: true
  run_dir:
    description: Directory where the agent says what it does.
    type: path
    default: /run/l4lb/agent
"""

EXAMPLES = r"""
- name: Work on a node, without a packet lost
  hosts: l4lb_nodes
  serial: 1
  any_errors_fatal: true
  tasks:
    - name: Let its traffic go elsewhere
      l4lb.xdp.node:
        state: draining
        wait: true

    - name: Take it out
      l4lb.xdp.node:
        state: withdrawn

    - name: Work on it
      ansible.builtin.reboot:

    - name: Bring it back, and go on only when it announces everything
      l4lb.xdp.node:
        state: announcing
        wait: true
        timeout: 60

- name: What nodes announce, and why not the rest
  hosts: l4lb_nodes
  tasks:
    - name: Ask
      l4lb.xdp.node:
      register: asked

    - name: Show
      ansible.builtin.debug:
        var: asked.node
"""

RETURN = r"""
node:
  description: The node as its agent sees it.
  returned: always
  type: dict
  contains:
    state:
      description: The state that was asked for last.
      type: str
    agent:
      description: Whether an agent is at work.
      type: bool
    reasons:
      description: Why the node as a whole announces nothing.
      type: list
      elements: str
    announced:
      description: Service addresses that BIRD exports.
      type: list
      elements: str
    withheld:
      description: Why each of the others is not announced.
      type: dict
    problems:
      description: What the agent could not do in its last turn.
      type: list
      elements: str
  sample:
    state: announcing
    agent: true
    reasons: []
    announced: [203.0.113.10]
    withheld:
      203.0.113.20: ["0 of 2 backends of pool api are healthy, 1 are needed (minimum_healthy)"]
    problems: []
wait:
  description: What the waiting came to.
  returned: with O(wait)
  type: dict
  contains:
    reached:
      description: Whether it came true before the deadline.
      type: bool
    waited_seconds:
      description: How long it took.
      type: float
    packets_per_second:
      description: What the node still forwarded at the end.
      type: float
  sample: {reached: true, waited_seconds: 7.5, packets_per_second: 0.0}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._agent_status import RUN_DIR
from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, STATE, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._node import Places, Request, apply_node

SPEC = {
    "state": {"type": "str", "choices": ["announcing", "draining", "withdrawn"]},
    "wait": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 300},
    "threshold": {"type": "float", "default": 10},
    "quiet": {"type": "int", "default": 5},
    "fail_on_timeout": {"type": "bool", "default": True},
}
RUN = {"run_dir": {"type": "path", "default": RUN_DIR}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={**SPEC, **RUN, **PATHS, **STATE}, supports_check_mode=True
    )
    given = module.params
    places = Places(*(Path(given[key]) for key in ("state_dir", "run_dir", "pins", "source")))
    request = Request(**{key: given[key] for key in SPEC})
    finish(module, lambda: apply_node(request, places, module.check_mode), "node")


if __name__ == "__main__":
    main()
