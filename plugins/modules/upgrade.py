#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade
short_description: Another release's program for a running node, with proof, and the way back
version_added: 0.1.0
description:
  - Compiles the new release's program beside the running one on the same maps, runs golden packets
    made from the node's services through both, and refuses when they treat one differently.
  - Then replaces the program on all interfaces without a gap, and watches the counters of verdicts.
    When packets fare worse than before, the old program is put back at once and the module fails.
  - V(state=rolled_back) puts the previous program back, from its pin, or after a reboot from the
    sources of the release that was kept.
  - Killed at any point it leaves the old program or the new one on every interface, and says in
    O(state_dir) how far it came; the next run finishes the watch or puts the old program back
    first.
  - It replaces the program only. The release's other files are installed afterwards by the playbook
    C(l4lb.xdp.upgrade), or brought back by C(l4lb.xdp.rollback).
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - bcc (on Debian, C(python3-bpfcc) with C(ansible_python_interpreter=/usr/bin/python3))
  - pyroute2 >= 0.7.2 and netaddr
  - kernel headers under C(/lib/modules)
notes:
  - Golden packets are counted under their verdicts, services and backends, three times each, also
    in check mode. The records of flows and fragments that they leave are removed.
  - Another layout or other sizes of the maps cannot be put in place of running ones. That is found
    before anything changes; the error says what to do.
extends_documentation_fragment:
  - l4lb.xdp.attributes
  - l4lb.xdp.paths
  - l4lb.xdp.paths.state
options:
  state:
    description: Which program is to run in the end.
    type: str
    choices: [upgraded, rolled_back]
    default: upgraded
  candidate:
    description: Directory of the new release's C sources. Required for V(state=upgraded).
    type: path
  expect:
    description:
      - >-
        Differences that are meant. A kind of golden packets (for instance V(echo)), a pair of XDP
        verdicts (V(drop -> pass)), or both (V(echo: drop -> tx)).
      - The kinds are V(ack), V(syn), V(syn, ack), V(fin), V(udp), V(init), V(sctp), V(options),
        V(vlan), V(full size), V(fragments), V(icmp error), V(echo), V(neighbour solicitation),
        V(lone fragment), V(lone icmp error), V(unserved port), V(unserved protocol), V(denied),
        V(not allowed), V(malformed), V(foreign); the verdicts V(aborted), V(drop), V(pass), V(tx),
        V(redirect).
    type: list
    elements: str
    default: []
  accept_differences:
    description: Whether to go on whatever golden packets differ. They are reported all the same.
    type: bool
    default: false
  services:
    description: How many services golden packets are made for at most, spread over the pools.
    type: int
    default: 64
  flows:
    description: How many flows of each of them, and as many more in slots that remember a change.
    type: int
    default: 4
  baseline:
    description: Seconds for which verdicts are counted before the replacement, to compare with.
    type: int
    default: 10
  watch:
    description: Seconds for which they are counted after it.
    type: int
    default: 30
  max_drops:
    description:
      - By how many percentage points the share of each verdict V(drop_*) in the packets to services
        may rise.
    type: float
    default: 0.5
  max_to_kernel:
    description:
      - The same for V(to_kernel). And how much of all packets may go by as V(pass_foreign) that, by
        the rates before, would have been to services.
    type: float
    default: 5.0
  library:
    description:
      - Directory of the modules' library; with O(source) it tells which release is in place.
    type: path
    default: /usr/lib/l4lb/python
  releases:
    description: Directory where the previous release is kept, for V(state=rolled_back).
    type: path
    default: /usr/lib/l4lb/releases
"""

EXAMPLES = r"""
- name: Prove the new program, put it in place, and take it back when drops rise
  l4lb.xdp.upgrade:
    candidate: /usr/lib/l4lb/candidate
    watch: 60

- name: A release that answers what the former one dropped
  l4lb.xdp.upgrade:
    candidate: /usr/lib/l4lb/candidate
    expect: ["echo: drop -> tx"]

