# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's BPF objects, through libbpf as bcc's library resolves it.

Private to the collection. File descriptors are plain integers, owned by the caller. Sources:
bpf(2), tools/lib/bpf/bpf.h, include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

try:
    from bcc import BPF, lib
except ImportError as missing:
    BPF = lib = None
    BCC_IMPORT_ERROR: ImportError | None = missing
else:
    BCC_IMPORT_ERROR = None

BPF_FS_MAGIC = 0xCAFE4A11
XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
XDP_MODE_FLAGS = {"generic": 1 << 1, "native": 1 << 2}

_BATCH = 1 << 16


class BpfError(L4lbError):
    """The kernel, or bcc, refused."""

    def __init__(self, text: str, number: int = 0) -> None:
        super().__init__(f"{text}: {os.strerror(number)}" if number else text)
        self.errno = number


class _ProgramInfo(ct.Structure):
    """The head of struct bpf_prog_info; the kernel fills as much as it is given."""

    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("tag", ct.c_uint8 * 8),
        ("jited_length", ct.c_uint32),
        ("xlated_length", ct.c_uint32),
        ("jited", ct.c_uint64),
        ("xlated", ct.c_uint64),
        ("load_time", ct.c_uint64),
        ("created_by", ct.c_uint32),
        ("map_count", ct.c_uint32),
        ("map_ids", ct.c_uint64),
        ("name", ct.c_char * 16),
    ]


class _MapInfo(ct.Structure):
    """The head of struct bpf_map_info."""

    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("key_size", ct.c_uint32),
        ("value_size", ct.c_uint32),
        ("max_entries", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("name", ct.c_char * 16),
    ]


class _MapOptions(ct.Structure):
    """The head of struct bpf_map_create_opts."""

    _fields_ = [
        ("size", ct.c_size_t),
        ("btf", ct.c_uint32),
        ("btf_key_type", ct.c_uint32),
        ("btf_value_type", ct.c_uint32),
        ("btf_vmlinux_value_type", ct.c_uint32),
        ("inner_map", ct.c_uint32),
        ("flags", ct.c_uint32),
    ]


class _AttachOptions(ct.Structure):
    """struct bpf_xdp_attach_opts."""

    _fields_ = [("size", ct.c_size_t), ("old_fd", ct.c_int)]


