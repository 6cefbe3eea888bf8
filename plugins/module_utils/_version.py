# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's release, as galaxy.yml says it too: nodes and modules are without that file.

Private to the collection.
"""

from __future__ import annotations

VERSION = "0.1.0"
