# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How much the balancer's maps hold, the same for every module."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that `_module.SIZES` declares."""

    DOCUMENTATION = r"""
options:
  ring_size:
    description: Slots of a ring, a prime. One for all nodes.
    type: int
    default: 65537
  max_services:
    description: How many services the maps hold.
    type: int
    default: 4096
  max_pools:
    description: How many pools the maps hold.
    type: int
    default: 512
  max_backends:
    description: How many backends of all pools the maps hold, V(65535) at most.
    type: int
    default: 16384
  max_flows:
    description: How many flows of each family the flow tables hold.
    type: int
    default: 1000000
  max_deny:
    description:
      - How many prefixes of each family can be denied; while a list is changed, the old ones and
        the new ones together. Memory is taken for those that there are.
    type: int
    default: 200000
  max_allow:
    description: As O(max_deny), of the prefixes that all services together allow.
    type: int
    default: 200000
"""
