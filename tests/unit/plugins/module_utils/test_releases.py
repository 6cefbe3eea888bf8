# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a release: kept before they are written over, whole or not at all, and brought back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _releases
from ansible_collections.l4lb.xdp.plugins.module_utils._releases import (
    ReleaseError,
    Trees,
    bring_back,
    keep,
    kept,
    name_of,
    unmark,
)


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    made = Trees(tmp_path / "bpf", tmp_path / "python", tmp_path / "releases")
    write(made, "one")
    return made


def write(trees: Trees, text: str) -> None:
    """Another release, written over the one in place."""
    version = trees.library / "ansible_collections/l4lb/xdp/plugins/module_utils/_version.py"
    version.parent.mkdir(parents=True, exist_ok=True)
    version.write_text(f'VERSION = "1.{len(text)}"\n')
    trees.source.mkdir(exist_ok=True)
    for path in (trees.source / "maps.h", trees.library / "code.py"):
        path.write_text(text)


def content(trees: Trees) -> tuple[str, str]:
    return (trees.source / "maps.h").read_text(), (trees.library / "code.py").read_text()


def install(trees: Trees, text: str) -> None:
    """As the role does."""
    keep(trees, mark=True)
    write(trees, text)
    unmark(trees)


def test_name_tells_version_and_content(trees: Trees) -> None:
    first = name_of(trees.source, trees.library)
    assert first.startswith("1.3-")
    (trees.library / "__pycache__").mkdir()
    (trees.library / "__pycache__" / "code.pyc").write_text("compiled")
    assert name_of(trees.source, trees.library) == first
    (trees.source / "maps.h").write_text("two")
    assert name_of(trees.source, trees.library) != first


def test_the_release_before_is_kept_and_brought_back(trees: Trees) -> None:
    first = name_of(trees.source, trees.library)
    install(trees, "second")
    assert kept(trees.releases) == [first]
    done = bring_back(trees, "")
    assert done.changed
    assert content(trees) == ("one", "one")
    assert not bring_back(trees, first).changed
    assert sorted(path.name for path in trees.source.parent.iterdir()) == [
        "bpf",
        "python",
        "releases",
    ]


def test_only_the_last_one_is_kept(trees: Trees) -> None:
    install(trees, "second")
    second = name_of(trees.source, trees.library)
    install(trees, "the third")
    assert kept(trees.releases) == [second]


def test_half_a_release_is_never_kept(trees: Trees) -> None:
    first = name_of(trees.source, trees.library)
    keep(trees, mark=True)
    (trees.source / "maps.h").write_text("half of the second")  # killed here
    assert name_of(trees.source, trees.library) == ""
    assert keep(trees, mark=True).data["release"] == {"name": None, "kept": [first]}
    write(trees, "second")
    assert unmark(trees).changed
    assert not unmark(trees).changed
    assert kept(trees.releases) == [first]


def test_a_copy_that_was_killed_is_no_release(trees: Trees) -> None:
    left = trees.releases / ".1.3-0123456789ab" / "bpf"
    left.mkdir(parents=True)
    (left / "maps.h").write_text("")
    assert kept(trees.releases) == []


def test_half_brought_back_is_brought_back_again(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = name_of(trees.source, trees.library)
    install(trees, "second")
    exchange = _releases._exchange

    def once(one: Path, other: Path) -> None:
        monkeypatch.setattr(_releases, "_exchange", _refuse)
        exchange(one, other)

    monkeypatch.setattr(_releases, "_exchange", once)
    with pytest.raises(KeyboardInterrupt):
        bring_back(trees, first)
    assert content(trees) == ("one", "second")
    monkeypatch.undo()
    assert bring_back(trees, first).changed
    assert content(trees) == ("one", "one")


def _refuse(_one: Path, _other: Path) -> None:
    raise KeyboardInterrupt


def test_dry_run_writes_nothing(trees: Trees) -> None:
    assert keep(trees, mark=True, dry=True).changed
    assert not trees.releases.exists()
    install(trees, "second")
    assert bring_back(trees, "", dry=True).changed
    assert content(trees) == ("second", "second")


def test_nothing_in_place_keeps_nothing(tmp_path: Path) -> None:
    trees = Trees(tmp_path / "bpf", tmp_path / "python", tmp_path / "releases")
    assert not keep(trees, mark=True).changed
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_kept_is_named_with_the_remedy(trees: Trees) -> None:
    with pytest.raises(ReleaseError, match=r"9-9 is not kept .*none.*check out.*l4lb\.xdp\.upgr"):
        bring_back(trees, "9-9")


def test_without_an_exchange_the_directories_are_renamed(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_releases, "_RENAME_EXCHANGE", 1 << 30)  # no file system knows that
    install(trees, "second")
    bring_back(trees, "")
    assert content(trees) == ("one", "one")
