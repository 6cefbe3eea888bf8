# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of an interface, one function each to look, to write, and to tell what is wanted of it.

Private to the collection. Values are plain data, so that they can be remembered. What a driver does
not have is an OSError of the kernel's, or Impossible with the reason.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import _cpus, _ethtool
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_links import (
    HALF_OF_QUEUES,
    OFFLOADS,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_see_ethtool import driver

HASH_LETTERS = {"s": 1 << 4, "d": 1 << 5, "f": 1 << 6, "n": 1 << 7}
"""RXH_* of linux/ethtool.h by ethtool's letters: addresses, then ports, source and destination."""

_KEY = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})+")
_NAPI = ("napi_defer_hard_irqs", "gro_flush_timeout")


class TuningError(L4lbError):
    """An argument is wrong, or something that is required is not possible."""


class Impossible(L4lbError):
    """The interface does not have that; the text says what it lacks."""


@dataclass(frozen=True)
class Tuning:
    """What is wanted, in a person's words; an empty text, and False, leave a setting as it is."""

    cpus: str = ""
    queues: str = ""
    affinity: bool = False
    hash_fields: str = ""
    hash_key: str = ""
    lro_off: bool = False
    ring_rx: str = ""
    ring_tx: str = ""
    napi_defer_hard_irqs: str = ""
    gro_flush_timeout: str = ""

    def __post_init__(self) -> None:
        """Raises TuningError naming the argument."""
        for name, word in (("queues", "cpus"), ("ring_rx", "max"), ("ring_tx", "max")):
            _require_number(name, getattr(self, name), word, least=1)
        for name in _NAPI:
            _require_number(name, getattr(self, name), "", least=0)
        if set(self.hash_fields) - set(HASH_LETTERS):
            raise TuningError(
                f"hash_fields: {self.hash_fields!r} has other letters than s, d (addresses), f and "
                "n (ports), as in sdfn"
            )
        try:
            unknown = set(_cpus.parse_cpus(self.cpus)) - set(_cpus.online())
        except ValueError as error:
            raise TuningError(f"cpus: {error}") from None
        if unknown:
            raise TuningError(
                f"cpus: {_cpus.write_cpus(unknown)} not online here; those that are: "
                f"{_cpus.write_cpus(_cpus.online())}"
            )

    @property
    def own_cpus(self) -> tuple[int, ...]:
        return _cpus.parse_cpus(self.cpus) or _cpus.online()


def _require_number(name: str, value: str, word: str, least: int) -> None:
    if value in ("", word) or (value.isdecimal() and least <= int(value) < 1 << 31):
        return
    words = f", or {word}" if word else ""
    raise TuningError(f"{name}: {value!r} is no number from {least}{words}")


@dataclass(frozen=True)
class Setting:
    """`read`, `write` and `wanted` take the interface first; `wanted` returns the value that the
    tuning asks for there, and `is_wanted` whether it asks for any.
    """

    name: str
    is_wanted: Callable[[Tuning], bool]
    read: Callable[[str], Any]
    write: Callable[[str, Any], None]
    wanted: Callable[[str, Tuning], Any]
    kept: bool = True  # whether what was there before is remembered, to be put back


def _read_offloads(interface: str) -> dict[str, bool]:
    known = _ethtool.offloads(interface)
    return {name: known[name] for name in OFFLOADS if name in known}


def _no_offloads(interface: str, _tuning: Tuning) -> dict[str, bool]:
    return dict.fromkeys(_read_offloads(interface), False)


def _read_queues(interface: str) -> dict[str, int]:
    return dict(vars(_ethtool.queues(interface)[0]))


def _write_queues(interface: str, value: dict[str, int]) -> None:
    _ethtool.set_queues(interface, _ethtool.Queues(**value))


