# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a host keeps things, the same for every module."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that `_module.PATHS` and `_module.STATE` declare."""

    DOCUMENTATION = r"""
options:
  source:
    description: Directory of the C sources, which hold the schema of the maps.
    type: path
    default: /usr/lib/l4lb/bpf
  pins:
    description: Directory of the pinned maps, in a BPF file system.
    type: path
    default: /run/l4lb/bpf
"""

    STATE = r"""
options:
  state_dir:
    description:
      - Directory where what was applied is remembered, from where C(l4lb-restore.service) brings it
        back at boot.
    type: path
    default: /var/lib/l4lb
"""