- name: Back to the program before
  l4lb.xdp.upgrade:
    state: rolled_back
"""

RETURN = r"""
upgrade:
  description: What was proven; also when it was refused or taken back.
  returned: with V(state=upgraded), except in check mode on a host that is not prepared yet
  type: dict
  contains:
    old:
      description: The tag of the program that ran before.
      type: str
    new:
      description: The tag of the new one.
      type: str
    packets:
      description: How many golden packets were run, through both programs together.
      type: int
    differences:
      description: What the two treat differently, expected or not.
      type: list
      elements: dict
    baseline:
      description: Verdicts before the replacement, when packets fared worse after it.
      type: dict
    watch:
      description: Verdicts after the replacement, and in how many seconds.
      type: dict
    worse:
      description: What became worse, with its numbers, when the old program was put back.
      type: list
      elements: str
  sample:
    old: 6ae9cc9f4a64a2b5
    new: 0d0a2b1b62a3a3c4
    packets: 2304
    differences:
      - kind: echo
        packet: "echo: 198.18.1.255 -> 203.0.113.10"
        verdicts: drop -> tx
        old: drop
        new: "tx, 55 bytes, from 0: 02 00 00 00 00 01"
    watch: {seconds: 30.0, verdicts: {sent: 120421}, received: 120433}
layout:
  description: Whether it was refused because the maps have another layout or other sizes.
  returned: when that is so
  type: bool
rollback:
  description: What was gone back to.
  returned: with V(state=rolled_back), except in check mode on a host that is not prepared yet
  type: dict
  contains:
    tag:
      description: The tag of the program that runs now.
      type: str
    from:
      description: Where it is from.
      type: str
    release:
      description: The release whose files belong to it; empty when that is not known.
      type: str
    fingerprint:
      description: The node's fingerprint with it. None in check mode.
      type: str
  sample:
    tag: 6ae9cc9f4a64a2b5
    from: pinned as balancer_previous
    release: 0.1.0-1f0b9a4c2d3e
    fingerprint: 5d0f8a1c9f6e4f0b8a7c6d5e4f3a2b1c
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, STATE, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._releases import RELEASES
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade import Places, Request, upgrade
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_rollback import roll_back
from ansible_collections.l4lb.xdp.plugins.module_utils._upgrade_watch import Limits

SPEC = {
    "state": {"choices": ["upgraded", "rolled_back"], "default": "upgraded"},
    "candidate": {"type": "path"},
    "expect": {"type": "list", "elements": "str", "default": []},
    "accept_differences": {"type": "bool", "default": False},
    "services": {"type": "int", "default": 64},
    "flows": {"type": "int", "default": 4},
    "baseline": {"type": "int", "default": 10},
    "watch": {"type": "int", "default": 30},
    "max_drops": {"type": "float", "default": 0.5},
    "max_to_kernel": {"type": "float", "default": 5.0},
    "library": {"type": "path", "default": "/usr/lib/l4lb/python"},
    "releases": {"type": "path", "default": RELEASES},
    **PATHS,
    **STATE,
}


def run(given: dict[str, Any], dry: bool) -> Outcome:
    places = Places(*(Path(given[key]) for key in ("pins", "state_dir", "source", "library")))
    if given["state"] == "rolled_back":
        return roll_back(Path(given["releases"]), places, dry)
    request = Request(
        candidate=Path(given["candidate"]),
        expect=tuple(given["expect"]),
        accept_differences=given["accept_differences"],
        services=given["services"],
        flows=given["flows"],
        baseline=given["baseline"],
        watch=given["watch"],
        limits=Limits(given["max_drops"], given["max_to_kernel"]),
    )
    return upgrade(request, places, dry)


def main() -> None:
    module = AnsibleModule(
        argument_spec=SPEC,
        required_if=[("state", "upgraded", ["candidate"])],
        supports_check_mode=True,
    )
    finish(module, lambda: run(module.params, module.check_mode), "XDP programs (balancer)")


if __name__ == "__main__":
    main()