def _wanted_queues(interface: str, tuning: Tuning) -> dict[str, int]:
    """cpus: as many as there are CPUs, or as the driver can; a number has to be possible."""
    _now, most = _ethtool.queues(interface)
    limit = most.combined or most.rx
    if driver(interface) in HALF_OF_QUEUES:
        limit = max(limit // 2, 1)  # the others are for XDP to send by
    count = min(len(tuning.own_cpus), limit) if tuning.queues == "cpus" else int(tuning.queues)
    if count > limit:
        raise Impossible(f"the driver has {limit} queues at most")
    if most.combined:
        return {"rx": 0, "tx": 0, "combined": count}
    return {"rx": count, "tx": min(count, most.tx), "combined": 0}


def _read_ring(which: str, interface: str) -> int:
    return int(getattr(_ethtool.rings(interface)[0], which))


def _write_ring(which: str, interface: str, value: int) -> None:
    _ethtool.set_ring(interface, which, value)


def _wanted_ring(which: str, interface: str, tuning: Tuning) -> int:
    most = int(getattr(_ethtool.rings(interface)[1], which))
    word = getattr(tuning, f"ring_{which}")
    if word == "max":
        return most
    if int(word) > most:
        raise Impossible(f"the driver takes {most} packets at most")
    return int(word)


def _read_key(interface: str) -> str:
    key = _ethtool.hash_key(interface)
    if not key:
        raise Impossible("the driver has no key")
    return key.hex(":")


def _write_key(interface: str, value: str) -> None:
    _ethtool.set_hash_key(interface, bytes.fromhex(value.replace(":", "")))


def _wanted_key(interface: str, tuning: Tuning) -> str:
    return key_of(tuning.hash_key, len(_ethtool.hash_key(interface)))


def key_of(text: str, length: int) -> str:
    """Bytes in hexadecimal with colons as they are, else a key of that length derived from the text
    (SHAKE256): the beginning of a longer one is the shorter one, so that NICs with keys of 40 and
    of 52 bytes hash the same, of which no more than 40 are used.
    """
    if not _KEY.fullmatch(text):
        return hashlib.shake_256(text.encode()).digest(length).hex(":")
    if len(text.split(":")) != length:
        raise Impossible(f"its key has {length} bytes, not {len(text.split(':'))}")
    return text.lower()


def _read_fields(flow: str, interface: str) -> int:
    return _ethtool.hash_fields(interface, flow)


def _write_fields(flow: str, interface: str, value: int) -> None:
    _ethtool.set_hash_fields(interface, flow, value)


def _wanted_fields(_interface: str, tuning: Tuning) -> int:
    return sum(HASH_LETTERS[letter] for letter in set(tuning.hash_fields))


def _read_affinity(interface: str) -> dict[str, str]:
    numbers = _cpus.queue_cpus(interface, _cpus.online())
    if not numbers:
        raise Impossible("it has no interrupts that are known to be its queues'")
    return {str(number): _cpus.write_cpus(_cpus.affinity(number)) for number in numbers}


def _write_affinity(interface: str, value: dict[str, str]) -> None:
    now = _read_affinity(interface)
    for number, cpus in value.items():
        if now.get(number) != cpus:
            _cpus.set_affinity(int(number), _cpus.parse_cpus(cpus))


def _wanted_affinity(interface: str, tuning: Tuning) -> dict[str, str]:
    spread = _cpus.queue_cpus(interface, tuning.own_cpus)
    return {str(number): str(cpu) for number, cpu in spread.items()}


def default_affinity(interface: str) -> dict[str, str]:
    """What the interrupts of the queues have where nobody cares."""
    cpus = _cpus.write_cpus(set(_cpus.default_affinity()) & set(_cpus.online()))
    return dict.fromkeys(_read_affinity(interface), cpus)


def _read_napi(name: str, interface: str) -> int:
    return int((_cpus.NET / interface / name).read_text(encoding="ascii"))


def _write_napi(name: str, interface: str, value: int) -> None:
    (_cpus.NET / interface / name).write_text(str(value), encoding="ascii")


def _wanted_napi(name: str, _interface: str, tuning: Tuning) -> int:
    return int(getattr(tuning, name))


def _is_given(name: str, tuning: Tuning) -> bool:
    return bool(getattr(tuning, name))


SETTINGS = (
    Setting(
        "lro", partial(_is_given, "lro_off"), _read_offloads, _ethtool.set_offloads, _no_offloads
    ),
    Setting("queues", partial(_is_given, "queues"), _read_queues, _write_queues, _wanted_queues),
    *(
        Setting(
            f"ring_{which}",
            partial(_is_given, f"ring_{which}"),
            partial(_read_ring, which),
            partial(_write_ring, which),
            partial(_wanted_ring, which),
        )
        for which in ("rx", "tx")
    ),
    Setting("hash_key", partial(_is_given, "hash_key"), _read_key, _write_key, _wanted_key),
    *(
        Setting(
            f"hash_fields {flow}",
            partial(_is_given, "hash_fields"),
            partial(_read_fields, flow),
            partial(_write_fields, flow),
            _wanted_fields,
        )
        for flow in ("tcp4", "udp4", "tcp6", "udp6")
    ),
    *(
        Setting(
            name,
            partial(_is_given, name),
            partial(_read_napi, name),
            partial(_write_napi, name),
            partial(_wanted_napi, name),
        )
        for name in _NAPI
    ),
    # Interrupts have other numbers after a boot, and after a change of queues.
    Setting(
        "affinity",
        partial(_is_given, "affinity"),
        _read_affinity,
        _write_affinity,
        _wanted_affinity,
        kept=False,
    ),
)
"""In the order in which they are written: a change of queues makes other interrupts, and some
drivers forget key and fields with it."""


def shown(name: str, value: Any) -> str:
    """A value as a person reads it."""
    if name == "lro":
        on = [OFFLOADS[feature] for feature, enabled in value.items() if enabled]
        return " and ".join(on) + " on" if on else "off"
    if name == "queues":
        return ", ".join(f"{count} {kind}" for kind, count in value.items() if count)
    if name == "hash_key":
        digest = hashlib.sha256(value.encode()).hexdigest()[:8]
        return f"of {len(value.split(':'))} bytes, {digest}"
    if name.startswith("hash_fields"):
        return "".join(letter for letter, bit in HASH_LETTERS.items() if value & bit) or hex(value)
    if name == "affinity":
        return ", ".join(f"{number} on CPU {cpus}" for number, cpus in value.items())
    return str(value)
