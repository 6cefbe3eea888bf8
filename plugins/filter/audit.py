# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
name: audit
short_description: What is wrong with a fleet
version_added: 0.1.0
author:
  - The l4lb.xdp authors (@l4lb)
description:
  - Judges what the roles have seen on hosts (their C(tasks_from=audit)). Used by the playbook
    C(l4lb.xdp.audit).
options:
  _input:
    description: What was seen on each node, by name; an empty mapping for one that was not reached.
    type: dict
    required: true
  real_servers:
    description: The same of real servers.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ (seen_on_nodes | l4lb.xdp.audit(seen_on_real_servers)).report }}"
"""

RETURN = r"""
_value:
  description:
    - C(report) is text, a line for each node and each finding. C(findings) are the same findings as
      data, each with C(host), C(subject), C(text), C(remedy) and C(wrong). C(wrong) says whether
      any of them is.
  type: dict
"""

from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.l4lb.xdp.plugins.module_utils import _audit


def audit(nodes: Any, real_servers: Any = None) -> dict[str, Any]:
    """See DOCUMENTATION."""
    try:
        found = _audit.judge(nodes, real_servers or {})
        return {
            "report": _audit.report(nodes, found),
            "findings": _audit.as_data(found),
            "wrong": any(finding.wrong for finding in found),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(
            f"l4lb.xdp.audit: this is not what the roles' tasks_from=audit saw "
            f"({type(error).__name__}: {error})"
        ) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """By name."""
        return {"audit": audit}
