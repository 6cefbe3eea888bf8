# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program's life on real interfaces, and a node's life through restore."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from ansible_collections.l4lb.xdp.plugins.module_utils import _apply, _bpf, _links, _program
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._info import info
from ansible_collections.l4lb.xdp.plugins.module_utils._program import ProgramError
from ansible_collections.l4lb.xdp.plugins.module_utils._restore import restore
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import SchemaError, Sizes
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables
from ansible_collections.l4lb.xdp.plugins.module_utils._wanted import (
    MAX_TUNNEL_ENDS,
    MAX_TUNNEL_SOURCES,
    Wanted,
)

from .node import NODE4, SIZES, SOURCE, XDP_PASS, frame, interface

POOLS = {"web": {"backends": [{"address": "192.0.2.71"}, {"address": "192.0.2.72", "weight": 50}]}}
SERVICES = [
    {"name": "web", "address": "203.0.113.10", "port": 80, "protocol": "tcp", "pool": "web"}
]


@pytest.fixture
def wanted(pins: Path) -> Iterator[Wanted]:
    yield Wanted("balancer", ("eth0",), source=SOURCE, pins=pins, sizes=SIZES, source_ipv4=NODE4)
    for name in ("eth0", "eth1"):
        seen = _links.xdp(name)
        if seen.mode:
            with _bpf.closing(_bpf.open_program(seen.program_id)) as fd:
                _bpf.attach_xdp(interface(name), -1, seen.mode, fd)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def changed(wanted: Wanted, **fields: object) -> Wanted:
    return Wanted(**{**vars(wanted), **fields})


def foreign(mode: str = "native") -> _bpf.ProgramInfo:
    """Attaches somebody else's program to eth0."""
    fd = _bpf.BPF(text=b"int other(struct xdp_md *ctx) { return XDP_PASS; }").load_func(
        b"other", _bpf.BPF.XDP
    )
    _bpf.attach_xdp(interface("eth0"), fd.fd, mode, None)
    return _bpf.program_info(fd.fd)


def test_attach_then_nothing_to_do(wanted: Wanted, state: Path) -> None:
    first = _apply.attach_program(wanted, state)
    assert first.changed
    assert first.data["program"]["interfaces"][0]["mode"] == "native"
    program_id = _links.xdp("eth0").program_id
    again = _apply.attach_program(wanted, state)
    assert not again.changed
    assert _links.xdp("eth0").program_id == program_id


def test_dry_run_on_a_virgin_node_creates_nothing(wanted: Wanted, state: Path) -> None:
    outcome = _apply.attach_program(wanted, state, dry=True)
    assert outcome.changed
    assert outcome.warnings
    assert [path.name for path in wanted.pins.iterdir() if path.suffix != ".debug"] == []
    assert not state.exists()
    assert _links.xdp("eth0").mode is None


def test_dry_run_tells_what_would_change_and_changes_nothing(wanted: Wanted, state: Path) -> None:
    _apply.attach_program(wanted, state)
    assert not _apply.attach_program(wanted, state, dry=True).changed
    generic = _apply.attach_program(changed(wanted, mode="generic"), state, dry=True)
    assert generic.changed
    assert generic.before != generic.after
    seed = _apply.attach_program(changed(wanted, hash_seed=5), state, dry=True)
    assert "steered anew" in seed.warnings[0]
    assert seed.changed
    assert _links.xdp("eth0").mode == "native"
    assert Tables(wanted.pins, SOURCE).settings()["hash_seed"] == 0


@pytest.mark.parametrize(("old", "new"), [("native", "generic"), ("generic", "native")])
def test_mode_is_changed_and_reported(wanted: Wanted, state: Path, old: str, new: str) -> None:
    _apply.attach_program(changed(wanted, mode=old), state)
    outcome = _apply.attach_program(changed(wanted, mode=new), state)
    assert outcome.changed
    assert _links.xdp("eth0").mode == new


def test_interface_no_longer_wanted_is_released(wanted: Wanted, state: Path) -> None:
    _apply.attach_program(changed(wanted, interfaces=("eth0", "eth1")), state)
    assert _apply.attach_program(wanted, state).changed
    assert (_links.xdp("eth0").mode, _links.xdp("eth1").mode) == ("native", None)


