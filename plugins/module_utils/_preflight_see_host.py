# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what there is to know about the host; changes nothing, and judges nothing.

Private to the collection. Works without bcc, pyroute2 and netaddr.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import socket
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils import _address, _bpf, _links, _schema
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import lacking
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_check import Environment
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_host import (
    Library,
    Rights,
    recognise,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_memory import Memory

try:
    from bcc import lib
except ImportError:  # _bpf keeps why
    lib = None

CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21
STA_UNSYNC = 0x40
UNLIMITED = 1 << 60
"""A limit of memory above this is none (version 1 of control groups says so in bytes)."""

CALLED = (
    "bpf_lookup_batch",
    "bpf_map_create",
    "bpf_obj_get_info_by_fd",
    "bpf_prog_test_run_opts",
    "bpf_xdp_attach",
)
"""What we call of libbpf that not every bcc brings along."""


class _Timex(ct.Structure):
    """The head of struct timex, and room for the rest."""

    _fields_ = [
        ("modes", ct.c_uint),
        ("offset", ct.c_long),
        ("frequency", ct.c_long),
        ("maximum_error", ct.c_long),
        ("estimated_error", ct.c_long),
        ("status", ct.c_int),
        ("rest", ct.c_byte * 256),
    ]


def read(path: str) -> str | None:
    """A file's text; None when it is not there or not to be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def release() -> str:
    """The kernel's."""
    return os.uname().release


def interfaces() -> list[str]:
    """Names of the interfaces of this network namespace, by libc: always to be had."""
    return sorted(name for _index, name in socket.if_nameindex())


def environment() -> Environment:
    return recognise(read)


def libraries() -> list[Library]:
    """bcc, pyroute2 and netaddr, as this Python has them."""
    return [
        Library("bcc", _version("bcc"), str(_bpf.BCC_IMPORT_ERROR or ""), _uncallable()),
        Library("pyroute2", _version("pyroute2"), _links.IMPORT_ERROR or ""),
        Library("netaddr", _version("netaddr"), "" if has_netaddr() else "no module of that name"),
    ]


def has_netaddr() -> bool:
    return not lacking(_address.require_netaddr)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _uncallable() -> tuple[str, ...]:
    if lib is None:
        return ()
    return tuple(name for name in CALLED if not hasattr(lib, name))


def missing_headers() -> str:
    """Why there are no kernel headers; empty if there are."""
    try:
        _schema.require_headers()
    except _bpf.BpfError as missing:
        return str(missing)
    return ""


def rights() -> Rights:
    capabilities = 0
    for line in (read("/proc/self/status") or "").splitlines():
        if line.startswith("CapEff:"):
            capabilities = int(line.split()[1], 16)
    needed = 1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN
    return Rights(os.geteuid() == 0, capabilities & needed == needed, _refused())


def _refused() -> str | None:
    """What bpf(2) answers when it is asked for the first program; empty if it answers."""
    if lib is None:
        return None
    found = ct.c_uint32()
    if lib.bpf_prog_get_next_id(ct.c_uint32(0), ct.byref(found)) == 0:
        return ""
    number = ct.get_errno()
    return "" if number == errno.ENOENT else os.strerror(number)


def clock() -> bool | None:
    """Whether something keeps the time; None: the kernel does not tell."""
    state = _Timex()  # modes 0: only asks
    if ct.CDLL(None).adjtimex(ct.byref(state)) < 0:
        return None
    return not state.status & STA_UNSYNC


def cpus() -> int:
    """CPUs that are online."""
    return os.cpu_count() or 1


def possible_cpus() -> int:
    """CPUs that there may ever be: the kernel has a value for each in a per-CPU map."""
    text = read("/sys/devices/system/cpu/possible")
    if not text:
        return cpus()
    last = text.strip().split(",")[-1].split("-")[-1]
    return int(last) + 1


def memory(pins: Path, privileged: bool) -> Memory:
    """What is left, and which maps there are; these are seen by root only."""
    have = Memory(_available(), _limit(), possible_cpus())
    if not privileged:
        return have
    return replace(have, maps=(pins / "flows4").exists(), rings=_rings(pins))


def _available() -> int:
    for line in (read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _rings(pins: Path) -> int:
    """How many pools have a ring."""
    if lib is None:
        return 0
    fd = _bpf.open_pin(pins / "rings")
    if fd is None:
        return 0
    with _bpf.closing(fd):
        number = ct.c_uint32()
        entries = range(_bpf.map_info(fd).max_entries)
        return sum(_bpf.look_up(fd, ct.c_uint32(index), number) for index in entries)


def _limit() -> int | None:
    """What the control groups of this process still allow: the kernel charges maps to them."""
    rooms = [_room(directory, kind) for directory, kind in _groups()]
    left = [room for room in rooms if room is not None]
    return min(left) if left else None


def _groups() -> list[tuple[Path, str]]:
    """Directories of this process' memory groups, inner to outer, with the version's file names."""
    found = []
    roots: tuple[str, ...]
    for line in (read("/proc/self/cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            roots, kind = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"), "v2"
        elif "memory" in controllers.split(","):
            roots, kind = ("/sys/fs/cgroup/memory",), "v1"
        else:
            continue
        for root in map(Path, roots):
            inner = root / path.lstrip("/")
            found += [
                (each, kind) for each in (inner, *inner.parents) if root in (each, *each.parents)
            ]
    return found


_FILES = {
    "v2": ("memory.max", "memory.current", "inactive_file"),
    "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _room(directory: Path, kind: str) -> int | None:
    limit_file, used_file, cached_name = _FILES[kind]
    limit = (read(str(directory / limit_file)) or "").strip()
    used = (read(str(directory / used_file)) or "").strip()
    if not limit.isdigit() or not used.isdigit() or int(limit) > UNLIMITED:
        return None
    cached = 0  # given back when memory is wanted
    for line in (read(str(directory / "memory.stat")) or "").splitlines():
        name, value = line.split()
        if name == cached_name:
            cached = int(value)
    return max(int(limit) - int(used) + cached, 0)


def maps_differ(
    pins: Path, source: Path, sizes: _schema.Sizes, privileged: bool
) -> tuple[str, str]:
    """(status, what was found) of the pinned maps against the sizes wanted."""
    if not privileged:
        return "skipped", "only root sees them"
    if not (pins / "schema").exists():
        return "ok", "none are pinned yet"
    if lib is None:
        return "skipped", "maps are pinned; bcc can tell their sizes"
    try:
        layout = _schema.schema(source).version
    except _schema.SchemaError as error:
        return "skipped", str(error)
    if layout != _schema.LAYOUT:
        return "failed", _schema.other_layout(source)
    try:
        pinned = _schema.pinned_sizes(pins, source)
    except _schema.SchemaError as error:
        return "failed", str(error)
    if pinned is None:
        return "ok", "those pinned were never finished, and are made anew"
    difference = _schema.differing(pinned, sizes)
    if difference:
        return "failed", f"the pinned maps have other sizes ({difference})"
    return "ok", "the pinned maps have the sizes asked for"
