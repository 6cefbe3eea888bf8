# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dns check of a real name server (NSD), and of liars; and the udp check."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from l4lb_agent.checks import Answer, Target

from .servers import (
    answer_from_datagrams,
    answer_of,
    check_of,
    eventually,
    free_port,
    running,
)

CONFIG = """
server:
  ip-address: 127.0.0.1
  ip-address: ::1
  port: {port}
  username: ""
  zonesdir: "{directory}"
  database: ""
  pidfile: "{directory}/pid"
  xfrdfile: "{directory}/xfrd"
  zonelistfile: "{directory}/zones"
  logfile: "{directory}/log"
remote-control:
  control-enable: no
zone:
  name: example.net
  zonefile: zone
"""
ZONE = """
$ORIGIN example.net.
@ 60 IN SOA ns hostmaster 1 60 60 60 60
@ 60 IN NS ns
ns 60 IN A 192.0.2.53
"""


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a name server of example.net."""
    directory, port = tmp_path_factory.mktemp("nsd"), free_port(socket.SOCK_DGRAM)
    (directory / "zone").write_text(ZONE)
    config = directory / "nsd.conf"
    config.write_text(CONFIG.format(directory=directory, port=port))
    with running("nsd", "-d", "-c", str(config)) as process:
        eventually(lambda: accepts_queries(port) or process.poll() is not None)
        assert process.poll() is None, Path(directory / "log").read_text()
        yield port


def accepts_queries(port: int) -> bool:
    return answer_of(check_of(type="dns", query="example.net"), Target("127.0.0.1", port)).ok


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("check", "ok", "text"),
    [
        ({"query": "example.net"}, True, "ok NOERROR"),
        ({"query": "NS.example.net.", "record": "A"}, True, "ok NOERROR"),
        ({"query": "ns.example.net", "record": "TXT"}, True, "ok NOERROR"),
        ({"query": "none.example.net"}, False, "rcode NXDOMAIN"),
        ({}, False, "rcode REFUSED"),
    ],
)
def test_a_name_server(nsd: int, address: str, check: dict[str, Any], ok: bool, text: str) -> None:
    answer = answer_of(check_of(type="dns", **check), Target(address, nsd))
    assert (answer.ok, answer.text, answer.local) == (ok, text, False)


def reply_to(datagram: bytes) -> dns.message.Message:
    return dns.message.make_response(dns.message.from_wire(datagram))


def dns_answer(reply: Any) -> Answer:
    answer, _any = answer_from_datagrams(reply, check_of(type="dns"))
    return answer


def test_a_failure_that_the_server_tells() -> None:
    def fail(datagram: bytes) -> list[bytes]:
        reply = reply_to(datagram)
        reply.set_rcode(dns.rcode.SERVFAIL)
        return [reply.to_wire()]

    answer = dns_answer(fail)
    assert (answer.ok, answer.text) == (False, "rcode SERVFAIL")


def wrong_id(datagram: bytes) -> bytes:
    return bytes([datagram[0] ^ 1]) + reply_to(datagram).to_wire()[1:]


def wrong_question(datagram: bytes) -> bytes:
    other = dns.message.make_query("other.example", "NS")
    other.id = reply_to(datagram).id
    return dns.message.make_response(other).to_wire()


def no_reply(datagram: bytes) -> bytes:
    return datagram


@pytest.mark.parametrize("lie", [wrong_id, wrong_question, no_reply, lambda _any: b"\xffgarbage"])
def test_what_answers_another_query_is_not_heard(lie: Any) -> None:
    alone = dns_answer(lambda datagram: [lie(datagram)])
    assert (alone.ok, alone.text) == (False, "timeout after 1 s")
    assert dns_answer(lambda datagram: [lie(datagram), reply_to(datagram).to_wire()]).ok


def test_ids_differ() -> None:
    def ids() -> set[bytes]:
        got = [
            answer_from_datagrams(lambda d: [reply_to(d).to_wire()], check_of(type="dns"))[1][0]
            for _any in range(8)
        ]
        assert len({query[2:] for query in got}) == 1
        return {query[:2] for query in got}

    assert len(ids()) > 1


@pytest.mark.parametrize("kind", ["dns", "udp"])
def test_a_port_that_is_closed(kind: str) -> None:
    port = free_port(socket.SOCK_DGRAM)
    answer = answer_of(check_of(type=kind), Target("127.0.0.1", port))
    assert (answer.ok, answer.text, answer.local) == (False, "connection refused", False)


# --- udp ---


@pytest.mark.parametrize(
    ("check", "reply", "ok", "text"),
    [
        ({}, b"whatever", True, "ok"),
        ({"send": "ping", "expect": "^pong"}, b"pong!", True, "ok"),
        ({"send": "ping", "expect": "^pong$"}, b"pang", False, "4 bytes that do not match"),
        ({"send": "\xff\x00", "expect": "\xfe\x01"}, b"..\xfe\x01", True, "ok"),
    ],
)
def test_udp(check: dict[str, str], reply: bytes, ok: bool, text: str) -> None:
    answer, got = answer_from_datagrams(lambda _any: [reply], check_of(type="udp", **check))
    assert (answer.ok, answer.text) == (ok, text)
    assert got == [check.get("send", "").encode("latin-1")]


def test_udp_without_an_answer() -> None:
    answer, _any = answer_from_datagrams(lambda _any: [], check_of(type="udp", send="ping"))
    assert (answer.ok, answer.text, answer.local) == (False, "timeout after 1 s", False)
