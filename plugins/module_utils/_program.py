# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program's life on a node: compile, prove, attach, replace, detach.

Private to the collection. `prepare` leaves a program that is compiled, proven and pinned, but
sees no packet; `attach` makes it the interfaces' program, each in one step that expects what was
there before.
"""

from __future__ import annotations

import ctypes as ct
import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _bpf, _link_kinds, _links, _rates
from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import (
    LAYOUT_REMEDY,
    check_pins,
    compile_unit,
    differing,
    load,
    pin_names,
    pinned_sizes,
    require_bpffs,
    require_headers,
    schema,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import Wanted

KEY_MAP = {"balancer": "settings", "decap": "tunnel_ends"}
"""The programs there are, and a map that only ours uses: by it we know our own."""

OLD, PREVIOUS = "balancer_old", "balancer_previous"
"""Pins of the program before an upgrade, during it and after it (_upgrade_state.py)."""

ANYBODY = ("::/0",)
"""IPv4 included, which is mapped into it."""

XDP_PASS = 2


class ProgramError(L4lbError):
    """The program cannot be attached, or must not be."""


@dataclass(frozen=True)
class Loaded:
    """A program in the kernel, proven and not attached; `changed`: whether maps were written."""

    wanted: Wanted
    compiled: Any
    fd: int
    info: _bpf.ProgramInfo
    changed: bool


@dataclass(frozen=True)
class Attachment:
    """What an interface runs."""

    interface: str
    mode: str | None
    tag: str | None
    program: str | None

    def __str__(self) -> str:
        if self.mode is None:
            return f"{self.interface}: none"
        return f"{self.interface}: {self.program} {self.tag} {self.mode}"


def prepare(wanted: Wanted, dry: bool = False) -> Loaded:
    """Compiles and proves the program and brings its own maps up to date; `dry` writes nothing.

    Dry needs the pinned maps to be there already: see `can_compile_dry`.
    """
    require_bpffs(wanted.pins)
    if wanted.name == "balancer":
        _require_layout(wanted, dry)
    compiled = compile_unit(wanted.unit, wanted.pins, wanted.sizes)
    check_pins(wanted.unit, wanted.pins, compiled)
    fd = load(compiled, wanted.name)
    _prove(fd, wanted.name)
    configure = _configure_balancer if wanted.name == "balancer" else _configure_decap
    changed = configure(compiled, wanted, dry)
    return Loaded(wanted, compiled, fd, _bpf.program_info(fd), changed)


def require_ready(wanted: Wanted) -> None:
    """Raises L4lbError when a library, sources, kernel headers or the bpffs are missing."""
    _bpf.require_bcc()
    _links.require_libraries()
    require_headers()
    require_bpffs(wanted.pins)
    pin_names(wanted.unit)


def can_compile_dry(wanted: Wanted) -> bool:
    """Whether compiling would create nothing: all maps are pinned already."""
    return all((wanted.pins / name).exists() for name in pin_names(wanted.unit))


def _require_layout(wanted: Wanted, dry: bool) -> None:
    pinned = pinned_sizes(wanted.pins, wanted.source)
    if pinned is None:
        if not dry:
            _remove_pins(wanted)  # of a run that was killed before its maps were complete
        return
    difference = differing(pinned, wanted.sizes)
    if difference:
        raise ProgramError(f"the pinned maps have other sizes ({difference}): {LAYOUT_REMEDY}")


_FOREIGN_FRAMES = {
    "an ARP request": bytes.fromhex("ffffffffffff02000000000108060001080006040001") + bytes(38),
    "a truncated IPv4 header": bytes.fromhex("02000000000202000000000108004500"),
}


def _prove(fd: int, name: str) -> None:
    """Runs the loaded program on frames that are nobody's: they must come out as they went in."""
    for what, frame in _FOREIGN_FRAMES.items():
        verdict, out = _bpf.run_xdp(fd, frame)
        if (verdict, out) != (XDP_PASS, frame):
            raise ProgramError(
                f"{name} does not pass {what} unchanged (verdict {verdict}): not attached"
            )


def _configure_balancer(compiled: Any, wanted: Wanted, dry: bool) -> bool:
    """Writes the node's settings, and last the schema's layout: from then on the maps count."""
    words = schema(wanted.source)
    table = compiled[b"settings"]
    new = table.Leaf(
        hash_seed=wanted.hash_seed,
        other_ports=words.value("other_ports", wanted.other_ports),
        echo=words.value("echo", wanted.echo),
        gue_port=socket.htons(wanted.gue_port),
        guards=table[0].guards,  # l4lb.xdp.services'
        new_records=wanted.new_records,
        record_interval=_rates.interval(wanted.new_records, _rates.cpus()),
    )
    _put_sources(new.own, wanted.source_ipv4, wanted.source_ipv6)
    _put_sources(
        new.outer,
        wanted.source_prefix_ipv4 or wanted.source_ipv4,
        wanted.source_prefix_ipv6 or wanted.source_ipv6,
    )
    changed = bytes(table[0]) != bytes(new)
    layout = words.value("schema", "layout")
    unfinished = compiled[b"schema"][layout].value != words.version
    if not dry:
        if changed:
            table[0] = new
        if unfinished:
            compiled[b"schema"][words.value("schema", "ring_size")] = ct.c_uint64(wanted.sizes.ring)
            compiled[b"schema"][layout] = ct.c_uint64(words.version)
    return changed or unfinished


