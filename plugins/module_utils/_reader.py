# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading data that people wrote: every value checked, every mistake kept, none raised.

Private to the collection. A method that finds a mistake notes it and returns something harmless
(the default, an empty collection), so that reading goes on to the next mistake.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._address import (
    canonical,
    canonical_prefix,
    prefix_order,
)

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_INTEGER = re.compile(r"-?[0-9]{1,20}")

MOST_MISTAKES = 20
"""Of one list of prefixes: it may have a hundred thousand of the same kind."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def shown(value: Any) -> str:
    """A value in a message: short, whatever it is."""
    if value is None:
        return "null"
    try:
        return _short.repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, for one
        return f"a {type(value).__name__}"


def few(names: Iterable[str], limit: int = 10) -> str:
    """Names in a message: the first of them, sorted."""
    known = sorted(names)
    more = ", ..." if len(known) > limit else ""
    return (", ".join(known[:limit]) or "there are none") + more


class Reader:
    """Collects mistakes, one line each."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def add(self, mistake: str) -> None:
        """Note a mistake."""
        self.mistakes.append(mistake)

    def refuse(self, where: str, value: Any, why: str) -> None:
        """Note that the value of this variable is wrong, and why."""
        self.add(f"{where}: {shown(value)} {why}")

    def mapping(self, where: str, value: Any) -> Mapping[Any, Any]:
        """A mapping, empty if it is none."""
        if isinstance(value, Mapping):
            return value
        self.refuse(where, value, "is not a dictionary")
        return {}

    def sequence(self, where: str, value: Any) -> Sequence[Any]:
        """A list, empty if it is none; text is none."""
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
            return value
        self.refuse(where, value, "is not a list")
        return []

    def prefixes(self, where: str, value: Any) -> list[str]:
        """Prefixes in their canonical form, sorted; of many mistakes the first."""
        found: dict[str, int] = {}
        wrong = 0
        for i, entry in enumerate(self.sequence(where, value)):
            why = "is not text"
            if isinstance(entry, str):
                try:
                    first = found.setdefault(canonical_prefix(entry), i)
                except ValueError as error:
                    why = str(error)
                else:
                    if first == i:
                        continue
                    why = f"is [{first}], too"
            wrong += 1
            if wrong <= MOST_MISTAKES:
                self.refuse(f"{where}[{i}]", entry, why)
        if wrong > MOST_MISTAKES:
            self.add(f"{where}: has {wrong - MOST_MISTAKES} more mistakes")
        return sorted(found, key=prefix_order)

    def name(self, where: str, value: Any) -> str | None:
        """A name, or None."""
        if isinstance(value, str) and NAME.fullmatch(value):
            return str(value)
        self.refuse(where, value, "is not a name: a-z 0-9 _ . -, up to 63, the first a-z or 0-9")
        return None

    def fields(
        self, where: str, value: Any, shape: type, omit: str = "", state: str = ""
    ) -> Fields | None:
        """The entry that becomes a dataclass `shape`; None unless it is a dictionary.

        Refuses keys that shape does not have, and misses those without a default there. `omit`
        names a field that comes from elsewhere. `state`: the entry's own, present or absent, which
        shape does not have; an absent entry misses nothing.
        """
        if not isinstance(value, Mapping):
            self.refuse(where, value, "is not a dictionary")
            return None
        known = {f.name: f.default for f in fields(shape) if f.name != omit}
        if state:
            known["state"] = "present"
        for key in value:
            if key not in known:
                self.add(f"{where}: unknown key {shown(key)}; known are {', '.join(sorted(known))}")
        for key, default in known.items():
            if default is MISSING and key not in value and state != "absent":
                self.add(f"{where}.{key}: is missing")
        return Fields(self, where, value, known)


class Fields:
    """The keys of one entry. A key that is absent gives the default of its dataclass."""

    def __init__(
        self, reader: Reader, where: str, data: Mapping[Any, Any], defaults: Mapping[str, Any]
    ) -> None:
        self.reader = reader
        self.where = where
        self._data = data
        self._defaults = defaults
        self._refused: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def value(self, key: str) -> Any:
        """What was written under a key that is there."""
        return self._data[key]

    def _default(self, key: str, otherwise: Any) -> Any:
        default = self._defaults[key]
        return otherwise if default is MISSING or default is None else default

    def good(self, *keys: str) -> bool:
        """Whether all these keys are there and none was refused."""
        return all(key in self._data and key not in self._refused for key in keys)

    def refuse(self, key: str, value: Any, why: str) -> None:
        """Note that this key's value is wrong, and why."""
        self._refused.add(key)
        self.reader.refuse(f"{self.where}.{key}", value, why)

    def integer(self, key: str, low: int, high: int, note: str = "") -> int:
        """An integer from low to high, or one written as text; true and false are none."""
        default = int(self._default(key, low))
        if key not in self._data:
            return default
        value = self._data[key]
        number = value
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            number = int(value)
        if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
            return int(number)
        note = note and f" ({note})"
        self.refuse(key, value, f"is not an integer from {low} to {high}{note}")
        return default

    def choice(
        self, key: str, allowed: Sequence[str], note: str = "", first: str | None = None
    ) -> str:
        """One of the words allowed. first: the default, where the dataclass has none and it is not
        the first of them.
        """
        default = str(self._default(key, first or allowed[0]))
        if key not in self._data:
            return default
        value = self._data[key]
        if isinstance(value, str) and value in allowed:
            return str(value)
        note = note and f" ({note})"
        self.refuse(key, value, f"is not one of: {', '.join(allowed)}{note}")
        return default

    def boolean(self, key: str) -> bool:
        """True or false, or one of these written as text."""
        if key not in self._data:
            return False
        value = self._data[key]
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if isinstance(value, bool):
            return value
        self.refuse(key, value, "is not true or false")
        return False

    def text(self, key: str) -> str:
        """Text that is not empty."""
        if key not in self._data:
            return ""
        value = self._data[key]
        if isinstance(value, str) and value:
            return str(value)
        self.refuse(key, value, "is not text")
        return ""

    def name(self, key: str) -> str | None:
        """A name, or None."""
        if key not in self._data:
            return None
        return self.reader.name(f"{self.where}.{key}", self._data[key])

    def address(self, key: str) -> str | None:
        """A host's address in its canonical form, or None."""
        if key not in self._data:
            return None
        value = self._data[key]
        if not isinstance(value, str):
            self.refuse(key, value, "is not an IPv4 or IPv6 address")
            return None
        try:
            return canonical(value)
        except ValueError as error:
            self.refuse(key, value, str(error))
            return None

    def sequence(self, key: str) -> Sequence[Any]:
        """A list, empty if absent."""
        if key not in self._data:
            return []
        return self.reader.sequence(f"{self.where}.{key}", self._data[key])

    def sub(self, key: str, shape: type) -> Fields | None:
        """The entry under this key, as Reader.fields."""
        return self.reader.fields(f"{self.where}.{key}", self._data[key], shape)
