# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one image of all hosts: a small Debian, built once and kept by a digest of its inputs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from common import LOGS, LabError, mounts_below, run, step, unmount_below

RELEASE = "bookworm"
CACHE = Path("/var/cache/l4lb-lab")
FILES = Path(__file__).resolve().parent / "image_files"
BUILD_LOG = LOGS / "image.log"
SOURCES_LIST = Path("/etc/apt/sources.list")
DEBIAN_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
PACKAGES = (
    "systemd systemd-sysv dbus openssh-server iproute2 ethtool procps tcpdump curl less"
    " python3 python3-apt python3-bpfcc python3-pyroute2 python3-netaddr linux-headers-amd64"
    " python3-h11 python3-dnspython python3-prometheus-client python3-systemd python3-rich"
    " python3-argcomplete bash-completion bird2 nginx-light nftables"
    " kmod frr"
).split()
# Installed for those hosts that want them, running only where somebody enables them.
DISABLED = ("bird.service", "frr.service", "nginx.service")
# Nothing to do in a lab that lives for minutes, has one console and no way out.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
    "systemd-timesyncd.service",
)


def one_line_entries() -> list[str]:
    """Entries of sources.list that name the release's own suites; media and others stay out."""
    if not SOURCES_LIST.exists():
        return []
    entries = []
    for line in SOURCES_LIST.read_text().splitlines():
        plain = line.split("] ", 1)[-1].removeprefix("deb ")  # less "[options]"
        suite = plain.split()[1:2]
        if line.startswith("deb ") and "cdrom:" not in line and suite:
            entries += [line] if suite[0].startswith(RELEASE) else []
    return entries


def sources() -> str:
    """The machine's own Debian sources, in one of the two forms apt knows."""
    if DEBIAN_SOURCES.exists():
        return DEBIAN_SOURCES.read_text()
    entries = one_line_entries()
    if not entries:
        raise LabError(
            f"no Debian {RELEASE} entry in {SOURCES_LIST} or {DEBIAN_SOURCES}: "
            "the lab's image is built from the machine's own apt sources"
        )
    return "\n".join(entries) + "\n"


def digest(text: str) -> str:
    inputs = hashlib.sha256(text.encode())
    inputs.update(Path(__file__).read_bytes())
    for path in sorted(FILES.rglob("*")):
        if path.is_file():
            inputs.update(str(path.relative_to(FILES)).encode() + path.read_bytes())
    return inputs.hexdigest()[:16]


def discard(path: Path) -> None:
    """Remove a tree; what an interrupted build left mounted in it is unmounted first."""
    unmount_below(path)
    shutil.rmtree(path, ignore_errors=True)


def bootstrap(root: Path, source_text: str) -> None:
    kind = "sources" if source_text.lstrip().startswith(("Types:", "#")) else "list"
    source_file = root.with_name(f"{root.name}.{kind}")
    source_file.write_text(source_text)
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(PACKAGES)}",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        RELEASE,
        str(root),
        str(source_file),
    ]
    with BUILD_LOG.open("w") as log:
        result = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    source_file.unlink()
    if result.returncode != 0:
        discard(root)
        raise LabError(f"the image was not built: see {BUILD_LOG}")


def customize(root: Path) -> None:
    shutil.copytree(FILES, root, dirs_exist_ok=True)
    (root / "etc/nginx/sites-enabled/default").unlink(missing_ok=True)
    run(["systemctl", f"--root={root}", "--quiet", "disable", *DISABLED])
    run(["systemctl", f"--root={root}", "--quiet", "mask", *MASKED])


def everybodys_mounts() -> str:
    """Also those of labs in mount namespaces of their own."""
    found = set()
    for mounts in Path("/proc").glob("[0-9]*/mounts"):
        with suppress(OSError):
            found.update(mounts.read_text().splitlines())
    return "\n".join(found)


def drop_others(keep: Path) -> None:
    mounts = everybodys_mounts()
    for path in CACHE.iterdir():
        if path != keep and str(path) not in mounts and not mounts_below(path):
            discard(path) if path.is_dir() else path.unlink()


def ensure() -> Path:
    """Build the image unless it is there, and return its directory."""
    source_text = sources()
    image = CACHE / digest(source_text)
    if image.is_dir():
        step(f"image: {image} (already built)")
        return image
    LOGS.mkdir(parents=True, exist_ok=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    step(f"image: building Debian {RELEASE}, about a minute (log: {BUILD_LOG})")
    part = image.with_suffix(".part")
    discard(part)
    bootstrap(part, source_text)
    customize(part)
    part.rename(image)
    drop_others(image)
    return image
