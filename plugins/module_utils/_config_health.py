# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`health_check` of a pool: how the agent asks whether a backend lives, validated and canonical.

Private to the collection; `_config.parse` reads it. The agent looks up here what the texts mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._address import packed
from ansible_collections.l4lb.xdp.plugins.module_utils._reader import Fields, shown

TYPES = ("none", "tcp", "http", "https", "dns", "udp", "command")
VIA = ("tunnel", "direct")
RECORDS = tuple(
    "A AAAA ANY CAA CNAME DNSKEY DS HTTPS MX NAPTR NS PTR SOA SRV SVCB TLSA TXT".split()
)

DAY = 86_400
MAX_DATAGRAM = 1200
"""Bytes that a probe may send and still fit into any tunnel."""

_OF_HTTP = ("path", "host", "status", "body")
KEYS = {
    "http": _OF_HTTP,
    "https": (*_OF_HTTP, "verify"),
    "dns": ("query", "record"),
    "udp": ("send", "expect"),
    "command": ("command",),
}
"""What only these types have; the other keys are everybody's."""

_CODES = re.compile(r"([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?")
_PATH = re.compile(r"/[!-~]{0,2000}")
_NAME = r"(?=.{1,254}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(_NAME)
_LITERAL = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_NESTED = re.compile(r"(?:[*+]|\{[0-9]*,[0-9]*\})\??\)+(?:[*+]|\{[0-9,])")
"""In a pattern whose escapes and classes are taken out: the usual form of endless searches."""
_QUERY = re.compile(rf"\.|{_NAME}\.?")


@dataclass(frozen=True)
class HealthCheck:
    """How the agent asks whether a backend lives. port None: the service's. Times in seconds.

    What the type does not have is None (`verify` false, `command` empty); for http and https None
    also says that any body will do, or that Host is the service's address.
    """

    type: str = "none"
    via: str = "tunnel"
    port: int | None = None
    interval: int = 2
    timeout: int = 1
    rise: int = 2
    fall: int = 3
    path: str | None = None
    host: str | None = None
    status: str | None = None
    body: str | None = None
    verify: bool = False
    query: str | None = None
    record: str | None = None
    send: str | None = None
    expect: str | None = None
    command: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data in inventory's shape: what this type has and what is set."""
        special = {key for keys in KEYS.values() for key in keys} - set(KEYS.get(self.type, ()))
        data = {k: v for k, v in vars(self).items() if k not in special and v is not None}
        if self.command:
            data["command"] = list(self.command)
        return data


NO_CHECK = HealthCheck()


def status_ranges(text: str) -> list[tuple[int, int]]:
    """The codes that `status` allows, first and last of each range.

    Raises ValueError, its text ready to follow the offending value.
    """
    ranges = []
    for word in text.replace(" ", "").split(","):
        found = _CODES.fullmatch(word)
        if not found:
            raise ValueError(
                "is not codes from 200 to 599 and ranges of them, with commas: 200-299,401"
            )
        first = int(found.group(1))
        last = int(found.group(2) or first)
        if last < first:
            raise ValueError(f"has a range that ends before it begins: {word}")
        ranges.append((first, last))
    return ranges


def read_health_check(fields: Fields) -> HealthCheck:
    """The pool's `health_check`; the default where it has none or a wrong one."""
    own = fields.sub("health_check", HealthCheck) if "health_check" in fields else None
    if own is None:
        return NO_CHECK
    kind = own.choice("type", TYPES)
    if "type" not in own or own.good("type"):
        _refuse_foreign(own, kind)
    interval = own.integer("interval", 1, DAY, "seconds")
    return HealthCheck(
        type=kind,
        via=_read_via(own, kind),
        port=own.integer("port", 1, 65535) if "port" in own else None,
        interval=interval,
        timeout=own.integer("timeout", 1, interval, "seconds, at most the interval"),
        rise=own.integer("rise", 1, 1000),
        fall=own.integer("fall", 1, 1000),
        **_read_special(own, kind),
    )


def _refuse_foreign(own: Fields, kind: str) -> None:
    """Keys that another type has do nothing here: whoever wrote them expects something."""
    for key in sorted({key for keys in KEYS.values() for key in keys}):
        owners = [other for other, keys in KEYS.items() if key in keys]
        if key in own and kind not in owners:
            own.refuse(key, own.value(key), f"is only for type {' or '.join(owners)}")


