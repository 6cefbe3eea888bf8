# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's program should be: the arguments of l4lb.xdp.program, and the file restore reads.

Private to the collection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _applied, _rings
from ansible_collections.l4lb.xdp.plugins.module_utils._address import (
    canonical,
    canonical_prefix,
    packed,
    prefix,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._rates import MAX_RATE
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import PINS, SOURCE, Sizes

NAMES = ("balancer", "decap")

PREFIX_LENGTHS = {4: (8, 31), 6: (96, 127)}
"""Of what outer sources are spread over, by IP version: a flow's hash has 32 bits for it."""

MAX_BACKENDS = 65535
"""A slot has 16 bits for a backend."""

MAX_TUNNEL_ENDS, MAX_TUNNEL_SOURCES = 64, 4096
"""Of decap, as bpf/decap_maps.h has them."""

GUE_PORT = 6080
"""IANA's for Generic UDP Encapsulation."""


class WantedError(L4lbError):
    """An argument, or a file of what was applied, is not as it must be."""


@dataclass(frozen=True)
class Wanted:
    """What a node's program should be. `sizes` and what follows concerns the balancer, `addresses`
    and `sources` (prefixes; none: anybody) decap, and `gue_port` both: where packets go, and where
    they are taken, 0 for nowhere.
    """

    name: str
    interfaces: tuple[str, ...]
    mode: str = "native"
    replace_foreign: bool = False
    source: Path = Path(SOURCE)
    pins: Path = Path(PINS)
    sizes: Sizes = field(default_factory=Sizes)
    hash_seed: int = 0
    source_ipv4: str | None = None
    source_ipv6: str | None = None
    source_prefix_ipv4: str | None = None
    source_prefix_ipv6: str | None = None
    other_ports: str = "drop"
    echo: str = "answer"
    gue_port: int = GUE_PORT
    new_records: int = 0
    addresses: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def unit(self) -> Path:
        return self.source / f"{self.name}.c"

    def file(self, state_dir: Path) -> Path:
        return file_of(self.name, state_dir)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the file that restore reads."""
        return {
            **vars(self),
            "interfaces": list(self.interfaces),
            "addresses": list(self.addresses),
            "sources": list(self.sources),
            "source": str(self.source),
            "pins": str(self.pins),
            "sizes": vars(self.sizes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Wanted:
        return cls(
            **{
                **data,
                "interfaces": tuple(data["interfaces"]),
                "addresses": tuple(data["addresses"]),
                "sources": tuple(data.get("sources", ())),
                "source": Path(data["source"]),
                "pins": Path(data["pins"]),
                "sizes": Sizes(**data["sizes"]),
            }
        )


def file_of(name: str, state_dir: Path) -> Path:
    """Where it stands what the program of that name should be."""
    return state_dir / f"program-{name}.json"


def wanted_of(arguments: Mapping[str, Any]) -> Wanted:
    """The arguments of l4lb.xdp.program, validated. Raises WantedError naming the argument."""
    sizes = Sizes(
        ring=arguments["ring_size"],
        **{size: arguments[f"max_{size}"] for size in vars(Sizes()) if size != "ring"},
    )
    _require_sizes(sizes)
    seed = arguments["hash_seed"]
    if not 0 <= seed < 1 << 64:
        raise WantedError(f"hash_seed: {seed} is not within 0..2^64-1")
    gue_port = arguments["gue_port"]
    least = 0 if arguments["name"] == "decap" else 1
    if not least <= gue_port <= 65535:
        raise WantedError(f"gue_port: {gue_port} is not within {least}..65535")
    new_records = arguments["new_records"]
    if not 0 <= new_records <= MAX_RATE:
        raise WantedError(f"new_records: {new_records} is not within 0..{MAX_RATE} (a second)")
    interfaces = arguments["interfaces"]
    if not interfaces:
        raise WantedError("interfaces: name at least one")
    twice = sorted({name for name in interfaces if interfaces.count(name) > 1})
    if twice:
        raise WantedError(f"interfaces: {twice[0]} is named twice; name it once")
    for name, length in (("source_ipv4", 4), ("source_ipv6", 16)):
        if arguments[name] and len(packed(_address(name, arguments[name]))) != length:
            raise WantedError(f"{name}: {arguments[name]} is of the other family")
    ends = tuple(_address("addresses", text) for text in arguments["addresses"])
    sources = tuple(_prefix("sources", text) for text in arguments["sources"])
    _require_room("addresses", ends, MAX_TUNNEL_ENDS, "addresses at which tunnels end")
    _require_room("sources", sources, MAX_TUNNEL_SOURCES, "sources of tunnels; name prefixes")
    return Wanted(
        name=arguments["name"],
        interfaces=tuple(sorted(interfaces)),
        mode=arguments["mode"],
        replace_foreign=arguments["replace_foreign"],
        source=Path(arguments["source"]),
        pins=Path(arguments["pins"]),
        sizes=sizes,
        hash_seed=seed,
        source_ipv4=arguments["source_ipv4"] or None,
        source_ipv6=arguments["source_ipv6"] or None,
        source_prefix_ipv4=_source_prefix(arguments, 4),
        source_prefix_ipv6=_source_prefix(arguments, 6),
        other_ports=arguments["other_ports"],
        echo=arguments["echo"],
        gue_port=gue_port,
        new_records=new_records,
        addresses=ends,
        sources=sources,
    )


def _source_prefix(arguments: Mapping[str, Any], version: int) -> str | None:
    name, source = f"source_prefix_ipv{version}", f"source_ipv{version}"
    text = arguments.get(name)
    if not text:
        return None
    if not arguments[source]:
        raise WantedError(f"{name}: {text} needs {source}, the node's own address, besides")
    try:
        address, bits = prefix(text, version, *PREFIX_LENGTHS[version])
    except ValueError as error:
        raise WantedError(f"{name}: {text!r} {error}") from None
    return f"{address}/{bits}"


def _address(argument: str, text: str) -> str:
    try:
        return canonical(text)
    except ValueError as error:
        raise WantedError(f"{argument}: {text!r} {error}") from None


def _prefix(argument: str, text: str) -> str:
    try:
        return canonical_prefix(text)
    except ValueError as error:
        raise WantedError(f"{argument}: {text!r} {error}") from None


def _require_room(argument: str, entries: tuple[str, ...], most: int, what: str) -> None:
    count = len(set(entries))
    if count > most:
        raise WantedError(
            f"{argument}: {count} are given, a real server has room for {most} {what}"
        )


def _require_sizes(sizes: Sizes) -> None:
    if not _rings.is_prime(sizes.ring):
        raise WantedError(f"ring_size: {sizes.ring} is not a prime; 65537 is the usual one")
    if sizes.backends > MAX_BACKENDS:
        raise WantedError(f"max_backends: {sizes.backends} exceeds {MAX_BACKENDS}")
    for name, value in vars(sizes).items():
        if value < 2:
            raise WantedError(f"max_{name}: {value} is too small")


def remember(wanted: Wanted, state_dir: Path) -> bool:
    """Writes what restore shall bring back; returns whether that is news."""
    if is_remembered(wanted, state_dir):
        return False
    _applied.save(wanted.file(state_dir), wanted.as_dict())
    return True


def is_remembered(wanted: Wanted, state_dir: Path) -> bool:
    return bool(_applied.load(wanted.file(state_dir)) == wanted.as_dict())


def recall(path: Path) -> Wanted | None:
    """What `remember` wrote; None when there is nothing."""
    content = _applied.load(path)
    if content is None:
        return None
    try:
        return Wanted.from_dict(content)
    except (TypeError, KeyError) as error:
        raise WantedError(
            f"{path} is not of this version ({error}): apply with Ansible again"
        ) from error