def test_foreign_program_is_refused_and_left_alone(wanted: Wanted, state: Path) -> None:
    other = foreign()
    with pytest.raises(
        ProgramError, match=r"eth0 runs a foreign XDP program \(other.*replace_foreign"
    ):
        _apply.attach_program(changed(wanted, interfaces=("eth0", "eth1")), state)
    assert _links.xdp("eth0").program_id == other.id
    assert _links.xdp("eth1").mode is None


def test_foreign_program_is_replaced_when_told(wanted: Wanted, state: Path) -> None:
    foreign()
    outcome = _apply.attach_program(changed(wanted, replace_foreign=True), state)
    assert outcome.changed
    assert outcome.data["program"]["interfaces"][0]["program"] == "balancer"


def test_detach_leaves_nothing_and_foreign_programs_alone(wanted: Wanted, state: Path) -> None:
    _apply.attach_program(wanted, state)
    assert _apply.detach_program(wanted, state).changed
    assert _links.xdp("eth0").mode is None
    assert [path.name for path in wanted.pins.iterdir() if path.suffix != ".debug"] == []
    assert [path.name for path in state.iterdir()] == ["lock"]
    other = foreign()
    assert not _apply.detach_program(wanted, state).changed
    assert _links.xdp("eth0").program_id == other.id


def test_unknown_interface_is_named_with_those_that_exist(wanted: Wanted, state: Path) -> None:
    with pytest.raises(L4lbError, match=r"'eth7'.*eth0, eth1"):
        _apply.attach_program(changed(wanted, interfaces=("eth7",)), state)


def test_other_sizes_are_refused_with_the_remedy(wanted: Wanted, state: Path) -> None:
    _apply.attach_program(wanted, state)
    other = changed(wanted, sizes=Sizes(**{**vars(SIZES), "ring": 1021}))
    with pytest.raises(L4lbError, match=r"ring 251 -> 1021.*state: detached"):
        _apply.attach_program(other, state)
    assert not _apply.attach_program(wanted, state).changed


def test_maps_that_were_never_finished_are_made_anew(wanted: Wanted, state: Path) -> None:
    """As a run leaves them that was killed before it wrote the schema."""
    _program.compile_unit(wanted.unit, wanted.pins, Sizes(**{**vars(SIZES), "pools": 3}))
    assert _apply.attach_program(wanted, state).changed
    assert Tables(wanted.pins, SOURCE).sizes == SIZES


def test_no_bpf_file_system_is_named(wanted: Wanted, state: Path, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"not a BPF file system: start run-l4lb-bpf\.mount"):
        _apply.attach_program(changed(wanted, pins=tmp_path), state)


def test_driver_without_native_mode_is_named_with_the_remedy(wanted: Wanted, state: Path) -> None:
    with pytest.raises(ProgramError, match=r"driver of lo .* native mode .*set mode: generic"):
        _apply.attach_program(changed(wanted, interfaces=("lo",)), state)


def test_missing_headers_are_named_with_the_remedy(
    wanted: Wanted, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*release[:2], "0.0", *release[3:])))
    with pytest.raises(
        SchemaError, match=r"/lib/modules/0\.0/build does not exist; install linux-"
    ):
        _apply.attach_program(wanted, state)


def test_missing_bcc_is_named_with_the_remedy(
    wanted: Wanted, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bpf, "BPF", None)
    with pytest.raises(_bpf.BpfError, match=r"python3-bpfcc.*/usr/bin/python3"):
        _apply.attach_program(wanted, state)
    assert _apply.attach_program(wanted, state, dry=True).changed  # a role would install it


def test_services_without_balancer_say_so(wanted: Wanted, state: Path) -> None:
    with pytest.raises(SchemaError, match=r"run l4lb\.xdp\.program first"):
        _apply.apply_services(POOLS, SERVICES, True, wanted.pins, SOURCE, state)


