# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

from l4lb_agent.files import Watched


def replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_change_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "services.json"
    watched = Watched([path])
    assert watched.news()  # the first look
    assert not watched.news()

    for text in ("a", "b"):  # of the same length, within the same tick of the clock
        replace(path, text)
        assert watched.news()
        assert not watched.news()

    path.unlink()
    assert watched.news()
    assert not watched.news()


def test_what_is_forgotten_is_news_again(tmp_path: Path) -> None:
    watched = Watched([tmp_path / "none"])
    watched.news()
    watched.forget()

    assert watched.news()
