# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server whose kernel ends the tunnels."""

from __future__ import annotations

import json

import pytest
import tunnelled
from conftest import on, until
from testinfra.host import Host


@pytest.fixture(scope="module")
def real() -> Host:
    return on("real4")


@pytest.mark.parametrize("form", tunnelled.FORMS)
def test_tunnelled_packet_is_answered_straight_to_the_client(form: str) -> None:
    assert until(lambda: tunnelled.answer(form, "real4")) == b"real4 hello!"


def test_devices_are_the_kernels_own(real: Host) -> None:
    links = json.loads(real.check_output("ip -details -json link show"))
    kinds = {link["ifname"]: link.get("linkinfo", {}).get("info_kind") for link in links}
    assert (kinds.get("l4lb4"), kinds.get("l4lb6")) == ("ipip", "ip6tnl")
    assert {"ipip", "sit", "ip6_tunnel"} <= {
        line.split()[0] for line in real.file("/proc/modules").content_string.splitlines()
    }


def test_no_program_is_attached(real: Host) -> None:
    assert "xdp" not in json.loads(real.check_output("ip -json link show dev eth0"))[0]


def test_unit_makes_them_at_boot(real: Host) -> None:
    assert real.service("l4lb-tunnels").is_enabled
    assert real.service("l4lb-tunnels").is_running
