# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-checks`: how many health checks one agent makes, and what they cost.

The prober and the judge as the agent runs them, in a process of their own, ask addresses of
127.0.0.0/8 in a network namespace that vanishes with this process. Sockets are marked and bound as
they are for probes through the tunnel; the tunnel itself is not in it. nginx answers, in one worker
on the other CPU; for tcp the kernel answers alone. What both ends of a loopback connection cost the
kernel is mostly in the prober's time. "silent" are addresses behind a neighbour that drops.

A case is as good as its rounds are on time: `late` is how much longer than the interval it was
between two answers of a backend. CPU is that of the whole process, of one core.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from ansible_collections.l4lb.xdp.plugins.module_utils._config import HealthCheck
from bench import machine
from l4lb_agent.checks import Answer, Subject, Target
from l4lb_agent.judge import Judge
from l4lb_agent.prober import Prober, keep_pace
from tests.dataplane.node import isolate

RESULT = Path(__file__).parent / "results" / "checks.json"

INTERVAL = 2
WARM_UP, SECONDS = 4, 8
BACKENDS = 10_000
PORTS = {"http": 80, "https": 443, "tcp": 80}
MARK = 0x4C340000
ON_TIME = 0.1
"""Seconds that 99 of 100 rounds may be late by: a twentieth of the interval."""

NGINX = """
daemon off; master_process off; worker_rlimit_nofile 65536;
pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  server {{
    listen 80 backlog=65535; listen 443 ssl backlog=65535;
    ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;
    location / {{ return 200 "ok\\n"; }}
  }}
}}
"""


