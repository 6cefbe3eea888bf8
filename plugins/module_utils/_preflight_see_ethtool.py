# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks drivers, by ethtool's ioctl; None where a driver does not answer. Changes nothing.

Private to the collection.
"""

from __future__ import annotations

import struct

from ansible_collections.l4lb.xdp.plugins.module_utils import _ethtool
from ansible_collections.l4lb.xdp.plugins.module_utils._ethtool import FLOW_TYPES
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_links import Channels

ETHTOOL_GDRVINFO = 0x03


def driver(interface: str) -> str | None:
    """The driver's name."""
    try:
        answer = _ethtool.call(interface, struct.pack("I", ETHTOOL_GDRVINFO), 196)
    except OSError:
        return None
    return answer[4:36].rstrip(b"\0").decode(errors="replace")


def channels(interface: str) -> Channels | None:
    """Receive queues: those of their own, and those combined with one for sending."""
    try:
        used, most = _ethtool.queues(interface)
    except OSError:
        return None
    return Channels(used.receiving, most.receiving)


def hash_fields(interface: str) -> dict[str, int | None]:
    """What packets are spread over the queues by: RXH_* bits, by kind of flow."""
    return {flow: _hash_fields(interface, flow) for flow in FLOW_TYPES}


def _hash_fields(interface: str, flow: str) -> int | None:
    try:
        return _ethtool.hash_fields(interface, flow)
    except OSError:
        return None
