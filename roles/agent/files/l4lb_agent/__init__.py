# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of a node: asks backends for their health, and announces what is proven to work.

The data plane does not need it: whatever becomes of the agent, packets go on by the last state.
"""
