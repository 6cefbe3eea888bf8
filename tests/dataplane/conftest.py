# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: an isolated process, and a node for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.config import conf

from .node import Node, bpffs, isolate, wire


@pytest.fixture(scope="session", autouse=True)
def namespaces() -> None:
    """This process in namespaces of its own, wired."""
    isolate()
    wire()
    # Nobody is asked for the address of a frame that has none.
    conf.neighbor.resolvers.clear()


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Buckets are a CPU's."""
    kept = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(kept)})
    yield
    os.sched_setaffinity(0, kept)


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """An empty BPF file system."""
    with bpffs(tmp_path / "bpf") as directory:
        yield directory


@pytest.fixture
def make_node(pins: Path, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Makes a node with other settings than the usual, on maps of its own."""
    made = []

    def make(**settings: Any) -> Node:
        made.append(Node(pins, tmp_path / "state", **settings))
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.fixture(scope="session")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The usual node: compiled once."""
    directory = tmp_path_factory.mktemp("node")
    with bpffs(directory / "bpf") as pinned:
        yield Node(pinned, directory / "state")


@pytest.fixture
def node(shared_node: Node) -> Node:
    """A node with the usual settings, without services, flows and counts."""
    shared_node.reset()
    return shared_node
