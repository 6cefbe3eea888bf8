# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of what a command shows on a terminal.

python -m tests.lab.screen OUT.svg TITLE COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 110


def shown(command: list[str], width: int = WIDTH) -> str:
    """The command's output on a terminal of that width, colours and all; its status is nobody's."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(width), "LINES": "50"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        output = b""
        while data := _read(ours):
            output += data
    os.close(ours)
    return output.decode(errors="replace").replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the last process has closed it
        return b""


def picture(output: str, title: str, width: int = WIDTH) -> str:
    """As SVG. The same output gives the same picture."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(output.rstrip("\n")), soft_wrap=False)
    # GitHub shows no fonts from elsewhere: the viewer's own monospaced one does.
    svg = console.export_svg(title=title, unique_id="l4lb")
    svg = svg.replace("<text ", '<text xml:space="preserve" ')  # some trim a cell's leading blanks
    start, end = svg.index("@font-face"), svg.rindex("@font-face")
    end = svg.index("}", end) + 1
    return svg[:start] + svg[end:]


def main() -> None:
    out, title, *command = sys.argv[1:]
    Path(out).write_text(picture(shown(command), title), encoding="utf-8")


if __name__ == "__main__":
    main()
