#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

# A file longer than this has more than one thing to say; what a tool writes is not read.
set -euo pipefail
limit=500

git ls-files --cached --others --exclude-standard -z -- '*' ':!LICENSE' ':!LICENSES/*' ':!bench/results/*' ':!docs/*.svg' ':!docs/performance/*.svg' |
  xargs -0 -I {} find {} -maxdepth 0 -type f -print0 |
  xargs -0 wc -l |
  awk -v limit=$limit '$2 != "total" && $1 > limit {print $2 ": " $1 " lines, more than " limit; bad = 1} END {exit bad}'