def _put_sources(sources: Any, *addresses: str | None) -> None:
    """Fills a struct sources: addresses, and of prefixes the bits that flows differ by."""
    for text in addresses:
        if not text:
            continue
        address, _slash, length = text.partition("/")
        raw = packed(address)
        ipv6 = len(raw) == 16
        field = type(sources).ipv6 if ipv6 else type(sources).ipv4
        ct.memmove(ct.addressof(sources) + field.offset, raw, len(raw))
        free = len(raw) * 8 - int(length) if length else 0
        spread = socket.htonl((1 << free) - 1)
        if ipv6:
            sources.spread6 = spread
        else:
            sources.spread4 = spread


def _configure_decap(compiled: Any, wanted: Wanted, dry: bool) -> bool:
    """Opens the tunnels that should end here and closes those that should not."""
    ports = compiled[b"tunnel_port"]
    port = ct.c_uint16(socket.htons(wanted.gue_port))
    other_port = ports[0].value != port.value
    ends = {packed(address).ljust(16, b"\0") for address in wanted.addresses}
    sources = {_trie_key(prefix) for prefix in wanted.sources or ANYBODY}
    others = _keep(compiled[b"tunnel_ends"], ends, dry)
    others |= _keep(compiled[b"tunnel_sources"], sources, dry)
    if other_port and not dry:
        ports[0] = port
    return others or other_port


def _keep(table: Any, wanted: set[bytes], dry: bool) -> bool:
    """Makes these the keys of a set; returns whether they were others. New ones first, so that what
    stays allowed is so throughout; but where there is no room, the narrowest old ones make it.
    """
    have = {bytes(key) for key in table}
    gone = sorted(have - wanted, reverse=True)
    surplus = max(0, len(have | wanted) - table.max_entries)
    if not dry:
        _remove(table, gone[:surplus])
        for key in wanted - have:
            table[table.Key.from_buffer_copy(key)] = ct.c_uint8(1)
        _remove(table, gone[surplus:])
    return have != wanted


def _remove(table: Any, keys: list[bytes]) -> None:
    for key in keys:
        del table[table.Key.from_buffer_copy(key)]


def _trie_key(prefix: str) -> bytes:
    """struct tunnel_source."""
    address, _slash, bits = prefix.partition("/")
    data = packed(address)
    mapped = data if len(data) == 16 else bytes(10) + b"\xff\xff" + data
    return struct.pack("=I16s", int(bits) + 8 * (16 - len(data)), mapped)


def attachments(wanted: Wanted) -> dict[str, Attachment]:
    """What each wanted interface runs now."""
    found = {}
    for name in wanted.interfaces:
        seen = _links.xdp(name)
        if seen.program_id is None:
            found[name] = Attachment(name, None, None, None)
            continue
        info = _info(seen.program_id)
        found[name] = Attachment(name, seen.mode, info.tag, info.name)
    return found


def running(pin: Path) -> tuple[_bpf.ProgramInfo | None, dict[str, str | None]]:
    """The pinned program, and the interfaces that run it in the order of their indices, with modes.

    None and no interfaces where nothing is pinned.
    """
    fd = _bpf.open_pin(pin)
    if fd is None:
        return None, {}
    with _bpf.closing(fd):
        pinned = _bpf.program_info(fd)
    seen = {link.name: _links.xdp(link.name) for link in _links.interfaces()}
    return pinned, {name: xdp.mode for name, xdp in seen.items() if xdp.program_id == pinned.id}


def differs(loaded: Loaded) -> list[str]:
    """The interfaces that do not run this program in this mode on the pinned maps."""
    return [name for name in loaded.wanted.interfaces if not _runs(loaded, name)]


def _runs(loaded: Loaded, name: str) -> bool:
    seen = _links.xdp(name)
    if seen.mode != loaded.wanted.mode or seen.program_id is None:
        return False
    info = _info(seen.program_id)
    # The same instructions on maps that are no longer pinned would balance by another inventory.
    return info.tag == loaded.info.tag and info.map_ids == loaded.info.map_ids


def attach(loaded: Loaded) -> list[str]:
    """Attaches where it differs, and pins the program; returns the interfaces that were changed."""
    wanted = loaded.wanted
    changed = differs(loaded)
    require_attachable(wanted, changed)
    for name in changed:  # nothing is touched when one of them must not be
        with _replaceable(wanted, name):
            pass
    for name in changed:
        _attach_one(loaded, name)
    pin = wanted.pins / wanted.name
    if changed or not pin.exists():
        _bpf.replace_pin(loaded.fd, pin)
    return changed


