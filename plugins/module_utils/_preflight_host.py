# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the host as a whole: kernel, libraries, headers, rights, maps, clock.

Private to the collection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_check import (
    NONE,
    Check,
    Environment,
)

KERNEL_NEEDED = (5, 15)
"""The program is proven by BPF_PROG_TEST_RUN with an interface it came in by, which came last of
what is used: batches are of 5.6, replacing an expected program of 5.7.
"""
KERNEL_TRIED = (6, 1)

TRIED = {"bcc": "0.26", "pyroute2": "0.7.2", "netaddr": "0.8"}
PACKAGES = {"bcc": "python3-bpfcc", "pyroute2": "python3-pyroute2", "netaddr": "python3-netaddr"}


# DMI's words, and whose they are.
_DMI = (
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("DigitalOcean", "kvm"),
    ("Hetzner", "kvm"),
    ("Amazon EC2", "amazon"),
    ("Google Compute Engine", "google"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VirtualBox", "oracle"),
    ("innotek GmbH", "oracle"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Virtual Machine", "microsoft"),
)
_CLOCKS = (("kvm-clock", "kvm"), ("hyperv", "microsoft"), ("xen", "xen"))
_CONTAINER_GROUPS = (
    ("docker", "docker"),
    ("kubepods", "kubernetes"),
    ("libpod", "podman"),
    ("lxc", "lxc"),
    ("machine.slice", "systemd-nspawn"),
)


@dataclass(frozen=True)
class Library:
    """version: as the library says, empty if it does not; missing: why it cannot be imported;
    lacks: names that we call and it does not have.
    """

    name: str
    version: str = ""
    missing: str = ""
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rights:
    """capabilities: whether CAP_SYS_ADMIN and CAP_NET_ADMIN are there; refused: what bpf(2)
    answered when it was asked something harmless, None: it was not asked.
    """

    root: bool
    capabilities: bool
    refused: str | None = None


def recognise(read: Callable[[str], str | None]) -> Environment:
    """The environment, by files; `read` gives a file's text, None if there is no such file."""
    return Environment(_virtualization(read), _container(read))


def _virtualization(read: Callable[[str], str | None]) -> str:
    flags = re.search(r"^flags\s*:(.*)$", read("/proc/cpuinfo") or "", re.MULTILINE)
    if flags and "hypervisor" not in flags[1].split():
        return NONE  # metal that is let by the hour has its provider's name in DMI
    if read("/sys/hypervisor/type"):
        return str(read("/sys/hypervisor/type")).strip()
    names = ("product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version")
    dmi = " ".join(read(f"/sys/class/dmi/id/{name}") or "" for name in names)
    for word, kind in _DMI:
        if word in dmi:
            return kind
    if "linux,kvm" in (read("/proc/device-tree/hypervisor/compatible") or ""):
        return "kvm"
    clocks = read("/sys/devices/system/clocksource/clocksource0/available_clocksource") or ""
    for word, kind in _CLOCKS:
        if word in clocks:
            return kind
    return "other" if flags else NONE


def _container(read: Callable[[str], str | None]) -> str:
    named = (read("/run/systemd/container") or "").strip()
    if named:
        return named
    for variable in (read("/proc/1/environ") or "").split("\0"):
        if variable.startswith("container="):
            return variable[len("container=") :] or "other"
    for path, kind in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if read(path) is not None:
            return kind
    groups = read("/proc/1/cgroup") or ""
    for word, kind in _CONTAINER_GROUPS:
        if word in groups:
            return kind
    return NONE


def judge_kernel(release: str, environment: Environment) -> Check:
    """release: as uname says."""
    found = re.match(r"(\d+)\.(\d+)", release)
    if not found:
        return Check("kernel", "", "unknown", f"{release!r} is no version this check can read")
    version = int(found[1]), int(found[2])
    remedy = f"upgrade {environment.owner('kernel')}"
    if version < KERNEL_NEEDED:
        needed = _dotted(KERNEL_NEEDED)
        return Check("kernel", "", "failed", f"{release}, {needed} is needed at least", remedy)
    if version < KERNEL_TRIED:
        tried = _dotted(KERNEL_TRIED)
        return Check("kernel", "", "warning", f"{release}, tried from {tried} on", remedy)
    return Check("kernel", "", "ok", release)


def judge_libraries(libraries: Iterable[Library]) -> list[Check]:
    return [_judge_library(library) for library in libraries]


def _judge_library(library: Library) -> Check:
    name, package = library.name, PACKAGES[library.name]
    if library.missing:
        return Check(
            "libraries",
            name,
            "skipped",
            f"this Python cannot import it ({library.missing})",
            f"the role l4lb.xdp.balancer installs {package}; modules need the distribution's "
            "Python (ansible_python_interpreter: /usr/bin/python3)",
        )
    if library.lacks:
        found = f"{library.version or 'of unknown version'}, has no {', '.join(library.lacks)}"
        remedy = f"install {package} {TRIED[name]} or later"
        return Check("libraries", name, "failed", found, remedy)
    if not library.version:
        return Check("libraries", name, "ok", "does not tell its version")
    if _numbers(library.version) < _numbers(TRIED[name]):
        found = f"{library.version}, tried from {TRIED[name]} on"
        return Check("libraries", name, "warning", found, f"install a later {package}")
    return Check("libraries", name, "ok", library.version)


def judge_headers(missing: str, prepared: bool, environment: Environment) -> Check:
    """missing: why there are none, empty if there are; prepared: whether the role has been here,
    before which there need not be any.
    """
    if not missing:
        return Check("headers", "", "ok", "bcc can find them")
    remedy = "the role l4lb.xdp.balancer installs and links them"
    if environment.contained:
        remedy += "; they are looked up by the release of the host's kernel"
    return Check("headers", "", "warning" if prepared else "skipped", missing, remedy)


def judge_rights(rights: Rights, environment: Environment) -> Check:
    if not rights.capabilities:
        found = "root, but without CAP_SYS_ADMIN or CAP_NET_ADMIN"
        remedy = "give the container both" if environment.contained else "give root both"
        if not rights.root:
            found, remedy = "not root", "run as root (become: true)"
        return Check("privileges", "", "failed", found, remedy)
    if rights.refused is None:
        return Check("privileges", "", "skipped", "bpf(2) can be asked once bcc is installed")
    if rights.refused:
        remedy = "look for a system call filter, or a security module, that forbids it"
        if environment.contained:
            remedy += " (systemd-nspawn: --system-call-filter=bpf)"
        found = f"bpf(2) answers: {rights.refused}"
        return Check("privileges", "", "failed", found, remedy)
    return Check("privileges", "", "ok", "may load programs and attach them")


def judge_bpffs(pins: str, mounted: bool, prepared: bool, environment: Environment) -> Check:
    """prepared: as with headers."""
    if mounted:
        return Check("bpffs", pins, "ok", "is a BPF file system")
    remedy = "the role l4lb.xdp.bpffs mounts it"
    if environment.contained:
        remedy += ", if whoever runs this container allows it"
    status = "warning" if prepared else "skipped"
    return Check("bpffs", pins, status, "is no BPF file system", remedy)


def judge_clock(synchronised: bool | None, environment: Environment) -> Check:
    """synchronised: whether something keeps the time, None: the kernel does not tell."""
    if synchronised is None:
        return Check("clock", "", "unknown", "the kernel does not say who keeps the time")
    if synchronised:
        return Check("clock", "", "ok", "synchronised")
    remedy = f"synchronise {environment.owner('clock')} (chrony, systemd-timesyncd)"
    found = "not synchronised: logs of nodes cannot be compared"
    return Check("clock", "", "warning", found, remedy)


def _numbers(version: str) -> tuple[int, ...]:
    """0.26.0+ds-1 -> (0, 26, 0)"""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