class _RunOptions(ct.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = [
        ("size", ct.c_size_t),
        ("data_in", ct.c_void_p),
        ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint32),
        ("data_size_out", ct.c_uint32),
        ("ctx_in", ct.c_void_p),
        ("ctx_out", ct.c_void_p),
        ("ctx_size_in", ct.c_uint32),
        ("ctx_size_out", ct.c_uint32),
        ("retval", ct.c_uint32),
        ("repeat", ct.c_int),
        ("duration", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("cpu", ct.c_uint32),
        ("batch_size", ct.c_uint32),
    ]


class _XdpContext(ct.Structure):
    """struct xdp_md."""

    _fields_ = [
        ("data", ct.c_uint32),
        ("data_end", ct.c_uint32),
        ("data_meta", ct.c_uint32),
        ("ingress_ifindex", ct.c_uint32),
        ("rx_queue_index", ct.c_uint32),
        ("egress_ifindex", ct.c_uint32),
    ]


@dataclass(frozen=True)
class ProgramInfo:
    """A loaded program. Its tag depends on its instructions alone, not on the maps it uses."""

    id: int
    tag: str
    name: str
    map_ids: frozenset[int]


@dataclass(frozen=True)
class MapInfo:
    """A map as the kernel has it; sizes in bytes, value_size of one CPU."""

    id: int
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int


def require_bcc() -> Any:
    """bcc's BPF class. Raises BpfError when this Python has no bcc."""
    if BPF is None:
        raise BpfError(
            f"this Python cannot import bcc ({BCC_IMPORT_ERROR}): install python3-bpfcc and run "
            "the module with the distribution's Python (ansible_python_interpreter: "
            "/usr/bin/python3)"
        )
    return BPF


def _checked(result: int, what: str) -> int:
    """libbpf's answer; it is -errno, or -1 with errno set."""
    if result >= 0:
        return result
    raise BpfError(what, -result if result < -1 else ct.get_errno())


@contextlib.contextmanager
def closing(fd: int) -> Iterator[int]:
    """Closes the descriptor at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def is_bpffs(directory: Path) -> bool:
    """Whether the directory lies in a BPF file system (the magic of statfs(2), by libc)."""
    libc = ct.CDLL(None, use_errno=True)
    buffer = (ct.c_long * 32)()  # larger than any struct statfs; f_type is its first word
    if libc.statfs(os.fsencode(directory), ct.byref(buffer)):
        return False
    return buffer[0] & 0xFFFFFFFF == BPF_FS_MAGIC


def open_pin(path: Path) -> int | None:
    """The pinned object, or None when there is no such pin; that can be told without bcc."""
    if not path.exists():
        return None
    require_bcc()
    return _checked(lib.bpf_obj_get(os.fsencode(path)), f"open {path}")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int | None]:
    """The pinned object until the end, or None when there is no such pin."""
    fd = open_pin(path)
    if fd is None:
        yield None
        return
    with closing(fd):
        yield fd


def replace_pin(fd: int, path: Path) -> None:
    """Pins the object at path, in place of what was there, in one step."""
    fresh = path.with_name(path.name + "_new")  # a BPF file system allows no dots
    fresh.unlink(missing_ok=True)
    _checked(lib.bpf_obj_pin(fd, os.fsencode(fresh)), f"pin {path}")
    fresh.replace(path)


def _object_info(fd: int, info: ct.Structure) -> None:
    length = ct.c_uint32(ct.sizeof(info))
    _checked(
        lib.bpf_obj_get_info_by_fd(fd, ct.byref(info), ct.byref(length)), "ask for a BPF object"
    )


def map_info(fd: int) -> MapInfo:
    info = _MapInfo()
    _object_info(fd, info)
    return MapInfo(
        info.id, info.name.decode(), info.type, info.key_size, info.value_size, info.max_entries
    )


def program_info(fd: int) -> ProgramInfo:
    ids = (ct.c_uint32 * 64)()
    info = _ProgramInfo(map_count=len(ids), map_ids=ct.addressof(ids))
    _object_info(fd, info)
    used = frozenset(ids[: info.map_count])
    return ProgramInfo(info.id, bytes(info.tag).hex(), info.name.decode(), used)


def open_program(program_id: int) -> int:
    require_bcc()
    return _checked(
        lib.bpf_prog_get_fd_by_id(ct.c_uint32(program_id)), f"open program {program_id}"
    )


def open_map(map_id: int) -> int:
    require_bcc()
    return _checked(lib.bpf_map_get_fd_by_id(ct.c_uint32(map_id)), f"open map {map_id}")


def create_array(value_size: int, max_entries: int, name: str) -> int:
    """A new array map whose memory can be mapped, gone with its last user."""
    array_type = 2  # BPF_MAP_TYPE_ARRAY
    options = _MapOptions(ct.sizeof(_MapOptions), flags=1 << 10)  # BPF_F_MMAPABLE
    fd = lib.bpf_map_create(
        array_type, name.encode(), 4, value_size, max_entries, ct.byref(options)
    )
    return _checked(fd, f"create an array of {max_entries} entries")


def look_up(fd: int, key: Any, value: Any) -> bool:
    """Fills value; False when there is no such key."""
    if lib.bpf_lookup_elem(fd, ct.byref(key), ct.byref(value)) == 0:
        return True
    if ct.get_errno() == errno.ENOENT:
        return False
    raise BpfError("look up an entry", ct.get_errno())


def update(fd: int, key: Any, value: Any, what: str) -> None:
    """Writes one entry; `what` names it in the error."""
    if lib.bpf_update_elem(fd, ct.byref(key), ct.byref(value), 0):
        raise BpfError(what, ct.get_errno())


def delete(fd: int, key: Any, what: str) -> None:
    """Removes one entry; one that is not there is fine."""
    if lib.bpf_delete_elem(fd, ct.byref(key)) and ct.get_errno() != errno.ENOENT:
        raise BpfError(what, ct.get_errno())


def update_batch(fd: int, keys: Any, values: Any, what: str) -> None:
    """Writes entries, ctypes arrays of one length; `what` names them in the error."""
    count = ct.c_uint32(len(keys))
    if lib.bpf_update_batch(fd, keys, values, ct.byref(count)):
        raise BpfError(what, ct.get_errno())


def delete_batch(fd: int, keys: Any, what: str) -> None:
    """Removes entries that are there."""
    count = ct.c_uint32(len(keys))
    if lib.bpf_delete_batch(fd, keys, ct.byref(count)):
        raise BpfError(what, ct.get_errno())


def read_batches(
    fd: int, key_type: Any, value_type: Any, entries: int
) -> Iterator[tuple[Any, Any, int]]:
    """All entries of a map, as (keys, values, count) a batch; keys and values are ctypes arrays."""
    size = min(entries, _BATCH)
    keys, values = (key_type * size)(), (value_type * size)()
    # Where to go on: a hash's bucket, an array's index, a trie's key.
    token = (ct.c_uint32 * 8)()
    begin = None
    while True:
        count = ct.c_uint32(size)
        begin_at = ct.cast(begin, ct.POINTER(ct.c_uint32)) if begin else None
        token_at = ct.cast(token, ct.POINTER(ct.c_uint32))
        failed = lib.bpf_lookup_batch(fd, begin_at, token_at, keys, values, ct.byref(count))
        number = ct.get_errno() if failed else 0
        if number == errno.ENOSPC:  # the next bucket of a hash is larger than the whole batch
            size *= 2
            keys, values = (key_type * size)(), (value_type * size)()
            continue
        if number not in (0, errno.ENOENT):
            raise BpfError("read a map", number)
        yield keys, values, count.value
        if number:
            return
        begin = token


def write_array(fd: int, values: bytes) -> None:
    """Fills an array of `create_array` from its start on; its values are multiples of 8 bytes."""
    with _mapped(fd, len(values), mmap.ACCESS_WRITE) as memory:
        memory[:] = values


def write_word(fd: int, size: int, index: int, word: int) -> None:
    """Writes one of the 64-bit words of such an array of `size` bytes at once."""
    with _mapped(fd, size, mmap.ACCESS_WRITE) as memory:
        ct.c_uint64.from_buffer(memory, 8 * index).value = word


def read_array(fd: int, size: int) -> bytes:
    """The first `size` bytes of such an array, entry after entry."""
    with _mapped(fd, size, mmap.ACCESS_READ) as memory:
        return bytes(memory)


def _mapped(fd: int, size: int, access: int) -> mmap.mmap:
    try:
        return mmap.mmap(fd, size, access=access)
    except OSError as error:
        raise BpfError("map the memory of an array", error.errno or 0) from error


def ring_buffer_callback(take: Callable[[Any, int, int], int]) -> Any:
    """What bcc calls for each record with its address and size; to be kept while it may. An error
    in it is lost. A result below 0 ends the poll.
    """
    require_bcc()
    return ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_int)(take)


def open_ring_buffer(fd: int, callback: Any) -> int:
    """A reader of a ring buffer, of which there can be one at a time.

    callback: of `ring_buffer_callback`.
    """
    reader = lib.bpf_new_ringbuf(fd, callback, None)
    if not reader:
        raise BpfError("read a ring buffer", ct.get_errno())
    return int(reader)


def poll_ring_buffer(reader: int, milliseconds: int) -> None:
    """Hands over the records that are there; waits for the first so long."""
    lib.bpf_poll_ringbuf(reader, milliseconds)


def close_ring_buffer(reader: int) -> None:
    lib.bpf_free_ringbuf(reader)


def attach_xdp(interface: int, fd: int, mode: str, expected: int | None) -> None:
    """Makes fd the interface's XDP program, -1 for none, if `expected` (None: none) is there now.

    Raises BpfError with EEXIST or EBUSY when another program is there, EOPNOTSUPP when the driver
    has no native mode.
    """
    flags = XDP_MODE_FLAGS[mode]
    if expected is None:
        flags |= XDP_FLAGS_UPDATE_IF_NOEXIST
    options = _AttachOptions(ct.sizeof(_AttachOptions), expected or 0)
    result = lib.bpf_xdp_attach(interface, fd, ct.c_uint32(flags), ct.byref(options))
    _checked(result, "attach an XDP program")


def run_xdp(fd: int, frame: bytes, ingress: int = 1, mark: bytes = b"") -> tuple[int, bytes]:
    """What the program makes of a frame that came in by an interface: its verdict, and the frame.

    BPF_PROG_TEST_RUN, Documentation/bpf/bpf_prog_run.rst: maps and routes are the live ones. mark:
    the frame's metadata, a multiple of 4 bytes.
    """
    options, out = run_options(frame, ingress, mark=mark)
    test_run(fd, options)
    return options.retval, out.raw[len(mark) : options.data_size_out]


def test_run(fd: int, options: _RunOptions) -> None:
    """BPF_PROG_TEST_RUN; fills the options."""
    # Not lib.NAME, which bcc 0.31 has bound to a struct of its own.
    run = lib["bpf_prog_test_run_opts"]
    _checked(run(fd, ct.byref(options)), "run a program on a packet")


def run_options(
    frame: bytes, ingress: int, repeat: int = 1, mark: bytes = b""
) -> tuple[_RunOptions, Any]:
    """What bpf_prog_test_run_opts is called with, and the buffer that the frame comes out in."""
    given = mark + frame
    data = ct.create_string_buffer(given, len(given))
    out = ct.create_string_buffer(len(given) + 256)
    context = _XdpContext(data=len(mark), data_end=len(given), ingress_ifindex=ingress)
    options = _RunOptions(
        size=ct.sizeof(_RunOptions),
        data_in=ct.addressof(data),
        data_out=ct.addressof(out),
        data_size_in=len(given),
        data_size_out=len(out),
        ctx_in=ct.addressof(context),
        ctx_size_in=ct.sizeof(context),
        repeat=repeat,
    )
    options.keep = data, context  # as long as the kernel may read them
    return options, out
