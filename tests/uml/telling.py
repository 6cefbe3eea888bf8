# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an emulated machine tells what it saw: a line of JSON each, at once."""

from __future__ import annotations

import json
import sys


def tell(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()
