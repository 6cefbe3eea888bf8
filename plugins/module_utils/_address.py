# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, one at a time: their canonical text, their bytes and their order.

Private to the collection.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

try:
    import netaddr
except ImportError:  # the caller says so in its own words; this module stays importable
    netaddr = None

REFUSED = (
    ("0.0.0.0/8", "an unspecified address"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("224.0.0.0/4", "a multicast address"),
    ("240.0.0.0/4", "a reserved address"),
    ("::/128", "an unspecified address"),
    ("::1/128", "a loopback address"),
    ("::ffff:0:0/96", "an IPv4-mapped address: write it as IPv4"),
    ("fe80::/10", "a link-local address"),
    ("ff00::/8", "a multicast address"),
)
"""Ranges that neither a service nor a backend can have, and what to call them."""

_MAPPED = bytes(10) + b"\xff\xff"


@lru_cache(maxsize=1)
def _refused_ranges() -> tuple[tuple[int, int, int, str], ...]:
    """REFUSED as (IP version, first, last, name): an `in` of netaddr for each would be slow."""
    networks = ((netaddr.IPNetwork(prefix), name) for prefix, name in REFUSED)
    return tuple((net.version, net.first, net.last, name) for net, name in networks)


def require_netaddr() -> None:
    """Raises L4lbError with the remedy when this Python has no netaddr."""
    if netaddr is None:
        raise L4lbError(
            "this Python cannot import netaddr: install python3-netaddr and run the module with "
            "the distribution's Python (ansible_python_interpreter: /usr/bin/python3)"
        )


def _parse(text: str) -> Any:
    # INET_PTON: netaddr 0.8 would otherwise read "10.1" as 10.0.0.1, as inet_aton does.
    return netaddr.IPAddress(text, flags=netaddr.INET_PTON)


def canonical(text: str) -> str:
    """The one way to write this host address, e.g. `2001:db8::1`.

    Raises ValueError, its text ready to follow the offending value: "is not an IP address", ...
    """
    if "/" in text:
        raise ValueError("has a prefix: give the address alone")
    try:
        address = _parse(text)
    except (netaddr.AddrFormatError, ValueError):
        raise ValueError("is not an IPv4 or IPv6 address") from None
    for version, first, last, name in _refused_ranges():
        if version == address.version and first <= int(address) <= last:
            raise ValueError(f"is {name}")
    return str(address)


def prefix(text: str, version: int, shortest: int, longest: int) -> tuple[str, int]:
    """The address and the length of a prefix like `198.18.0.0/20`.

    Raises ValueError as `canonical` does, its text naming what is allowed.
    """
    address, slash, bits = text.partition("/")
    if not slash or not bits.isdecimal() or not shortest <= int(bits) <= longest:
        raise ValueError(f"is not a prefix of IPv{version} with a length of {shortest}-{longest}")
    base = canonical(address)
    if (6 if ":" in base else 4) != version:
        raise ValueError(f"is not of IPv{version}")
    width = 32 if version == 4 else 128
    number = int.from_bytes(packed(base), "big")
    kept = number >> (width - int(bits)) << (width - int(bits))
    if kept != number:
        first = str(netaddr.IPAddress(kept, version))
        raise ValueError(f"has bits behind its length: write {first}/{bits}")
    return base, int(bits)


def contains(prefix_: str, address: str) -> bool:
    """Whether an address is of a prefix."""
    base, _slash, bits = prefix_.partition("/")
    first, other = packed(base), packed(address)
    if len(first) != len(other):
        return False
    width = len(first) * 8 - int(bits)
    return int.from_bytes(first, "big") >> width == int.from_bytes(other, "big") >> width


def packed(address: str | bytes) -> bytes:
    """The 4 or 16 bytes of an address in network order; bytes are returned as they are.

    Raises ValueError when the text is no address or the bytes have another length.
    """
    if isinstance(address, str):
        # Not by netaddr: a fleet sorts tens of thousands of them, and this is thirty times as fast.
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            return socket.inet_pton(family, address)
        except OSError:
            raise ValueError(f"{address!r} is not an IPv4 or IPv6 address") from None
    if len(address) not in (4, 16):
        raise ValueError(f"an address has 4 or 16 bytes, not {len(address)}")
    return address


def canonical_prefix(text: str) -> str:
    """The one way to write this prefix, e.g. `2001:db8::/32`; an address alone is its own.

    Raises ValueError, its text ready to follow the offending value. Not by netaddr: there may be a
    hundred thousand of them.
    """
    address, slash, bits = text.partition("/")
    try:
        raw = packed(address)
    except ValueError:
        raise ValueError("is not an IPv4 or IPv6 prefix, such as 198.51.100.0/24") from None
    if raw.startswith(_MAPPED):
        raise ValueError("is an IPv4-mapped prefix: write it as IPv4")
    whole = len(raw) * 8
    if slash and not (bits.isascii() and bits.isdigit() and len(bits) < 4 and int(bits) <= whole):
        raise ValueError(f"has a length that is not from 0 to {whole}")
    length = int(bits) if slash else whole
    number = int.from_bytes(raw, "big")
    host = number & (1 << whole - length) - 1
    network = socket.inet_ntop(
        socket.AF_INET if whole == 32 else socket.AF_INET6,
        (number - host).to_bytes(len(raw), "big"),
    )
    if host:
        raise ValueError(f"has bits behind its length: write {network}/{length}, or {address}")
    return f"{network}/{length}"


def prefix_order(text: str) -> tuple[int, bytes, int]:
    """Sort key of a canonical prefix: by its address, then by its length."""
    address, _slash, length = text.partition("/")
    return *order(address), int(length)


def order(address: str | bytes) -> tuple[int, bytes]:
    """Sort key: IPv4 before IPv6, then by the address' bytes."""
    data = packed(address)
    return len(data), data


def endpoint(address: str, port: int | str) -> str:
    """192.0.2.1:80, [2001:db8::1]:80."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
