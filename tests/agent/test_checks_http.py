# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP and HTTPS checks of a real nginx."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from l4lb_agent.checks import Answer, Target, http

from .servers import (
    accepts,
    answer_from,
    answer_of,
    check_of,
    eventually,
    free_port,
    running,
    time_wait,
)

CONFIG = """
daemon off; master_process off; pid {directory}/pid;
error_log {directory}/error.log notice;
events {{}}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body;
  server {{
    listen 127.0.0.1:{plain}; listen [::1]:{plain};
    root {directory}/www;
    location /healthz {{ return 200 "all is well\\n"; }}
    location /moved {{ return 302 /elsewhere; }}
    location /busy {{ return 503; }}
    location /host {{ return 200 "host=$http_host agent=$http_user_agent\\n"; }}
  }}
  server {{
    listen 127.0.0.1:{tls} ssl default_server;
    ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;
    location / {{ return 200 "sni=$ssl_server_name\\n"; }}
  }}
}}
"""


@dataclass
class Nginx:
    directory: Path
    plain: int
    tls: int

    def ask(self, kind: str = "http", **check: Any) -> Answer:
        port = self.tls if kind == "https" else self.plain
        return answer_of(check_of(type=kind, **check), Target("127.0.0.1", port))

    def log(self, name: str) -> str:
        return (self.directory / name).read_text()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Plain and with TLS; its certificate is for www.example.net and signed by itself."""
    directory = tmp_path_factory.mktemp("nginx")
    directory.chmod(0o755)
    (directory / "www").mkdir()
    (directory / "www" / "large").write_bytes(b"x" * (8 << 20))
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=www.example.net -addext subjectAltName=DNS:www.example.net,IP:192.0.2.9 "
        f"-keyout {directory}/key.pem -out {directory}/cert.pem".split(),
        check=True,
        capture_output=True,
    )
    made = Nginx(directory, free_port(), free_port())
    config = directory / "nginx.conf"
    config.write_text(CONFIG.format(directory=directory, plain=made.plain, tls=made.tls))
    with running("nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)):
        eventually(lambda: accepts(made.plain) and accepts(made.tls))
        yield made


@pytest.fixture
def trusted(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """nginx's certificate is one of the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(nginx.directory / "cert.pem"))
    http._context.cache_clear()
    yield
    http._context.cache_clear()


@pytest.mark.parametrize(
    ("check", "ok", "text"),
    [
        ({"path": "/healthz"}, True, "ok 200"),
        ({"path": "/healthz", "body": "^all is well$"}, True, "ok 200"),
        ({"path": "/healthz", "body": "ill"}, False, "status 200, but the body does not match"),
        ({"path": "/none"}, False, "status 404"),
        ({"path": "/none", "status": "200,404"}, True, "ok 404"),
        ({"path": "/busy"}, False, "status 503"),
        ({"path": "/busy", "status": "500-599"}, True, "ok 503"),
        ({"path": "/large"}, True, "ok 200"),
        ({"path": "/large", "body": "^x{8192}$"}, True, "ok 200"),
    ],
)
def test_status_and_body(nginx: Nginx, check: dict[str, Any], ok: bool, text: str) -> None:
    answer = nginx.ask(**check)
    assert (answer.ok, answer.text, answer.local) == (ok, text, False)


def test_a_redirect_is_an_answer(nginx: Nginx) -> None:
    assert nginx.ask(path="/moved").text == "ok 302"
    refused = nginx.ask(path="/moved", status="200-299")
    assert (refused.ok, refused.text) == (False, "status 302")
    assert "/elsewhere" not in nginx.log("access.log")


def test_who_asks_whom(nginx: Nginx) -> None:
    default = rf"^host=127\.0\.0\.1:{nginx.plain} agent=l4lb"
    assert nginx.ask(path="/host", body=default).ok
    assert nginx.ask(path="/host", host="a.example", body="^host=a.example agent=l4lb").ok


def test_over_ipv6(nginx: Nginx) -> None:
    check = check_of(type="http", path="/host", body=rf"^host=\[::1\]:{nginx.plain} ")
    assert answer_of(check, Target("::1", nginx.plain)).ok


def test_tls_without_verification(nginx: Nginx) -> None:
    assert nginx.ask("https").text == "ok 200"
    assert nginx.ask("https", body="^sni=\n").ok
    assert nginx.ask("https", host="b.example", body="^sni=b.example\n").ok


def test_a_certificate_nobody_knows(nginx: Nginx) -> None:
    answer = nginx.ask("https", host="www.example.net", verify=True)
    assert (answer.ok, answer.local) == (False, False)
    assert answer.text == "certificate: self-signed certificate"


@pytest.mark.usefixtures("trusted")
def test_a_certificate_that_is_known(nginx: Nginx) -> None:
    assert nginx.ask("https", host="www.example.net", verify=True).text == "ok 200"
    assert nginx.ask("https", host="192.0.2.9", verify=True).text == "ok 200"
    wrong = nginx.ask("https", host="other.example.net", verify=True)
    assert not wrong.ok
    assert wrong.text.startswith("certificate: Hostname mismatch")


def test_tls_where_there_is_none(nginx: Nginx) -> None:
    answer = answer_of(check_of(type="https"), Target("127.0.0.1", nginx.plain))
    assert (answer.ok, answer.local) == (False, False)
    assert answer.text.startswith("TLS: ")


def test_no_tls_where_it_is_wanted(nginx: Nginx) -> None:
    assert answer_of(check_of(type="http"), Target("127.0.0.1", nginx.tls)).text == "status 400"


def test_a_handshake_that_never_ends() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    answer = answer_from(silent, check_of(type="https"))
    assert (answer.ok, answer.text) == (False, "timeout after 1 s")


def test_the_server_has_nothing_to_complain_of_and_the_node_no_sockets_left(nginx: Nginx) -> None:
    waiting = time_wait(nginx.plain), time_wait(nginx.tls)  # of this fixture
    before = len(nginx.log("access.log").splitlines())
    for _any in range(10):
        assert nginx.ask(path="/healthz").ok
        assert nginx.ask(path="/large").ok
        assert nginx.ask("https").ok
        assert answer_of(check_of(type="tcp"), Target("127.0.0.1", nginx.plain)).ok
    eventually(lambda: len(nginx.log("access.log").splitlines()) == before + 30)
    complaints = [
        line
        for line in nginx.log("error.log").splitlines()
        if any(f"[{level}]" in line for level in ("warn", "error", "crit", "alert", "emerg"))
        and "www/none" not in line
    ]
    assert complaints == []
    assert time_wait(nginx.plain) <= waiting[0]
    assert time_wait(nginx.tls) <= waiting[1]
