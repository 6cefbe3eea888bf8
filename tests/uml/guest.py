# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inside the emulated machine: what the kernel's own tunnels take.

Prints a line of JSON for what each tunnelled datagram became, and for what was left at the end.
"""

from __future__ import annotations

import subprocess

from .real_server import IN_IP, IN_UDP, PORT, deliver, devices, set_up, unit
from .telling import tell


def main() -> None:
    set_up()
    before = devices()
    unit("up")
    unit("up")  # a second time changes nothing
    for form in IN_IP:
        tell(form=form, received=deliver(form))
    unit("up", str(PORT))
    unit("up", str(PORT))
    for form in IN_UDP:
        tell(form=form, received=deliver(form))
    unit("up", "9886")
    tell(form="other port", received=deliver("gue 4in4", 9886))
    tell(form="old port", received=deliver("gue 4in4"))
    unit("down")
    ports = subprocess.run(["ip", "fou", "show"], capture_output=True, text=True, check=True).stdout
    tell(left=[name for name in devices() if name not in before], ports=ports.split())


if __name__ == "__main__":
    main()
