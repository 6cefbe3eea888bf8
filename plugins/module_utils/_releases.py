# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a release on a node: the C sources and the library, and those of the one before.

Private to the collection. Files are a release when they are complete: while they are being written
over, a mark lies among them (`MARK`, written before and removed after), and what is marked is never
kept. A kept release is a copy, `<directory>/<name>/{bpf,python}`, made beside and renamed into
place; bringing it back exchanges directories in one step each (renameat2(2)).
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome

MARK = "installing.h"
"""In the directory of the C sources. Named so that the role's listing of sources finds one that a
killed run left, and removes it when it has made the files whole."""

RELEASES = "/usr/lib/l4lb/releases"

_VERSION_FILE = Path("ansible_collections/l4lb/xdp/plugins/module_utils/_version.py")
_VERSION = re.compile(r'^VERSION = "([^"]+)"$', re.MULTILINE)

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class ReleaseError(L4lbError):
    """A release cannot be kept, or cannot be brought back."""


@dataclass(frozen=True)
class Trees:
    """Directories; releases: where those before are kept."""

    source: Path
    library: Path
    releases: Path = Path(RELEASES)

    @property
    def parts(self) -> dict[str, Path]:
        """The directories of a release, by their names in a kept one."""
        return {"bpf": self.source, "python": self.library}


def name_of(source: Path, library: Path) -> str:
    """The release's version and a digest of its files; empty where is none, or half of one."""
    if not source.is_dir() or not library.is_dir() or (source / MARK).exists():
        return ""
    digest = hashlib.sha256()
    for label, root in (("bpf", source), ("python", library)):
        for path in _files(root):
            digest.update(f"{label}/{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{_version(library)}-{digest.hexdigest()[:12]}"


def _files(root: Path) -> Iterator[Path]:
    """What somebody wrote; Python's own caches come and go."""
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc")
    yield from sorted(found)


def _version(library: Path) -> str:
    with contextlib.suppress(OSError):
        found = _VERSION.search((library / _VERSION_FILE).read_text(encoding="utf-8"))
        if found:
            return found[1]
    return "unknown"


def kept(releases: Path) -> list[str]:
    """The names of the kept releases, the newest first."""
    if not releases.is_dir():
        return []
    found = [path for path in releases.iterdir() if (path / "bpf" / "maps.h").is_file()]
    found = [path for path in found if not path.name.startswith(".")]
    return [path.name for path in sorted(found, key=lambda each: -each.stat().st_mtime_ns)]


def keep(trees: Trees, mark: bool, dry: bool = False) -> Outcome:
    """Copies the release that is in place to the kept ones, of which it becomes the only one.

    mark: its files are about to be written over. Nothing is kept where nothing whole is.
    """
    name = name_of(trees.source, trees.library)
    before = kept(trees.releases)
    if not name:
        if mark and not dry and trees.source.is_dir():
            _mark(trees)
        return _outcome(before, before, None)
    if not dry:
        if name not in before:
            _copy(trees, name)
        for other in before:
            if other != name:
                shutil.rmtree(trees.releases / other)
        if mark:
            _mark(trees)
    return _outcome(before, [name], name)


def _mark(trees: Trees) -> None:
    (trees.source / MARK).touch()


def unmark(trees: Trees, dry: bool = False) -> Outcome:
    """The files in place are whole again."""
    there = (trees.source / MARK).exists()
    if not dry:
        (trees.source / MARK).unlink(missing_ok=True)
    names = kept(trees.releases)
    done = _outcome(names, names, None)
    done.changed = there
    return done


def _copy(trees: Trees, name: str) -> None:
    fresh = trees.releases / f".{name}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True, mode=0o755)
    for part, root in trees.parts.items():
        shutil.copytree(root, fresh / part, ignore=shutil.ignore_patterns("__pycache__"))
    _flush(fresh)
    os.utime(fresh)
    fresh.rename(trees.releases / name)


_READ = """
import json, sys
from pathlib import Path
from ansible_collections.l4lb.xdp.plugins.module_utils import _config, _wanted
state = Path(sys.argv[1])
for name in _wanted.NAMES:
    _wanted.recall(state / f"program-{name}.json")
if (state / "services.json").exists():
    saved = json.loads((state / "services.json").read_text())
    _config.parse(saved["pools"], saved["services"], saved.get("deny", ()))
"""


def require_reads(library: Path, state_dir: Path) -> None:
    """Raises ReleaseError when this library cannot read what was applied: after a reboot it would
    bring nothing back.
    """
    done = subprocess.run(
        [sys.executable, "-B", "-c", _READ, str(state_dir)],
        env={**os.environ, "PYTHONPATH": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise ReleaseError(
            f"the release in {library} cannot read what was applied since ({why}), and after a "
            "reboot would bring nothing back. Nothing was changed: check that release out, and run "
            "l4lb.xdp.upgrade and l4lb.xdp.site from it"
        )


def bring_back(trees: Trees, name: str, dry: bool = False) -> Outcome:
    """Puts a kept release's files in place; empty name: the newest kept.

    Raises ReleaseError when there is no such.
    """
    names = kept(trees.releases)
    name = name or (names[0] if names else "")
    present = name_of(trees.source, trees.library)
    if name and name == present:
        return _outcome([present], [present], name)
    if name not in names:
        there = ", ".join(names) or "none"
        raise ReleaseError(
            f"release {name or '(any)'} is not kept in {trees.releases} (there: {there}): check "
            "out that release of the collection and run l4lb.xdp.upgrade"
        )
    if not dry:
        for part, root in trees.parts.items():
            _put(trees.releases / name / part, root)
        present_now = name_of(trees.source, trees.library)
        if present_now != name:
            raise ReleaseError(
                f"{trees.source} and {trees.library} are {present_now or 'nothing whole'} after "
                f"{name} was put there: somebody else writes them; run again"
            )
    return _outcome([present or "half a release"], [name], name)


def _put(kept_part: Path, root: Path) -> None:
    """Exchanges a directory for a copy of a kept one."""
    fresh = root.with_name(f".{root.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(kept_part, fresh)
    _flush(fresh)
    _exchange(fresh, root)
    shutil.rmtree(fresh, ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    """Each directory gets the other's name, in one step where the file system can."""
    libc = ct.CDLL(None, use_errno=True)
    names = (os.fsencode(one), os.fsencode(other))
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    number = ct.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.ENOENT):
        raise ReleaseError(f"cannot exchange {one} and {other}: {os.strerror(number)}")
    aside = other.with_name(f".{other.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if other.exists():
        other.rename(aside)
    one.rename(other)
    shutil.rmtree(aside, ignore_errors=True)


def _flush(root: Path) -> None:
    """On the disk before it gets its name."""
    for path in [root, *root.rglob("*")]:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _outcome(before: list[str], after: list[str], name: str | None) -> Outcome:
    data = {"release": {"name": name, "kept": after}}
    return Outcome(before != after, before, after, data)
