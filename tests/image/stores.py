"""What tests do with a store of images."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cutaway.image.images import Images, Loaded
from cutaway.image.store import Image


class Containers:
    """Stands for the engine's containers: image ID → (container ID, whether it runs)."""

    def __init__(self) -> None:
        self.by_image: dict[str, list[tuple[str, bool]]] = {}

    def using(self, image: str) -> list[tuple[str, bool]]:
        return self.by_image.get(image, [])


def import_file(images: Images, path: Path, reference: str = "", **options: Any) -> Image:
    source = os.open(path, os.O_RDONLY)
    try:
        return asyncio.run(images.import_(source, reference, **options))
    finally:
        os.close(source)


def load_file(images: Images, path: Path) -> list[Loaded]:
    source = os.open(path, os.O_RDONLY)
    try:
        return asyncio.run(images.load(source))
    finally:
        os.close(source)


def remove(images: Images, name: str, *, force: bool = False) -> list[dict[str, str]]:
    return asyncio.run(images.remove(name, force=force))


def names(listed: Sequence[dict[str, str]], kind: str) -> list[str]:
    return [record[kind] for record in listed if kind in record]


def kept(root: Path) -> list[str]:
    """What the store has on disk: layers, blobs, and what is left in its staging directory."""
    return sorted(
        f"{path.parent.name}/{path.name}"
        for path in [*root.glob("layers/*"), *root.glob("blobs/*/*"), *root.glob("staging/*")]
    )


def save_file(images: Images, path: Path, *names: str) -> Path:
    """Saves images to a file; returns its path."""
    with open(path, "wb") as file:
        asyncio.run(images.save(names, file.fileno()))
    return path


@contextmanager
def new_store(directory: Path) -> Iterator[Images]:
    """Another store of images, which nobody else has."""
    directory.mkdir()
    with closing(sqlite3.connect(directory / "state.db", isolation_level=None)) as database:
        yield Images(str(directory / "images"), database)
