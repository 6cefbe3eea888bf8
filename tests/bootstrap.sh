#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes a Debian machine able to run the lab and every test. Each step looks first whether it is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

arch=$(dpkg --print-architecture)
packages=(
  # The data plane's tests load the real program; so do the nodes, with the same packages.
  python3-bpfcc python3-pyroute2 python3-netaddr "linux-headers-$arch"
  # The agent: what it runs with on a node, and what its tests hold its checks, routes, metrics and alerts against.
  python3-h11 python3-dnspython python3-prometheus-client python3-systemd python3-rich python3-argcomplete
  bird2 frr nginx-light nsd openssl prometheus
  # The lab's hosts: an image, containers, and a way into them.
  mmdebstrap systemd-container openssh-client netcat-openbsd ethtool iproute2 nftables
  # The rest of the tests.
  python3-venv clang-format libmagic1 shellcheck kmod procps
)
# A kernel with IP-in-IP tunnels, whatever this machine's has; Debian builds it for PCs only.
[[ $arch != amd64 ]] || packages+=(user-mode-linux)
headers=/lib/modules/$(uname -r)
stamp=.venv/bootstrapped

say() { printf '\033[1mbootstrap: %s\033[0m\n' "$*"; }

need_root() {
  ((EUID == 0)) && return
  echo "bootstrap: needs root to $*; so do the lab and the data plane's tests" >&2
  exit 1
}

apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" < /dev/null
}

# Tests start daemons of their own, with configurations of their own: what is installed for them starts neither now (Debian asks
# policy-rc.d) nor at the next boot.
policy=/usr/sbin/policy-rc.d
install_without_starting() {
  if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
  fi
  apt install --yes --no-install-recommends "$@"
  local package
  for package in bird2:bird frr:frr nginx-light:nginx nsd:nsd prometheus:prometheus; do
    [[ " $* " != *" ${package%:*} "* ]] || systemctl --quiet disable "${package#*:}.service"
  done
}

install_python() {
  /usr/bin/python3 -m venv --clear --system-site-packages "$1"
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check --retries 10 --requirement "$2"
}

is_installed=$(dpkg-query -W -f '${Package}:${db:Status-Status}\n' "${packages[@]}" 2>&- || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF "$package:installed" <<< "$is_installed" || missing+=("$package")
done
if ((${#missing[@]})); then
  need_root "install ${missing[*]}"
  say "apt-get install ${missing[*]}"
  apt update
  install_without_starting "${missing[@]}"
fi

# bcc looks under the running kernel's version. An XDP program includes UAPI headers only, so another version's will do.
if [[ ! -e $headers/build/include || ! -e $headers/source/include ]]; then
  need_root "link $headers"
  tree=$(dpkg-query -W -f '${Depends}' "linux-headers-$arch" | grep -o 'linux-headers-[^ ,]*' | head -n 1)
  say "$headers/{build,source} -> Debian's $tree: this kernel has no headers of its own"
  mkdir -p "$headers"
  ln -sfn "/usr/src/$tree" "$headers/build"
  ln -sfn "/usr/src/${tree%-"$arch"}-common" "$headers/source"
fi

# bcc exists for the distribution's Python only, so that is what everything runs under. A virtual environment names
# its own path in its scripts and cannot move: the path belongs to the stamp.
wanted=$(cat requirements.txt tests/requirements-oldest.txt <(pwd -P) | sha256sum)
if [[ $(cat "$stamp" 2>&-) != "$wanted" ]]; then
  say "virtual environment .venv"
  install_python .venv requirements.txt
  install_python .venv/oldest tests/requirements-oldest.txt
  # Ansible and Python find a collection only under its full name.
  mkdir -p .venv/collections/ansible_collections/l4lb
  ln -sfn ../../../.. .venv/collections/ansible_collections/l4lb/xdp
  ln -sfn "$(.venv/bin/python -c 'import ansible_mitogen; print(*ansible_mitogen.__path__)')/plugins/strategy" .venv/mitogen
  echo "$wanted" > "$stamp"
fi
