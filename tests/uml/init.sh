#!/bin/sh
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

# Process 1 of the emulated machine: runs GUEST and powers off. Its root is this machine's, read-only.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/run PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount --bind /usr/lib/uml/modules /lib/modules
/usr/bin/python3 "$(dirname "$0")/${GUEST:-guest}.py" 2>&1
echo o > /proc/sysrq-trigger
read -r _never
