# PYTHON_ARGCOMPLETE_OK
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m l4lb_agent.cli"""

from __future__ import annotations

from l4lb_agent.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
