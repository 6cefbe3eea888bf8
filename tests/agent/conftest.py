# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", params=["newest", "oldest"])
def ansible(request: pytest.FixtureRequest) -> Iterator[str]:
    """Has plays run by the newest Ansible that is supported, then by the oldest; says which."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("L4LB_ANSIBLE", "" if request.param == "newest" else request.param)
        yield request.param