def require_attachable(wanted: Wanted, interfaces: Iterable[str]) -> None:
    """Raises ProgramError naming the first of these interfaces on which the balancer cannot do its
    work, whatever the kernel lets one attach. A real server's program ends tunnels anywhere.
    """
    if wanted.name != "balancer":
        return
    with _links.netlink() as ip:
        every = {message["index"]: message for message in ip.get_links()}
    indexes = {message.get_attr("IFLA_IFNAME"): index for index, message in every.items()}
    for name in interfaces:
        seen = _link_kinds.shape(indexes[name], every) if name in indexes else _link_kinds.Shape()
        judged = _link_kinds.judge(name, seen, wanted.mode)
        if judged.status == "failed":
            raise ProgramError(f"{name}: {judged.found}; {judged.remedy}")


def _attach_one(loaded: Loaded, name: str) -> None:
    mode = loaded.wanted.mode
    index = _links.interface(name).index
    with _replaceable(loaded.wanted, name) as (old_fd, old_mode):
        try:
            if old_mode not in (None, mode):
                # From native to generic or back the kernel has no step: for a moment none runs.
                _bpf.attach_xdp(index, -1, str(old_mode), old_fd)
                old_fd = None
            _bpf.attach_xdp(index, loaded.fd, mode, old_fd)
        except _bpf.BpfError as error:
            raise ProgramError(_why_not(name, mode, error)) from error


def _why_not(name: str, mode: str, error: _bpf.BpfError) -> str:
    if error.errno in (errno.EOPNOTSUPP, errno.EINVAL) and mode == "native":
        return (
            f"the driver of {name} does not take the program in native mode ({error}): "
            "set mode: generic, slower but everywhere, or look at the interface's MTU, queues "
            "and LRO"
        )
    if error.errno in (errno.EEXIST, errno.EBUSY):
        return f"the program of {name} was changed by somebody else meanwhile ({error}): run again"
    return f"{name}: {error}"


@contextmanager
def _replaceable(wanted: Wanted, name: str) -> Iterator[tuple[int | None, str | None]]:
    """The (descriptor, mode) of the program to replace; raises ProgramError when it is not ours."""
    seen = _links.xdp(name)
    if seen.program_id is None:
        yield None, None
        return
    with _bpf.closing(_bpf.open_program(seen.program_id)) as fd:
        info = _bpf.program_info(fd)
        if not (wanted.replace_foreign or is_ours(wanted.name, info)):
            raise ProgramError(
                f"{name} runs a foreign XDP program ({info.name}, id {info.id}, {seen.mode}): "
                "detach it, or set replace_foreign: true"
            )
        yield fd, seen.mode


def is_ours(name: str, info: _bpf.ProgramInfo) -> bool:
    """Name and key map tell, not the pins: these may be lost while the program still runs."""
    return info.name == name and any(
        _map_name(map_id) == KEY_MAP[info.name] for map_id in info.map_ids
    )


def _map_name(map_id: int) -> str:
    with _bpf.closing(_bpf.open_map(map_id)) as fd:
        return _bpf.map_info(fd).name


def release(wanted: Wanted, interfaces: Iterable[str]) -> list[str]:
    """Takes our program off these interfaces; foreign programs, and interfaces that are gone,
    stay.
    """
    changed = []
    for name in interfaces:
        try:
            seen = _links.xdp(name)
        except _links.NoSuchInterface:
            continue
        if seen.program_id is None:
            continue
        with _bpf.closing(_bpf.open_program(seen.program_id)) as fd:
            if not is_ours(wanted.name, _bpf.program_info(fd)):
                continue
            _bpf.attach_xdp(_links.interface(name).index, -1, str(seen.mode), fd)
        changed.append(name)
    return changed


def detach(wanted: Wanted) -> None:
    """Takes our program off the interfaces and its maps out of the pins."""
    release(wanted, wanted.interfaces)
    _remove_pins(wanted)


def is_detached(wanted: Wanted) -> bool:
    """Whether detach would find nothing to do."""
    if any(pin.exists() for pin in _pins(wanted)):
        return False
    running = (_links.xdp(name).program_id for name in wanted.interfaces)
    return not any(number and is_ours(wanted.name, _info(number)) for number in running)


def _info(program_id: int) -> _bpf.ProgramInfo:
    with _bpf.closing(_bpf.open_program(program_id)) as fd:
        return _bpf.program_info(fd)


def _pins(wanted: Wanted) -> list[Path]:
    """Every pin that is this program's."""
    programs = [wanted.name, OLD, PREVIOUS] if wanted.name == "balancer" else [wanted.name]
    return [wanted.pins / name for name in (*programs, *pin_names(wanted.unit))]


def _remove_pins(wanted: Wanted) -> None:
    for pin in _pins(wanted):
        pin.unlink(missing_ok=True)
