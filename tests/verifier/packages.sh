#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

# What only `make test-verifier` needs.
set -euo pipefail
packages=(qemu-system-x86 busybox-static)
dpkg-query -W -f '${db:Status-Status}\n' "${packages[@]}" 2>&- | grep -cx installed | grep -qx "${#packages[@]}" && exit
printf '\033[1mtest-verifier: apt-get install %s\033[0m\n' "${packages[*]}"
apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" < /dev/null
}
apt update
apt install --yes --no-install-recommends "${packages[@]}"
