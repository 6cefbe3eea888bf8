# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's root directory: the image below, what makes the host itself in an overlay."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from common import SSH_KEY, STATE, LabError, run, unmount_below
from router import bird_configuration
from topology import HOSTS, Host

WANTS = Path("etc/systemd/system/multi-user.target.wants")


def directory(host: Host) -> Path:
    return STATE / host.name


def root_of(host: Host) -> Path:
    return directory(host) / "root"


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def enable(root: Path, unit: str) -> None:
    link = root / WANTS / unit
    if not link.is_symlink():
        link.symlink_to(f"/lib/systemd/system/{unit}")


def hosts_file(host: Host) -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost", f"127.0.1.1 {host.name}"]
    lines += [f"{other.address4} {other.name}" for other in HOSTS.values() if other.address4]
    return "\n".join(lines) + "\n"


def identity(host: Host, root: Path) -> None:
    write(root / "etc/hostname", f"{host.name}\n")
    write(root / "etc/hosts", hosts_file(host))
    # Without an identity of its own systemd takes every boot for the first and applies presets.
    write(root / "etc/machine-id", hashlib.md5(host.name.encode()).hexdigest() + "\n")  # noqa: S324
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    public_key = SSH_KEY.with_suffix(".pub").read_text()
    write(root / "root/.ssh/authorized_keys", public_key, 0o600)


def services(host: Host, root: Path) -> None:
    """What runs on a host before anybody configures it; BIRD on nodes is the role's business."""
    if host.kind == "router":
        write(root / "etc/bird/bird.conf", bird_configuration())
        enable(root, "bird.service")
    if host.kind == "real_server":
        enable(root, "nginx.service")
        enable(root, "lab-udp-echo.service")


def mount(host: Host, image: Path) -> None:
    """Put the host's overlay on the image; an overlay begun on another image starts over."""
    base, root = directory(host), root_of(host)
    if root.is_mount():
        return
    note = base / "image"
    if note.exists() and note.read_text() != str(image):
        shutil.rmtree(base)
    for name in ("upper", "work", "root"):
        (base / name).mkdir(parents=True, exist_ok=True)
    note.write_text(str(image))
    options = f"lowerdir={image},upperdir={base / 'upper'},workdir={base / 'work'}"
    try:
        run(["mount", "-t", "overlay", "-o", options, f"l4lb-{host.name}", str(root)])
    except LabError as error:
        hint = f"{STATE} must lie on a file system that carries overlays"
        raise LabError(f"{error}. {hint}") from None


def prepare(host: Host, image: Path) -> None:
    mount(host, image)
    root = root_of(host)
    identity(host, root)
    services(host, root)


def discard(host: Host) -> None:
    unmount_below(directory(host))
    shutil.rmtree(directory(host), ignore_errors=True)
