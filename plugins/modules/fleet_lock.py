#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_lock
short_description: One run over the fleet at a time
version_added: 0.1.0
description:
  - Takes a node's lock for a run of playbooks, so that a second run is told who is at work.
  - A run takes the lock of every node that it may touch, that of the first by name before the
    others. The playbooks of the collection do so.
  - A host without O(state_dir), where nothing was ever installed, is left alone.
  - The lock ends by itself, so a run that was killed holds nobody up for ever.
  - It keeps no other module from working. Single writers on a node wait for each other anyway.
author:
  - The l4lb.xdp authors (@l4lb)
extends_documentation_fragment:
  - l4lb.xdp.attributes
  - l4lb.xdp.paths.state
attributes:
  idempotent:
    details:
      - The same O(run) may take it again, which makes it last longer.
options:
  run:
    description: A name for the run that no other has.
    type: str
    required: true
  state:
    description:
      - With V(held) the run has the lock, or the module fails naming who has it. In check mode it
        only warns.
      - With V(free) the run gives it up. A lock that another run has is left alone.
    type: str
    choices: [held, free]
    default: held
  holder:
    description: Whom others are told of.
    type: str
    default: somebody
  seconds:
    description: For how long, unless the run takes it again meanwhile.
    type: int
    default: 3600
  renew:
    description: Whether the run has the lock already. Fails if it was taken from it.
    type: bool
    default: false
  take_over:
    description: Whether to take it from another run, which was killed.
    type: bool
    default: false
  aim:
    description:
      - What the run is after. It is remembered until a run gives the lock up with O(done).
    type: str
  done:
    description: With O(state=free), whether the run came to its end.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Keep others from the fleet
  l4lb.xdp.fleet_lock:
    run: "{{ ansible_date_time.iso8601_micro }}"
    holder: alice
  register: got

- name: Let others at it
  l4lb.xdp.fleet_lock:
    run: "{{ got.lock.run }}"
    state: free
"""

RETURN = r"""
lock:
  description: Who has the lock now. All are empty where none has.
  returned: always
  type: dict
  contains:
    run:
      description: The run's name.
      type: str
    holder:
      description: Who.
      type: str
    since:
      description: Since when, by the node's clock.
      type: str
    until:
      description: Until when, unless it is taken again.
      type: str
  sample:
    run: k3v9x0q2m7ab
    holder: alice@bastion (services)
    since: 2026-01-31 10:15:00 UTC
    until: 2026-01-31 11:15:00 UTC
left:
  description: The O(aim) of an earlier run that did not come to its end, empty if there is none.
  returned: O(state=held)
  type: str
  sample: ""
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._fleet_lock import Request, free, hold
from ansible_collections.l4lb.xdp.plugins.module_utils._module import STATE, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome

SPEC = {
    "run": {"type": "str", "required": True},
    "holder": {"type": "str", "default": "somebody"},
    "seconds": {"type": "int", "default": 3600},
    "aim": {"type": "str"},
    "renew": {"type": "bool", "default": False},
    "take_over": {"type": "bool", "default": False},
}
GIVING = {
    "state": {"type": "str", "choices": ["held", "free"], "default": "held"},
    "done": {"type": "bool", "default": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec={**SPEC, **GIVING, **STATE}, supports_check_mode=True)
    given, state_dir = module.params, Path(module.params["state_dir"])

    def work() -> Outcome:
        if given["state"] == "free":
            return free(given["run"], given["done"], state_dir, module.check_mode)
        request = Request(**{key: given[key] for key in SPEC})
        return hold(request, state_dir, module.check_mode)

    finish(module, work, "fleet's lock")


if __name__ == "__main__":
    main()
