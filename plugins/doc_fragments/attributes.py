# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every module of the collection promises, documented once."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of the modules and the requirements they share."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and predict whether it would change anything.
    support: full
  diff_mode:
    description: Returns what has changed, or in check mode would change.
    support: full
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation
        indicates no change, provided that nothing else changed the host meanwhile.
    support: full
"""

    # For modules that only read.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and predict whether it would change anything.
    support: full
    details:
      - This module does not modify state.
  diff_mode:
    description: Returns what has changed, or in check mode would change.
    support: N/A
    details:
      - This module does not modify state.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation
        indicates no change, provided that nothing else changed the host meanwhile.
    support: full
    details:
      - This module does not modify state.
"""
