# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A router that runs FRR: zebra, bgpd, bfdd and staticd in a namespace, with files of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from .bgp import until

DAEMONS = ("zebra", "staticd", "bgpd", "bfdd")
_DIRECTORY = Path("/usr/lib/frr")


class Frr:
    """FRR in a namespace. Its daemons give up root's rights: their files are where they may go."""

    def __init__(self, namespace: str, config: str) -> None:
        self._space = ["nsenter", f"--net=/run/netns/{namespace}"]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._directory = Path(tempfile.mkdtemp(prefix="l4lb-frr-", dir="/run"))
        shutil.chown(self._directory, "frr", "frr")
        (self._directory / "frr.conf").write_text(config)

    def start(self) -> None:
        at = self._directory
        for daemon in DAEMONS:
            (at / f"{daemon}.conf").touch()
            command = [
                *(*self._space, str(_DIRECTORY / daemon), "-P", "0"),
                *("-f", str(at / f"{daemon}.conf"), "-i", str(at / f"{daemon}.pid")),
                *("-z", str(at / "zserv.api"), "--vty_socket", str(at)),
                *(("--bfdctl", str(at / "bfdd.sock")) if daemon == "bfdd" else ()),
                *("--log", f"file:{at}/{daemon}.log"),
            ]
            self._processes.append(subprocess.Popen(command))
            until(lambda daemon=daemon: (at / f"{daemon}.vty").exists())
        done = self._vtysh("-f", str(at / "frr.conf"))
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()
            process.wait()
        shutil.rmtree(self._directory)

    def show(self, what: str) -> Any:
        """What `show ... json` says."""
        return json.loads(self._vtysh("-c", f"show {what} json").stdout or "{}")

    def configure(self, *lines: str) -> None:
        words = [word for line in ("configure terminal", *lines) for word in ("-c", line)]
        done = self._vtysh(*words)
        assert done.returncode == 0, done.stdout + done.stderr

    def _vtysh(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["vtysh", "--vty_socket", str(self._directory), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)
