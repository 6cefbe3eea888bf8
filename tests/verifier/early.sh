# shellcheck shell=dash
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

# Process 1 of the machine until it has its root: a directory of the host, read-only, by 9P.
/bin/busybox mount -t proc proc /proc
for module in /modules/*.ko; do
    /bin/busybox insmod "$module"
done
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=mmap root /root
for word in $(/bin/busybox cat /proc/cmdline); do
    case $word in guest.*) export "${word#guest.}" ;; esac
done
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /bin/sh "$REPOSITORY/tests/verifier/init.sh"
