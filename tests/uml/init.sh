#!/bin/sh
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

# Process 1 of the emulated machine: runs GUEST and powers off. Its root is this machine's, read-only.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/run PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=.venv/collections
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount --bind /usr/lib/uml/modules /lib/modules
cd "$(dirname "$0")/../.." || exit
/usr/bin/python3 -m "tests.uml.$GUEST" 2>&1
echo o > /proc/sysrq-trigger
read -r _never
