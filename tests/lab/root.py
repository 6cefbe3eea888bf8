# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's root directory: the image below, what makes the host itself in an overlay."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from common import SSH_KEY, STATE, LabError, run, unmount_below
from router import bird_configuration
from topology import HOSTS, MANAGEMENT_LENGTH, SEGMENTS, Host

# Of the emulated machines' kernel, Debian's package user-mode-linux.
MODULES = Path("/usr/lib/uml/modules")
UNITS = Path("etc/systemd/system")
WANTS = UNITS / "multi-user.target.wants"
# Units that fail on that kernel.
NOT_EMULATED = (
    "kmod-static-nodes.service",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-binfmt.service",
)


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
        own = root / UNITS / unit
        link.symlink_to(f"/{UNITS / unit}" if own.exists() else f"/lib/systemd/system/{unit}")


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
    if host.kind in ("real_server", "emulated"):
        enable(root, "nginx.service")
        enable(root, "lab-udp-echo.service")


def interfaces(host: Host, root: Path) -> None:
    """A container's are made from outside; an emulated machine has to do it for itself."""
    segment = SEGMENTS[host.segment]
    commands = [
        "modprobe ipv6",
        "sysctl -q net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0",
        f"ip address add {host.address4}/{segment.length4} dev eth0",
        f"ip address add {host.address6}/{segment.length6} dev eth0",
        f"ip address add {host.management}/{MANAGEMENT_LENGTH} dev eth1",
        "ip link set eth0 up",
        "ip link set eth1 up",
        f"ip route add default via {segment.gateway4}",
        f"ip route add default via {segment.gateway6}",
    ]
    lines = [f"ExecStart={command}" for command in commands]
    lines = ["[Unit]", "Before=network.target", "[Service]", "Type=oneshot", *lines]
    write(root / UNITS / "lab-interfaces.service", "\n".join(lines) + "\n")
    enable(root, "lab-interfaces.service")
    for unit in NOT_EMULATED:
        link = root / UNITS / unit
        if not link.is_symlink():
            link.symlink_to("/dev/null")


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
    if host.emulated:
        if not MODULES.is_dir():
            raise LabError(f"{host.name} needs the package user-mode-linux (amd64)")
        interfaces(host, root)
        modules = root / "usr/lib/modules"
        if not modules.is_mount():
            modules.mkdir(exist_ok=True)
            run(["mount", "--bind", "-o", "ro", str(MODULES), str(modules)])


def discard(host: Host) -> None:
    unmount_below(directory(host))
    shutil.rmtree(directory(host), ignore_errors=True)