def _read_via(own: Fields, kind: str) -> str:
    if kind != "command":
        return own.choice("via", VIA)
    via = own.choice("via", VIA) if "via" in own else "direct"
    if via != "direct":
        own.refuse("via", via, "is not possible for type command, which is always direct")
    return "direct"


def _read_special(own: Fields, kind: str) -> dict[str, Any]:
    """The keys of this type alone."""
    if kind in ("http", "https"):
        return _read_http(own, kind)
    if kind == "dns":
        query = _matching(own, "query", _QUERY, "is not a domain name in ASCII")
        return {"query": query or ".", "record": own.choice("record", RECORDS, first="NS")}
    if kind == "udp":
        return {"send": _read_send(own), "expect": _read_pattern(own, "expect")}
    if kind == "command":
        return {"command": _read_command(own)}
    return {}


def _read_http(own: Fields, kind: str) -> dict[str, Any]:
    host = own.text("host") or None
    if host and not _HOST.fullmatch(host) and not _is_ipv6(host):
        own.refuse("host", host, "is not a name in ASCII or an address, without a port")
    verify = own.boolean("verify") if kind == "https" else False
    if verify and "host" not in own:
        own.refuse("verify", True, "needs host: the name that the certificate must have")
    return {
        "path": _read_path(own) or "/",
        "host": host,
        "status": _read_status(own),
        "body": _read_pattern(own, "body"),
        "verify": verify,
    }


def _is_ipv6(text: str) -> bool:
    try:
        return ":" in text and len(packed(text)) == 16
    except ValueError:
        return False


def _matching(own: Fields, key: str, pattern: re.Pattern[str], why: str) -> str | None:
    """Text of that form; None when it is not there or is refused."""
    text = own.text(key)
    if not text or pattern.fullmatch(text):
        return text or None
    own.refuse(key, text, why)
    return None


def _read_path(own: Fields) -> str | None:
    text = own.text("path")
    if text and not text.startswith("/"):
        own.refuse("path", text, "must begin with /")
        return None
    why = "is not a path as a request has it: printable ASCII, no spaces (write %20), up to 2000"
    return _matching(own, "path", _PATH, why)


def _read_status(own: Fields) -> str:
    """Canonical: no spaces. A single code may be a number."""
    default = "200-399"
    if "status" not in own:
        return default
    value = own.value("status")
    if isinstance(value, int) and not isinstance(value, bool):
        value = shown(value)
    if not isinstance(value, str):
        own.refuse("status", value, 'is not text, such as "200-299,401"')
        return default
    try:
        status_ranges(value)
    except ValueError as error:
        own.refuse("status", value, str(error))
        return default
    return value.replace(" ", "")


def _read_pattern(own: Fields, key: str) -> str | None:
    text = own.text(key)
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        own.refuse(key, text, f"is not a regular expression: {error}")
    else:
        if _NESTED.search(_LITERAL.sub("x", text)):
            why = "repeats a group that ends with a repeat, and may take for ever to search"
            own.refuse(key, text, f"{why}: write (?:a+)+ as a+")
    return text or None


def _read_send(own: Fields) -> str:
    """One byte a character, so that YAML's escapes can write any datagram."""
    value = own.value("send") if "send" in own else ""
    if not isinstance(value, str):
        own.refuse("send", value, "is not text")
        return ""
    if any(ord(character) > 0xFF for character in value):
        own.refuse("send", value, r'is one byte a character, "\x00" to "\xff"')
    if len(value) > MAX_DATAGRAM:
        own.refuse("send", value, f"is longer than {MAX_DATAGRAM} bytes")
    return value


def _read_command(own: Fields) -> tuple[str, ...]:
    if "command" not in own:
        own.reader.add(f"{own.where}.command: is missing: give the program and its arguments")
        return ()
    words = own.sequence("command")
    if isinstance(own.value("command"), (list, tuple)) and not words:
        own.refuse("command", [], "is empty: give the program and its arguments")
    for i, word in enumerate(words):
        if not isinstance(word, str) or "\0" in word or (not word and i == 0):
            own.refuse(f"command[{i}]", word, "is not a word: quote what is not text")
            return ()
    return tuple(words)
