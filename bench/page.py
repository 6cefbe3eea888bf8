# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures in docs/: each measurement has a block of its own on a page there."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def write(block: str, text: str, page: Path = PAGE) -> None:
    """Puts the text between the block's two marks. Raises ValueError when the page lacks them."""
    begin, end = f"<!-- {block}: written by make -->\n", f"<!-- end of {block} -->"
    before, mark, rest = page.read_text().partition(begin)
    _old, closing, after = rest.partition(end)
    if not (mark and closing):
        raise ValueError(f"{page} has no block {block}")
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")
