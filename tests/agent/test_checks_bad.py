# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP checks of servers that misbehave: each gets an answer, in time, and in words."""

from __future__ import annotations

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from typing import Any

import pytest

from l4lb_agent.checks import Answer

from .servers import Serve, answer_from, check_of

HTTP = check_of(type="http")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


def saying(*parts: bytes, then: float = 0) -> Serve:
    """Reads the request, says this, and closes after some seconds."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        await asyncio.sleep(then)

    return serve


def http_answer(*parts: bytes, then: float = 0, **check: Any) -> Answer:
    return answer_from(saying(*parts, then=then), check_of(type="http", **check))


def test_it_never_answers() -> None:
    answer = http_answer(then=30)
    assert (answer.ok, answer.text) == (False, "timeout after 1 s")
    assert 1 <= answer.seconds < 1.5


def test_slow_loris() -> None:
    async def drip(_reader: StreamReader, writer: StreamWriter) -> None:
        for byte in OK:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)

    answer = answer_from(drip, HTTP)
    assert (answer.ok, answer.text) == (False, "timeout after 1 s")
    assert 1 <= answer.seconds < 1.5


def test_a_head_in_pieces_is_one() -> None:
    assert http_answer(*(bytes([byte]) for byte in OK)).text == "ok 200"


def test_it_closes_at_once() -> None:
    answer = http_answer()
    assert (answer.ok, answer.text) == (False, "closed without an answer")


def test_it_closes_within_the_head() -> None:
    answer = http_answer(OK[:20])
    assert not answer.ok
    assert answer.text.startswith("not HTTP: ")


def test_it_resets() -> None:
    async def reset(_reader: StreamReader, writer: StreamWriter) -> None:
        writer.transport.abort()

    answer = answer_from(reset, HTTP)
    assert (answer.ok, answer.local) == (False, False)
    assert answer.text in ("closed without an answer", "connection reset by peer", "broken pipe")


@pytest.mark.parametrize(
    "garbage",
    [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"\x00\xff" * 600 + b"\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"],
)
def test_garbage(garbage: bytes) -> None:
    answer = http_answer(garbage)
    assert not answer.ok
    assert answer.text.startswith("not HTTP: ")
    assert len(answer.text) <= 120
    assert answer.text.isprintable()


def test_a_head_without_end() -> None:
    async def endless(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Padding: " + b"x" * 5000 + b"\r\n")
            await writer.drain()

    answer = answer_from(endless, HTTP)
    assert answer.text.startswith("not HTTP: ")
    assert answer.seconds < 1


async def flood(reader: StreamReader, writer: StreamWriter) -> None:
    """A body that never ends."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


def test_a_body_nobody_asked_for_is_not_read() -> None:
    answer = answer_from(flood, HTTP)
    assert (answer.ok, answer.text) == (True, "ok 200")


def test_of_a_body_8_kib_are_read() -> None:
    answer = answer_from(flood, check_of(type="http", body="ok"))
    assert (answer.ok, answer.text) == (False, "status 200, but the body does not match")
    assert answer.seconds < 1


@pytest.mark.parametrize(("before", "found"), [(8192 - 4, True), (8192 - 3, False)])
def test_where_the_body_is_cut(before: int, found: bool) -> None:
    body = b"x" * before + b"GOOD"
    answer = http_answer(b"HTTP/1.0 200 OK\r\n\r\n" + body, body="GOOD")
    assert answer.ok is found


def test_a_body_cut_short_may_hold_what_is_wanted() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    assert http_answer(head + b"all good", body="good$").ok
    assert not http_answer(head + b"all bad", body="good$").ok


def test_a_body_that_does_not_come() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    assert http_answer(head, then=30, body="good").text == "timeout after 1 s"
    assert http_answer(head, then=30).text == "ok 200"


def test_a_chunked_body() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"2\r\ngo\r\n", b"2\r\nod\r\n", b"0\r\n\r\n"
    assert http_answer(head, *chunks, then=30, body="^good$").ok


def test_a_body_that_is_not_text() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
    assert http_answer(head + b"\xff\xfegood", body="good$").ok


def test_continue_is_not_the_answer() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
    assert http_answer(early + OK).text == "ok 200"
    late = http_answer(early + b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    assert (late.ok, late.text) == (False, "status 503")


def test_the_request() -> None:
    seen: list[bytes] = []

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    assert answer_from(serve, check_of(type="http", path="/x?y=1", host="www.example.net")).ok
    assert seen == [
        b"GET /x?y=1 HTTP/1.1\r\nHost: www.example.net\r\nUser-Agent: l4lb\r\n"
        b"Accept: */*\r\nConnection: close\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("host", "expected"), [(None, rb"127\.0\.0\.1:[0-9]+"), ("2001:db8::1", rb"\[2001:db8::1\]")]
)
def test_host(host: str | None, expected: bytes) -> None:
    seen: list[bytes] = []

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    assert answer_from(serve, check_of(type="http", **({"host": host} if host else {}))).ok
    assert re.search(rb"\r\nHost: " + expected + rb"\r\n", seen[0])
