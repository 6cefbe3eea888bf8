#!/bin/sh
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

# Process 1 of the machine: runs GUEST and powers off. Its root is read-only, its kernel may be from elsewhere (MODULES).
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/run PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=.venv/collections
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
headers=$(ls -d /usr/src/linux-headers-*-amd64)
# What lies below /lib/modules is hidden in a moment.
mkdir /run/modules /run/links
mount --bind "$MODULES" /run/modules
for each in kernel $(cd /run/modules && echo modules.*); do
    ln -s "/run/modules/$each" /run/links/
done
ln -sfn "$headers" /run/links/build
ln -sfn "${headers%-amd64}-common" /run/links/source
mount -t tmpfs tmpfs /lib/modules
mv /run/links "/lib/modules/$(uname -r)"
modprobe --all ipv6 veth
ip link set lo up
cd "$REPOSITORY" || exit
"$PYTHON" -m "$GUEST" 2>&1
echo o > /proc/sysrq-trigger
read -r _never
