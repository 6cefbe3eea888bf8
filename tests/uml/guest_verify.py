# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inside the emulated machine: whether the verifier of its kernel, Debian 12's, takes our programs.

Prints a line of JSON for each. They are loaded as by bcc, but with BPF_F_ANY_ALIGNMENT: user-mode
Linux alone of all x86 cannot read words that are not aligned. None is run.
"""

from __future__ import annotations

import ctypes as ct
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINS = Path("/run/l4lb/bpf")

SETUP = f"""
ip link set lo up
modprobe ipv6
mount -t tmpfs tmpfs /lib/modules
mkdir -p {PINS}
mount -t bpf bpf {PINS}
"""

BPF = 321  # the system call
BPF_PROG_LOAD = 5
BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_LWT_XMIT = 6, 12
BPF_F_ANY_ALIGNMENT = 2
VERBOSE, STATISTICS = 1, 4
LOG_BYTES = 1 << 24

PROGRAMS = {
    "balancer": BPF_PROG_TYPE_XDP,
    "decap": BPF_PROG_TYPE_XDP,
    "explain": BPF_PROG_TYPE_XDP,
    "probe": BPF_PROG_TYPE_LWT_XMIT,
}


class Attributes(ct.Structure):
    """The beginning of union bpf_attr, for BPF_PROG_LOAD; the rest is 0."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("count", ct.c_uint32),
        ("instructions", ct.c_uint64),
        ("license", ct.c_uint64),
        ("log_level", ct.c_uint32),
        ("log_size", ct.c_uint32),
        ("log", ct.c_uint64),
        ("kernel_version", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("rest", ct.c_uint8 * 96),
    )


def load(code: bytes, kind: int, log_level: int) -> tuple[bool, list[str]]:
    """Whether the kernel takes it, and the end of what the verifier says."""
    libc = ct.CDLL(None, use_errno=True)
    instructions = ct.create_string_buffer(code, len(code))
    licence, log = ct.create_string_buffer(b"GPL"), ct.create_string_buffer(LOG_BYTES)
    attributes = Attributes(
        type=kind,
        count=len(code) // 8,
        instructions=ct.addressof(instructions),
        license=ct.addressof(licence),
        log_level=log_level,
        log_size=LOG_BYTES,
        log=ct.addressof(log),
        flags=BPF_F_ANY_ALIGNMENT,
    )
    fd = libc.syscall(BPF, BPF_PROG_LOAD, ct.byref(attributes), ct.sizeof(attributes))
    return fd >= 0, log.value.decode(errors="replace").splitlines()[-8:]


def main() -> None:
    for line in SETUP.strip().splitlines():
        subprocess.run(line.split(), check=True)
    modules = Path("/lib/modules", os.uname().release)
    modules.mkdir()
    for name in ("build", "source"):  # of the machine outside: any version's headers do
        (modules / name).symlink_to(os.environ[f"HEADERS_{name.upper()}"])

    from ansible_collections.l4lb.xdp.plugins.module_utils import _schema

    sizes = _schema.Sizes(ring=251, services=64, pools=8, backends=64, flows=1024)
    for name, kind in PROGRAMS.items():
        compiled = _schema.compile_unit(ROOT / "bpf" / f"{name}.c", PINS, sizes)
        code = compiled.dump_func(name.encode())
        taken, said = load(code, kind, STATISTICS)
        if not taken:
            _taken, said = load(code, kind, VERBOSE)
        told = {"program": name, "taken": taken, "said": said, "kernel": os.uname().release}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
