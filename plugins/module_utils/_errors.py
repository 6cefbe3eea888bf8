# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every error of this library is: a text that names the thing and the remedy.

Private to the collection. Modules turn these into `fail_json` in one place.
"""

from __future__ import annotations


class L4lbError(Exception):
    """Something is not as it must be; the text says what to do about it."""
