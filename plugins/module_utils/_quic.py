# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`quic` of a pool and `server_id` of its backends, validated; and what a connection id says.

Private to the collection; pure. bpf/quic.h has the same in C (draft-ietf-quic-load-balancers-21,
without a key).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.l4lb.xdp.plugins.module_utils._reader import Fields

MAX_CONFIG = 6
"""Of 3 bits; 7 says that a server has no configuration."""
MAX_LENGTH = 8
MAX_CONNECTION_ID = 20
"""Bytes, of QUIC versions 1 and 2 (RFC 9000, 17.2)."""

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")

COUNTS = ("by_id", "by_hash", "unknown_id", "lost_backend")
"""What becomes of datagrams, as enum quic of maps.h has it."""


@dataclass(frozen=True)
class Quic:
    """server_id_length: in bytes, of what servers write into their connection ids."""

    server_id_length: int
    config_id: int = 0


def read_quic(fields: Fields) -> Quic | None:
    """The pool's `quic`; None where it has none, or a wrong one."""
    if "quic" not in fields or fields.value("quic") is None:
        return None
    own = fields.sub("quic", Quic)
    if own is None:
        return None
    length = own.integer("server_id_length", 1, MAX_LENGTH, "bytes")
    config = own.integer("config_id", 0, MAX_CONFIG, "7 is for servers without a configuration")
    return Quic(length, config) if own.good("server_id_length") else None


def read_server_id(fields: Fields) -> int | None:
    """The backend's `server_id`: a number, or hexadecimal text like 0x0a0b; None without one."""
    if "server_id" not in fields or fields.value("server_id") is None:
        return None
    value = fields.value("server_id")
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value, 16 if value[:2] in ("0x", "0X") else 10)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return int(value)
    fields.refuse(
        "server_id",
        fields.value("server_id"),
        "is not a number below 2^64, in decimals or like 0x0a0b",
    )
    return None


def require_server_ids(
    fields: Fields, quic: Quic | None, backends: Iterable[tuple[int, int | None]]
) -> None:
    """Where a pool asks for QUIC each backend needs an id of its own that fits. backends: index in
    inventory, and id.
    """
    if quic is None:
        return
    holders: dict[int, int] = {}
    for i, number in backends:
        where = f"{fields.where}.backends[{i}].server_id"
        if number is None:
            fields.reader.add(
                f"{where}: is missing, and the pool has quic: give the number that this server "
                "writes into its connection ids"
            )
            continue
        if number >= 1 << 8 * quic.server_id_length:
            shown = text_of(number, 0)
            fields.reader.add(
                f"{where}: {shown} has more than the {quic.server_id_length} bytes of "
                f"{fields.where}.quic.server_id_length"
            )
        first = holders.setdefault(number, i)
        if first != i:
            shown = text_of(number, quic.server_id_length)
            fields.reader.add(f"{where}: {shown} is the server_id of backends[{first}], too")


def text_of(number: int, length: int) -> str:
    """0x0a0b."""
    return f"0x{number:0{2 * length}x}"


def read_id(connection_id: bytes, quic: Quic) -> int | None:
    """The server id in a connection id; None when it is of another configuration, or too short."""
    end = 1 + quic.server_id_length
    if len(connection_id) < end or connection_id[0] >> 5 != quic.config_id:
        return None
    return int.from_bytes(connection_id[1:end], "big")
