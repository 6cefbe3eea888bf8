# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is fetched of Debian, once, into /var/cache: the next release with its bcc and its kernel,
and the kernel of this one.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from .machine import Kernel

CACHE = Path("/var/cache/l4lb-verifier")
NEXT = "trixie"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "python3-bpfcc python3-pyroute2 python3-netaddr python3-scapy linux-headers-amd64"
    " linux-image-amd64 iproute2 kmod"
).split()


def ensure_next() -> tuple[Path, Kernel]:
    """The root of the next release, and its kernel."""
    digest = hashlib.sha256(" ".join([NEXT, MIRROR, *PACKAGES]).encode()).hexdigest()[:16]
    root = CACHE / f"{NEXT}-{digest}"
    if not root.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = root.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        _run(
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--format=directory",
            f"--include={','.join(PACKAGES)}",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            NEXT,
            str(part),
            MIRROR,
        )
        part.rename(root)
    return root, _kernel(root / "boot", root / "usr/lib/modules")


def ensure_kernel() -> Kernel:
    """The kernel of this machine's own Debian, unpacked and not installed."""
    depends = _run("apt-cache", "depends", "linux-image-amd64")
    (name,) = (line.split()[-1] for line in depends.splitlines() if "Depends:" in line)
    tree = CACHE / name
    if not tree.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = tree.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        _run("apt-get", "--quiet", "download", name, cwd=part)
        (package,) = part.glob("*.deb")
        _run("dpkg-deb", "--extract", str(package), str(part))
        package.unlink()
        (modules,) = (part / "lib/modules").iterdir()
        _run("depmod", "--basedir", str(part), modules.name)
        part.rename(tree)
    return _kernel(tree / "boot", tree / "lib/modules")


def _kernel(boot: Path, modules: Path) -> Kernel:
    (image,) = boot.glob("vmlinuz-*")
    return Kernel(image, modules / image.name[len("vmlinuz-") :])


def _run(*command: str, cwd: Path | None = None) -> str:
    run = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)}: {run.stderr[-3000:]}")
    return run.stdout
