"""Bundles of busybox, and the runtime."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.bundles import Bundle, Runtime


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Path:
    root = tmp_path_factory.mktemp("busybox-root")
    subprocess.run(["tar", "--directory", root, "--extract", "--file", busybox_tar], check=True)
    return root


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    runtime = Runtime(tmp_path)
    yield runtime
    runtime.delete_all()


@pytest.fixture
def bundles(tmp_path: Path, busybox_root: Path, runtime: Runtime) -> Iterator[Callable[[], Bundle]]:
    """Makes bundles of the test's own."""
    made: list[Bundle] = []

    def make() -> Bundle:
        directory = tmp_path / f"bundle-{len(made)}"
        directory.mkdir()
        made.append(Bundle(directory, busybox_root, runtime))
        return made[-1]

    yield make
    runtime.delete_all()


@pytest.fixture
def bundle(bundles: Callable[[], Bundle]) -> Bundle:
    return bundles()
