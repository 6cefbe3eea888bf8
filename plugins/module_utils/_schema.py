# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From C source to typed maps: compiles a unit with bcc, and reads the schema's sizes and words.

Private to the collection. `bpf/maps.h` is the one schema: structs come through bcc, and the words
of its enums (verdicts, states ...) are read from its text, so nothing is declared twice.
"""

from __future__ import annotations

import ctypes as ct
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._bpf import (
    BpfError,
    closing,
    is_bpffs,
    look_up,
    map_info,
    open_pin,
    require_bcc,
)

SOURCE = "/usr/lib/l4lb/bpf"
PINS = "/run/l4lb/bpf"

CLOCK_MONOTONIC_COARSE = 6
"""The data path's clock, of linux/time.h; the module time has no name for it."""

RING_BUFFER = 27
"""BPF_MAP_TYPE_RINGBUF."""

_INCLUDE = re.compile(r'\s*#include "([^"]+)"')
_ENUM = re.compile(r"\benum (\w+) \{(.*?)\};", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_PIN = re.compile(r'PINS "/(\w+)"')
LAYOUT = 5
"""SCHEMA_VERSION of the maps.h that this library is written for."""
_VERSION = re.compile(r"^#define SCHEMA_VERSION (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Sizes:
    """How many of each the maps hold; ring is the slots of a ring; flows, deny and allow (prefixes)
    are for each family.
    """

    ring: int = 65537
    services: int = 4096
    pools: int = 512
    backends: int = 16384
    flows: int = 1_000_000
    deny: int = 200_000
    allow: int = 200_000


class SchemaError(BpfError):
    """The source, or the maps that are pinned, are not what this version works with."""


@dataclass(frozen=True)
class Schema:
    """The words of maps.h: each enum's names, lower case and without the enum's prefix."""

    version: int
    enums: dict[str, tuple[str, ...]]

    def value(self, enum: str, word: str) -> int:
        return self.enums[enum].index(word)

    def word(self, enum: str, value: int) -> str:
        return self.enums[enum][value]


@lru_cache(maxsize=4)
def schema(source: Path) -> Schema:
    """Reads the words of maps.h in the source directory."""
    text = _COMMENT.sub("", _read(source / "maps.h"))
    version = _VERSION.search(text)
    if not version:
        raise SchemaError(f"{source / 'maps.h'} has no SCHEMA_VERSION")
    enums = {}
    for name, body in _ENUM.findall(text):
        words = [word.strip() for word in body.split(",") if word.strip()]
        enums[name] = tuple(word.lower()[len(name) + 1 :] for word in words)
    return Schema(int(version[1]), enums)


def other_layout(source: Path) -> str:
    """Why these modules do not manage a node whose release has maps of another layout, and what to
    do.
    """
    return (
        f"the release on this node ({source}) has maps of layout {schema(source).version}, and "
        f"these modules know {LAYOUT}: bring it to this release with l4lb.xdp.upgrade "
        "(l4lb_relayout=true), or run the release that it has"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SchemaError(
            f"cannot read {path} ({error.strerror}): "
            "the role l4lb.xdp.balancer installs the sources"
        ) from error


def unit(path: Path) -> str:
    """The source with its local includes in place: bcc rewrites map calls in the main file only."""
    return "\n".join(_lines(path, set()))


def _lines(path: Path, seen: set[Path]) -> Iterator[str]:
    seen.add(path)
    yield f'#line 1 "{path.name}"'
    for number, line in enumerate(_read(path).splitlines(), 1):
        include = _INCLUDE.match(line)
        if not include:
            yield line
            continue
        header = path.parent / include[1]
        if header not in seen:
            yield from _lines(header, seen)
        yield f'#line {number + 1} "{path.name}"'


def pin_names(path: Path) -> list[str]:
    """The names of the maps that a unit pins."""
    return _PIN.findall(unit(path))


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """What clang and the verifier print goes into the list instead of the caller's output."""
    lines: list[str] = []
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines.extend(file.read().decode(errors="replace").splitlines())


def require_headers() -> None:
    """bcc compiles against kernel headers. Raises SchemaError when there are none."""
    release = os.uname().release
    build = Path("/lib/modules", release, "build")
    if not build.is_dir() and not Path("/sys/kernel/kheaders.tar.xz").exists():
        raise SchemaError(
            f"no kernel headers: {build} does not exist; install linux-headers of any version "
            "and link it there (the role l4lb.xdp.balancer does)"
        )


def require_bpffs(pins: Path) -> None:
    """Raises SchemaError when the directory of the pins is no BPF file system."""
    if not is_bpffs(pins):
        raise SchemaError(
            f"{pins} is not a BPF file system: start run-l4lb-bpf.mount (the role l4lb.xdp.bpffs "
            f"installs it), or: mount -t bpf bpf {pins}"
        )


def jiffies_per_second() -> int:
    """CONFIG_HZ of the running kernel: coarse clocks go by jiffies. The headers' may be another."""
    return round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))


def compile_unit(path: Path, pins: Path, sizes: Sizes) -> Any:
    """bcc's BPF object of one unit. Opens the pinned maps that are there and pins those that are
    not.
    """
    bpf = require_bcc()
    require_headers()
    require_bpffs(pins)
    flags = [
        f"-DMAX_{name.upper()}={value}" for name, value in asdict(sizes).items() if name != "ring"
    ]
    flags += [f"-DRING_SIZE={sizes.ring}", f'-DPINS="{pins}"']
    flags += [f"-DJIFFIES_PER_SECOND={jiffies_per_second()}"]
    text = unit(path).encode()
    with captured_stderr() as output:
        try:
            return bpf(text=text, cflags=flags)
        except Exception as error:  # bcc raises plain Exception
            failure = str(error)
    errors = [line for line in output if "error:" in line] or output[-3:]
    raise SchemaError(f"{path.name} does not compile: {'; '.join([failure, *errors])}")


def load(compiled: Any, name: str, kind: str = "XDP") -> int:
    """The unit's program of that name, in the kernel; `compiled` owns the descriptor. kind: bcc's
    word for its type.
    """
    with captured_stderr() as output:
        try:
            return int(compiled.load_func(name.encode(), getattr(require_bcc(), kind)).fd)
        except Exception as error:  # bcc raises plain Exception
            failure = str(error)
    raise SchemaError(f"the kernel refuses {name}: {'; '.join([failure, *output[-3:]])}")


def check_pins(source: Path, pins: Path, compiled: Any) -> None:
    """bcc reuses a pin of another type or size in silence: raises SchemaError when one differs."""
    for name in pin_names(source):
        table, path = compiled[name.encode()], pins / name
        fd = open_pin(path)
        if fd is None:
            continue
        with closing(fd):
            info = map_info(fd)
        leaf = table.Leaf
        value_size = ct.sizeof(leaf._type_) if issubclass(leaf, ct.Array) else ct.sizeof(leaf)
        have = (info.type, info.key_size, info.value_size, info.max_entries)
        want = (table.ttype, ct.sizeof(table.Key), value_size, table.max_entries)
        if table.ttype == RING_BUFFER:  # its records have no keys, and any size
            want = (table.ttype, 0, 0, table.max_entries)
        if have != want:
            raise SchemaError(
                f"the map pinned at {path} is another one than this version's "
                f"(type, key, value, entries {have}, not {want}): {LAYOUT_REMEDY}"
            )


LAYOUT_REMEDY = (
    "a change of the maps' layout or sizes empties them: drain the node, run l4lb.xdp.program with "
    "state: detached, then apply again"
)

_PINNED_SIZES = {
    "services": "services4",
    "pools": "pools",
    "backends": "backends",
    "flows": "flows4",
    "deny": "deny4",
    "allow": "allow4",
}


def pinned_sizes(pins: Path, source: Path) -> Sizes | None:
    """The sizes of the maps that are pinned; None when there are none, or they were never finished.

    Raises SchemaError when their layout is another version's.
    """
    words = schema(source)
    fd = open_pin(pins / "schema")
    if fd is None:
        return None
    with closing(fd):
        layout = _schema_value(fd, words.value("schema", "layout"))
        ring = _schema_value(fd, words.value("schema", "ring_size"))
    if layout == 0:
        return None
    if layout != words.version:
        raise SchemaError(
            f"the maps pinned at {pins} have layout {layout}, this version works with "
            f"{words.version}: {LAYOUT_REMEDY}"
        )
    found = {"ring": ring}
    for size, name in _PINNED_SIZES.items():
        fd = open_pin(pins / name)
        if fd is None:
            return None
        with closing(fd):
            found[size] = map_info(fd).max_entries
    return Sizes(**found)


def prepared_sizes(pins: Path, source: Path) -> Sizes:
    """As pinned_sizes; raises SchemaError when there are none."""
    sizes = pinned_sizes(pins, source)
    if sizes is None:
        raise SchemaError(
            f"no balancer is prepared on this node (no maps at {pins}): run l4lb.xdp.program first"
        )
    return sizes


def _schema_value(fd: int, index: int) -> int:
    value = ct.c_uint64()
    look_up(fd, ct.c_uint32(index), value)
    return value.value


def differing(have: Sizes, want: Sizes) -> str:
    """The sizes that differ, as a text; empty when none does."""
    pairs = ((f.name, getattr(have, f.name), getattr(want, f.name)) for f in fields(Sizes))
    return ", ".join(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)
