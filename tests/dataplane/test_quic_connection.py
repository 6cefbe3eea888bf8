# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of a real QUIC library, each datagram of the client through the real program."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from aioquic.quic import connection as quic_connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from .node import CLIENT4, VIP4, Node
from .test_quic import SERVERS, counted, datagram, serve

ID_LENGTH = 9
"""Unlike anything else that the library makes of random bytes."""


def certificate() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web.example")])
    now = datetime.now(timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    return made.sign(key, hashes.SHA256()), key


class Fleet:
    """A client, the node, and behind it a server for each backend that a datagram came to."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = node
        self.certificate, self.key = certificate()
        self.servers: dict[str, QuicConnection] = {}
        self.ways: list[tuple[str, str]] = []
        self.shaken, self.echoed = False, b""
        self.port, self.now = 4000, 0.0
        self._number: int | None = None
        monkeypatch.setattr(quic_connection, "os", SimpleNamespace(urandom=self._random))
        settings = QuicConfiguration(is_client=True, alpn_protocols=["echo"])
        settings.verify_mode = ssl.CERT_NONE
        self.client = QuicConnection(configuration=settings)
        self.client.connect((VIP4, 80), now=self.now)

    def _random(self, length: int) -> bytes:
        if length != ID_LENGTH or self._number is None:
            return os.urandom(length)
        head = bytes([os.urandom(1)[0] & 0x1F])
        return head + self._number.to_bytes(2, "big") + os.urandom(ID_LENGTH - 3)

    @contextmanager
    def at(self, backend: str) -> Iterator[None]:
        """Ids made in here have that server's number."""
        self._number = SERVERS[backend]
        yield
        self._number = None

    def server(self, backend: str, first: bytes) -> QuicConnection:
        if backend not in self.servers:
            settings = QuicConfiguration(
                is_client=False,
                alpn_protocols=["echo"],
                certificate=self.certificate,
                private_key=self.key,
                connection_id_length=ID_LENGTH,
            )
            client_made = first[6 : 6 + first[5]]
            self.servers[backend] = QuicConnection(
                configuration=settings, original_destination_connection_id=client_made
            )
        return self.servers[backend]

    def exchange(self) -> None:
        """Until nobody has anything to say."""
        while sent := self.client.datagrams_to_send(self.now):
            self.now += 0.01
            for data, _to in sent:
                way = counted(self.node, datagram(data, self.port))
                self.ways.append(way)
                self.deliver(way[1], data)
            self.hear()

    def deliver(self, backend: str, data: bytes) -> None:
        with self.at(backend):
            server = self.server(backend, data)
            server.receive_datagram(data, (CLIENT4, self.port), now=self.now)
            while event := server.next_event():
                if isinstance(event, StreamDataReceived):
                    server.send_stream_data(event.stream_id, event.data)
            for answer, _to in server.datagrams_to_send(self.now):
                self.client.receive_datagram(answer, (VIP4, 80), now=self.now)

    def hear(self) -> None:
        while event := self.client.next_event():
            if isinstance(event, StreamDataReceived):
                self.echoed += event.data
            self.shaken |= isinstance(event, HandshakeCompleted)

    def ask(self, question: bytes) -> bytes:
        """What is echoed, and nothing of before."""
        self.echoed = b""
        self.client.send_stream_data(0, question)
        self.exchange()
        return self.echoed


@pytest.fixture
def fleet(node: Node, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    serve(node)
    made = Fleet(node, monkeypatch)
    made.exchange()
    return made


def test_handshake_begins_by_hash_and_goes_on_by_id(fleet: Fleet) -> None:
    assert fleet.shaken
    assert len(fleet.servers) == 1
    (server,) = fleet.servers
    assert fleet.ways[0] == ("by_hash", server)
    fleet.ways.clear()
    assert fleet.ask(b"hello") == b"hello"
    assert set(fleet.ways) == {("by_id", server)}


def test_connection_follows_a_client_that_moves(fleet: Fleet) -> None:
    """To forty other ports, with other ids as they last: by hash it would not stay."""
    (server,) = fleet.servers
    fleet.ways.clear()
    hashed = set()
    for fleet.port in range(4001, 4041):
        fleet.client.change_connection_id()
        assert fleet.ask(b"are you still there") == b"are you still there"
        hashed.add(counted(fleet.node, datagram(b"", fleet.port))[1])
    assert set(fleet.ways) == {("by_id", server)}
    assert len(hashed) == len(SERVERS)


def test_connection_stays_while_its_server_is_drained(fleet: Fleet) -> None:
    (server,) = fleet.servers
    letter = "abc"[list(SERVERS).index(server)]
    serve(fleet.node, **{letter: "draining"})
    fleet.ways.clear()
    fleet.port = 5000
    assert fleet.ask(b"and now") == b"and now"
    assert set(fleet.ways) == {("by_id", server)}


def test_connection_is_lost_with_its_server_and_another_begins(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server,) = fleet.servers
    letter = "abc"[list(SERVERS).index(server)]
    serve(fleet.node, **{letter: "disabled"})
    fleet.client.send_stream_data(0, b"anybody")
    (data, _to), *_more = fleet.client.datagrams_to_send(fleet.now)
    word, backend = counted(fleet.node, datagram(data, fleet.port))
    assert word == "lost_backend"
    assert backend != server
    another = Fleet(fleet.node, monkeypatch)
    another.exchange()
    assert another.shaken
    assert server not in another.servers