def test_source_that_does_not_compile_names_the_line(
    wanted: Wanted, state: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "bpf-source"
    shutil.copytree(SOURCE, broken)
    (broken / "steer.h").write_text(
        (SOURCE / "steer.h").read_text() + "\nint broken(void) { nonsense }\n"
    )
    with pytest.raises(SchemaError, match=r"steer\.h:\d+:\d+: error: .*nonsense"):
        _apply.attach_program(changed(wanted, source=broken), state)


def test_services_are_applied_once_and_purged(wanted: Wanted, state: Path) -> None:
    _apply.attach_program(wanted, state)
    arguments = (wanted.pins, SOURCE, state)
    dry = _apply.apply_services(POOLS, SERVICES, True, *arguments, dry=True)
    assert dry.changed
    assert Tables(wanted.pins, SOURCE).actual().services == {}
    assert _apply.apply_services(POOLS, SERVICES, True, *arguments).changed
    assert not _apply.apply_services(POOLS, SERVICES, True, *arguments).changed
    more = [{**SERVICES[0], "name": "more", "port": 81}]
    added = _apply.apply_services(POOLS, more, False, *arguments)
    assert (added.changed, added.data["leftovers"]) == (True, True)
    assert len(Tables(wanted.pins, SOURCE).actual().services) == 2
    all_given = _apply.apply_services(POOLS, [*SERVICES, *more], False, *arguments)
    assert not all_given.data["leftovers"]
    assert _apply.apply_services({}, [], False, *arguments).data["leftovers"]
    purged = _apply.apply_services({}, [], True, *arguments)
    assert (purged.changed, purged.data["leftovers"]) == (True, False)
    actual = Tables(wanted.pins, SOURCE).actual()
    assert (actual.services, actual.pools) == ({}, {})
    assert {backend.state for backend in actual.backends.values()} == {"removed"}


def test_restore_brings_a_node_back_after_power_loss(wanted: Wanted, state: Path) -> None:
    _apply.attach_program(wanted, state)
    _apply.apply_services(POOLS, SERVICES, True, wanted.pins, SOURCE, state)
    before = info(wanted.pins, SOURCE)
    _program.detach(wanted)  # all that memory held is gone, what is on disk stays
    restore(state)
    after = info(wanted.pins, SOURCE)
    for what in ("services", "backends", "fingerprint", "settings"):
        assert after[what] == before[what]
    for what in ("tag", "interfaces"):
        assert after["program"][what] == before["program"][what]
    assert not _apply.attach_program(wanted, state).changed
    assert not _apply.apply_services(POOLS, SERVICES, True, wanted.pins, SOURCE, state).changed


# --- the far end ---

END4, END6 = "192.0.2.71", "2001:db8:2::71"
INNER4 = IP(src="198.51.100.2", dst="203.0.113.10") / TCP(dport=80) / Raw(b"payload")
INNER6 = IPv6(src="2001:db8:3::2", dst="2001:db8:100::10") / TCP(dport=80) / Raw(b"payload")


@pytest.fixture
def decap(pins: Path) -> int:
    wanted = Wanted("decap", ("eth1",), source=SOURCE, pins=pins, addresses=(END4, END6))
    return _program.prepare(wanted).fd


@pytest.mark.parametrize("inner", [INNER4, INNER6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("outer", "field"),
    [(IP(dst=END4), "proto"), (IPv6(dst=END6), "nh")],
    ids=["in IPv4", "in IPv6"],
)
def test_tunnel_that_ends_here_is_opened(
    decap: int, inner: Packet, outer: Packet, field: str
) -> None:
    header = outer.copy()
    setattr(header, field, 4 if isinstance(inner, IP) else 41)
    out = _bpf.run_xdp(decap, bytes(frame(header / Raw(bytes(inner)))))
    expected = Ether(dst=frame(inner).dst, src=frame(inner).src) / inner
    assert out == (XDP_PASS, bytes(expected))


@pytest.mark.parametrize(
    "packet",
    [
        frame(IP(dst="192.0.2.99", proto=4) / Raw(bytes(INNER4))),
        frame(IPv6(dst="2001:db8:2::99", nh=41) / Raw(bytes(INNER6))),
        frame(IP(dst=END4, proto=4, flags="MF") / Raw(bytes(INNER4))),
        frame(IP(dst=END4) / TCP(dport=22)),
        frame(IPv6(dst=END6) / TCP(dport=22)),
    ],
    ids=["other end", "other end, IPv6", "fragment", "SSH", "SSH over IPv6"],
)
def test_all_else_is_passed_untouched(decap: int, packet: Packet) -> None:
    assert _bpf.run_xdp(decap, bytes(packet)) == (XDP_PASS, bytes(packet))


def test_tunnel_ends_follow_the_addresses(pins: Path) -> None:
    wanted = Wanted("decap", ("eth1",), source=SOURCE, pins=pins, addresses=(END4,))
    fd = _program.prepare(wanted).fd
    packet = bytes(frame(IP(dst=END4, proto=4) / Raw(bytes(INNER4))))
    assert len(_bpf.run_xdp(fd, packet)[1]) == len(packet) - 20
    assert _program.prepare(changed(wanted, addresses=(END6,))).changed
    assert _bpf.run_xdp(fd, packet)[1] == packet


@pytest.mark.parametrize(
    ("argument", "prefix", "most"),
    [("addresses", "192.0.2.0", MAX_TUNNEL_ENDS), ("sources", "10.0.0.0", MAX_TUNNEL_SOURCES)],
)
def test_as_many_as_there_is_room_for_are_exchanged(
    pins: Path, argument: str, prefix: str, most: int
) -> None:
    entries = [str(ip_address(prefix) + i) for i in range(2 * most)]
    if argument == "sources":
        entries = [f"{entry}/32" for entry in entries]
    usual = Wanted("decap", ("eth1",), source=SOURCE, pins=pins, addresses=(END4,))
    for half in (entries[:most], entries[most:]):
        wanted = changed(usual, **{argument: tuple(half)})
        assert _program.prepare(wanted).changed
        assert not _program.prepare(wanted).changed
    with pytest.raises(Exception, match=r"Argument list too long|No space left"):
        _program.prepare(changed(usual, **{argument: (*half, entries[0])}))


NODE = "192.0.2.11"


def tunnelled(source: str) -> bytes:
    """To the tunnel end of the source's family."""
    if ":" in source:
        return bytes(frame(IPv6(src=source, dst=END6, nh=41) / Raw(bytes(INNER6))))
    return bytes(frame(IP(src=source, dst=END4, proto=4) / Raw(bytes(INNER4))))


@pytest.mark.parametrize(
    ("source", "opened"),
    [
        (NODE, True),
        ("192.0.2.12", False),
        ("198.18.255.1", True),
        ("198.20.0.1", False),
        ("2001:db8:1::11", True),
        ("2001:db8:1:1::11", False),
        ("::c000:20b", False),
    ],
)
def test_tunnel_is_opened_from_nodes_only(pins: Path, source: str, opened: bool) -> None:
    sources = (f"{NODE}/32", "198.18.0.0/15", "2001:db8:1::/64")
    ends = (END4, END6)
    wanted = Wanted("decap", ("eth1",), source=SOURCE, pins=pins, addresses=ends, sources=sources)
    fd = _program.prepare(wanted).fd
    packet = tunnelled(source)
    verdict, out = _bpf.run_xdp(fd, packet)
    assert verdict == XDP_PASS
    assert (out != packet) == opened


def test_who_is_a_node_follows(pins: Path) -> None:
    wanted = Wanted("decap", ("eth1",), source=SOURCE, pins=pins, addresses=(END4,))
    fd = _program.prepare(wanted).fd
    packet = tunnelled(NODE)
    assert _bpf.run_xdp(fd, packet)[1] != packet, "without any, all are"
    other = changed(wanted, sources=("192.0.2.12/32",))
    assert _program.prepare(other).changed
    assert not _program.prepare(other).changed
    assert _bpf.run_xdp(fd, packet)[1] == packet
    assert _program.prepare(wanted).changed
    assert _bpf.run_xdp(fd, packet)[1] != packet
