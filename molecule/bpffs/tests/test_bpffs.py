# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A BPF file system of the load balancer's own."""

from __future__ import annotations

from testinfra.host import Host

PATH = "/run/l4lb/bpf"
UNIT = "run-l4lb-bpf.mount"


def test_bpffs_is_mounted(node: Host) -> None:
    assert node.mount_point(PATH).filesystem == "bpf"
    assert {"nosuid", "nodev", "noexec"} <= set(node.mount_point(PATH).options)


def test_only_root_sees_into_it(node: Host) -> None:
    assert node.file(PATH).user == "root"
    assert node.file(PATH).mode & 0o777 == 0o700  # sticky, too: the kernel says so of a bpffs


def test_it_takes_directories(node: Host) -> None:
    node.check_output(f"mkdir {PATH}/maps && rmdir {PATH}/maps")


def test_unit_is_there_for_the_next_boot(node: Host) -> None:
    assert node.service(UNIT).is_running
    assert node.service(UNIT).is_enabled


def test_nobody_elses_is_touched(node: Host) -> None:
    assert node.mount_point("/sys/fs/bpf").filesystem == "tmpfs"
