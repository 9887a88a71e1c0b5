"""A store of images of its own for each test."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cutaway.image.images import Images
from tests.image.stores import Containers


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        yield connection


@pytest.fixture
def containers() -> Containers:
    """The containers that the store believes there are."""
    return Containers()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the store."""
    return tmp_path / "images"


@pytest.fixture
def images(root: Path, database: sqlite3.Connection, containers: Containers) -> Images:
    return Images(str(root), database, containers.using)
