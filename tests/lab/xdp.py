# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest XDP program, for the router's ends of the links.

A frame that a node sends by XDP_TX leaves a veth only when the other end runs XDP in native mode.
Two instructions need no compiler, so they stand here as bytes.
"""

from __future__ import annotations

import ctypes
import os

from common import LabError

BPF_PROG_TYPE_XDP = 6
XDP_FLAGS_DRV_MODE = 1 << 2
RETURN_XDP_PASS = bytes.fromhex("b700000002000000 9500000000000000")  # r0 = XDP_PASS; exit


def libbpf() -> ctypes.CDLL:
    """bcc's library carries libbpf; it takes LLVM along, so only who attaches imports it."""
    from bcc import lib

    return lib


def load_pass() -> int:
    """Load the program and return its descriptor."""
    lib = libbpf()
    instructions = ctypes.create_string_buffer(RETURN_XDP_PASS, len(RETURN_XDP_PASS))
    lib.bpf_prog_load.restype = ctypes.c_int
    descriptor = lib.bpf_prog_load(
        ctypes.c_int(BPF_PROG_TYPE_XDP),
        ctypes.c_char_p(b"lab_pass"),
        ctypes.c_char_p(b"GPL"),
        instructions,
        ctypes.c_size_t(len(RETURN_XDP_PASS) // 8),
        None,
    )
    if descriptor < 0:
        raise LabError(f"loading XDP_PASS: {os.strerror(-descriptor)}")
    return descriptor


def attach_pass(index: int) -> None:
    """Attach to an interface of the current namespace, in native mode."""
    descriptor = load_pass()
    try:
        result = libbpf().bpf_xdp_attach(index, descriptor, XDP_FLAGS_DRV_MODE, None)
    finally:
        os.close(descriptor)
    if result != 0:
        raise LabError(f"attaching XDP_PASS: {os.strerror(-result)}")