@contextmanager
def nginx(directory: Path) -> Iterator[None]:
    """A server of all addresses, on the last CPU."""
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 "
        f"-subj /CN=bench -keyout {directory}/key.pem -out {directory}/cert.pem".split(),
        check=True,
        capture_output=True,
    )
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory))
    cpu = max(os.sched_getaffinity(0))
    server = subprocess.Popen(
        ["taskset", "-c", str(cpu), "nginx", "-p", str(directory), "-c", str(config)],
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (directory / "pid").exists():
            if server.poll() is not None:
                raise RuntimeError(f"nginx ends with {server.returncode}")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait()


def wire() -> None:
    """Loopback, and a neighbour that drops whatever it gets: it does not forward."""
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")
        ip.link("add", ifname="near", kind="veth", peer="far", address="02:00:00:00:00:0a")
        near, far = ip.link_lookup(ifname="near")[0], ip.link_lookup(ifname="far")[0]
        for index in (near, far):
            ip.link("set", index=index, state="up")
        ip.addr("add", index=near, address="192.0.2.2", prefixlen=24)
        mac = "02:00:00:00:00:0b"
        ip.neigh("add", dst="192.0.2.1", lladdr=mac, ifindex=near, state="permanent")
        ip.route("add", dst="10.0.0.0/8", gateway="192.0.2.1")


def subjects(check: HealthCheck, count: int, silent: bool) -> list[Subject]:
    first, source = ("10", "192.0.2.2") if silent else ("127", "127.0.0.1")
    found = []
    for i in range(1, count + 1):
        address = f"{first}.{i >> 16}.{i >> 8 & 255}.{i & 255}"
        target = Target(address, PORTS[check.type], MARK | i & 0xFFFF, source)
        found.append(Subject("bench", address, check, (target,)))
    return found


class Course:
    """What is heard while a case runs."""

    def __init__(self) -> None:
        self.judge = Judge()
        self.counting = False
        self.answers = self.wrong = self.local = 0
        self.texts: dict[str, int] = {}
        self.last: dict[str, float] = {}
        self.late: list[float] = []
        self.took: list[float] = []

    def hear(self, subject: Subject, answer: Answer) -> bool:
        now = time.monotonic()
        before = self.last.get(subject.backend)
        self.last[subject.backend] = now - answer.seconds
        if self.counting:
            self.answers += 1
            self.took.append(answer.seconds)
            self.texts[answer.text] = self.texts.get(answer.text, 0) + 1
            if before is not None:
                self.late.append(now - answer.seconds - before - INTERVAL)
        return self.judge.hear(subject.key, answer, now)


async def run(found: list[Subject]) -> dict[str, Any]:
    course = Course()
    course.judge.watch({each.key: each.check for each in found})
    prober = Prober(course.hear)
    prober.watch(found)
    await asyncio.sleep(WARM_UP)
    course.counting = True
    wall, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(SECONDS)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    course.counting = False
    await prober.close()
    late, took = sorted(course.late), sorted(course.took)
    return {
        "backends": len(found),
        "per_second": course.answers / wall,
        "cpu": cpu / wall,
        "cpu_microseconds": cpu / max(1, course.answers) * 1e6,
        "late_p99": late[len(late) * 99 // 100] if late else float("nan"),
        "late_max": late[-1] if late else float("nan"),
        "took_p50": took[len(took) // 2],
        "took_p99": took[len(took) * 99 // 100],
        "answers": course.texts,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def case(check: HealthCheck, count: int, silent: bool, tell: Any) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    keep_pace()
    tell.send(asyncio.run(run(subjects(check, count, silent))))


def measure(name: str, check: HealthCheck, count: int, silent: bool = False) -> dict[str, Any]:
    """One case in a process of its own."""
    receive, tell = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=case, args=(check, count, silent, tell))
    process.start()
    tell.close()
    try:
        found: dict[str, Any] = receive.recv()
    finally:
        process.join()
    print(
        f"  {name:22} {count:6} backends: {found['per_second']:7.0f}/s, {found['cpu']:4.0%} of a "
        f"core, {found['cpu_microseconds']:4.0f} us each; late {found['late_p99'] * 1e3:5.1f} ms "
        f"(p99), {found['late_max'] * 1e3:6.1f} (max); took {found['took_p99'] * 1e3:6.1f} ms "
        f"(p99); {found['memory_mib']:.0f} MiB; {found['answers']}",
        flush=True,
    )
    return found


def is_good(found: dict[str, Any], text: str) -> bool:
    """All asked, all on time, none wrong."""
    asked = found["per_second"] > 0.98 * found["backends"] / INTERVAL
    return asked and found["late_p99"] < ON_TIME and set(found["answers"]) == {text}


def limit(name: str, check: HealthCheck, text: str, first: int, step: int) -> dict[str, Any]:
    """The most backends, in steps, whose rounds are on time."""
    best: dict[str, Any] = {}
    for count in range(first, first + 20 * step, step):
        found = measure(name, check, count)
        if not is_good(found, text):
            break
        best = found
    return best


def main() -> int:
    if not shutil.which("nginx"):
        print("needs nginx, of the Debian package nginx-light")
        return 2
    tcp = HealthCheck("tcp", interval=INTERVAL)
    http = HealthCheck("http", interval=INTERVAL, path="/healthz", status="200-399")
    body = HealthCheck("http", interval=INTERVAL, path="/", status="200-399", body="ok")
    https = HealthCheck("https", interval=INTERVAL, path="/", status="200-399")
    quick = "--quick" in sys.argv
    found: dict[str, Any] = {**machine.circumstances(), "interval": INTERVAL}
    isolate()
    wire()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="l4lb-bench-"))
        stack.enter_context(nginx(Path(directory)))
        cases = {
            "tcp": measure("tcp", tcp, BACKENDS),
            "tcp, silent": measure("tcp, silent", tcp, BACKENDS, silent=True),
            "http": measure("http", http, BACKENDS),
            "http, with body": measure("http, with body", body, BACKENDS),
            "https": measure("https", https, BACKENDS // 10),
        }
        found["cases"] = cases
        if not quick:
            print("the most that is on time:")
            found["limits"] = {
                "tcp": limit("tcp", tcp, "ok", 2 * BACKENDS, BACKENDS),
                "http": limit("http", http, "ok 200", BACKENDS, BACKENDS // 2),
                "https": limit("https", https, "ok 200", 2000, 1000),
            }
            RESULT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    texts = {"http": "ok 200", "tcp": "ok", "tcp, silent": "timeout after 1 s"}
    slow = [name for name, text in texts.items() if not is_good(cases[name], text)]
    for name in slow:
        print(f"not on time: {name} with {BACKENDS} backends")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
