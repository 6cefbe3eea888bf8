# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run `ansible-test` with the given arguments, which it does not do in a checkout of any name.

It wants a real path that ends in `ansible_collections/l4lb/xdp`, so it gets a copy of the tree,
kept in `.cache/` with what it installs, which makes the next run fast. It lets no variable of pip
through and fetches a script to install pip with from a site of its own, so it gets a home directory
with pip's settings of this environment and a stand-in for the script.
"""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
CACHE = CHECKOUT / ".cache" / "ansible-test"
COPY = CACHE / "ansible_collections" / "l4lb" / "xdp"
HOME = CACHE / "home"

# What ansible-core 2.19 asks for; another version of it may ask for another pip.
GET_PIP = HOME / ".ansible" / "test" / "cache" / "get_pip_24_2.py"
STAND_IN = """\
import subprocess, sys
packages = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
"""


def output(*command: str) -> str:
    return subprocess.run(
        command, cwd=CHECKOUT, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def copy_tree() -> None:
    """Make the copy hold what git knows or would add; what ansible-test wrote there stays."""
    listed = output("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    wanted = {Path(name) for name in listed.split("\0") if (CHECKOUT / name).is_file()}
    # A repository of its own, or ansible-test asks the checkout's, which ignores the copy.
    if not (COPY / ".git").exists():
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main", COPY], check=True)
    for name in output("git", "-C", str(COPY), "ls-files", "--others", "-z").split("\0"):
        if name and Path(name) not in wanted and not name.startswith("tests/output/"):
            (COPY / name).unlink()
    for name in wanted:
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, COPY / name)


def write_home() -> None:
    GET_PIP.parent.mkdir(parents=True, exist_ok=True)
    GET_PIP.write_text(STAND_IN)
    pip = {"global": {"quiet": "2"}}
    listed = output(sys.executable, "-m", "pip", "config", "list").splitlines()
    # Variables last: they win over files.
    for setting in sorted(listed, key=lambda line: line.startswith(":env:")):
        name, _equals, value = setting.partition("=")
        section, _dot, key = name.rpartition(".")
        section = "global" if section == ":env:" else section
        pip.setdefault(section, {})[key] = "\n".join(ast.literal_eval(value).split())
    config = configparser.RawConfigParser()
    config.read_dict(pip)
    settings = HOME / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.touch(mode=0o600)
    with settings.open("w") as file:
        config.write(file)


def main() -> int:
    COPY.mkdir(parents=True, exist_ok=True)
    copy_tree()
    write_home()
    environment = os.environ | {"HOME": str(HOME)}
    # Its own configuration and collections, not the checkout's.
    environment = {k: v for k, v in environment.items() if not k.startswith("ANSIBLE_")}
    command = [str(Path(sys.executable).with_name("ansible-test")), *sys.argv[1:]]
    return subprocess.run(command, cwd=COPY, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
