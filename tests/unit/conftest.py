# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same examples every time: what is red stays red. HYPOTHESIS_PROFILE=explore draws others."""

from __future__ import annotations

import os

from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
