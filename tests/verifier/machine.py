# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module beside this one elsewhere: in another Debian, or on another kernel, emulated."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
WAYS_TO_THE_ROOT = ("virtio_pci", "9pnet_virtio", "9p")
TIMEOUT = 3600
"""Seconds: an emulated machine takes minutes, on a busy host many."""

_IN_ROOT = """
set -e
mount --bind "$1" "$1"
mkdir -p "$1$2" && mount --bind "$2" "$1$2"
shift 2
exec "$@"
"""
_CHROOT = """
set -e
mount --bind /proc "$1/proc" && mount --rbind /sys "$1/sys" && mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
modules=$1/lib/modules/$(uname -r) headers=$(cd "$1" && ls -d usr/src/linux-headers-*-amd64)
mkdir -p "$modules"
ln -sfn "/$headers" "$modules/build"
ln -sfn "/${headers%-amd64}-common" "$modules/source"
cd "$2"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=.venv/collections \\
    exec chroot "$1" /usr/bin/env -C "$2" /usr/bin/python3 -m tests.verifier.check
"""


class Failed(Exception):
    """Nothing was checked; the text is what was said last."""


@dataclass(frozen=True)
class Kernel:
    """A Debian kernel: its image, and its modules as the host sees them."""

    image: Path
    modules: Path


def in_chroot(root: Path) -> list[dict[str, Any]]:
    """What check.py tells in that root, on the running kernel."""
    command = ["bash", "-c", _CHROOT, "chroot", str(root), str(REPOSITORY)]
    return _told(_with_repository(root, command))


def emulated(
    kernel: Kernel, root: Path, guest: str = "check", **environment: object
) -> list[dict[str, Any]]:
    """What the guest tells in that root, on another kernel, in an emulated machine.

    environment: of the guest; without spaces.
    """
    with tempfile.TemporaryDirectory() as directory:
        initial = Path(directory, "initramfs")
        initial.write_bytes(b"".join(_initramfs(kernel)))
        python = sys.executable if root == Path("/") else "/usr/bin/python3"
        words = {
            "REPOSITORY": REPOSITORY,
            "PYTHON": python,
            "MODULES": f"/{kernel.modules.relative_to(root)}",
            "GUEST": f"tests.verifier.{guest}",
            **environment,
        }
        command = [
            *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1500"),
            *("-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
            *("-kernel", str(kernel.image), "-initrd", str(initial)),
            "-fsdev",
            f"local,id=root,path={root},security_model=none,readonly=on,multidevs=remap",
            *("-device", "virtio-9p-pci,fsdev=root,mount_tag=root"),
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on "
            + " ".join(f"guest.{name}={value}" for name, value in words.items()),
        ]
        return _told(command if root == Path("/") else _with_repository(root, command))


def _with_repository(root: Path, command: list[str]) -> list[str]:
    """The command, in a mount namespace in which the root has this repository in its place."""
    return [
        "unshare",
        "--mount",
        "bash",
        "-c",
        _IN_ROOT,
        "in",
        str(root),
        str(REPOSITORY),
        *command,
    ]


def _told(command: list[str]) -> list[dict[str, Any]]:
    run = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT,
        check=False,
    )
    lines = run.stdout.decode(errors="replace").splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    if not told or not told[-1].get("done"):
        raise Failed("\n".join(lines[-40:]))
    return told


# --- the initial file system ---


def _initramfs(kernel: Kernel) -> Iterator[bytes]:
    """An archive of cpio's newc form (Documentation/driver-api/early-userspace/buffer-format.rst):
    busybox, early.sh, and the modules that it needs, in their order.
    """
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox-static is not installed"
    for directory in ("bin", "dev", "modules", "proc", "root"):
        yield _entry(directory, 0o40755)
    yield _entry("bin/busybox", 0o100755, Path(busybox).read_bytes())
    yield _entry("init", 0o100755, b"#!/bin/busybox sh\n" + (HERE / "early.sh").read_bytes())
    for number, path in enumerate(_needed(kernel.modules)):
        content = path.read_bytes()
        if path.suffix == ".xz":
            content = lzma.decompress(content)
        yield _entry(f"modules/{number:02}.ko", 0o100644, content)
    yield _entry("TRAILER!!!", 0)


def _entry(name: str, mode: int, content: bytes = b"") -> bytes:
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    head = "070701" + "".join(f"{field:08x}" for field in fields)
    named = head.encode() + name.encode() + b"\0"
    return _filled(named) + _filled(content)


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _needed(modules: Path) -> list[Path]:
    """Files of the modules that the way to the root needs; what is built in has none."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _colon, others = line.partition(":")
        needs[path] = others.split()
    found: list[str] = []
    for name in WAYS_TO_THE_ROOT:
        for path, others in needs.items():
            if os.path.basename(path).split(".")[0] == name:
                # modules.dep names first what has to be loaded last.
                found += [each for each in [*reversed(others), path] if each not in found]
    return [modules / path for path in found]
