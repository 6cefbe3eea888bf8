# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `l4lb`: what a node does, for whoever sits at it.

Exit status: 0 well, 1 something is wrong, 2 wrong usage, 3 no agent, or no balancer prepared here.
"""
