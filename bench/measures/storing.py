"""A Debian image loaded from an archive and removed again; and the list of many images."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.arena import Arena
from bench.contest import OURS, Contest, Figure
from bench.engines import Engine
from tests import images
from tests.image.archives import docker_archive
from tests.image.trees import archive, member

DEBIAN = "cutaway-bench:debian"
MANY = 1000
THIRD = 1 / 3

FIGURES = (
    Figure("`load` of Debian, 170 MB in one layer", "ms", goals={"docker": THIRD, "podman": THIRD}),
    Figure("`rmi` of it", "ms", goals={"docker": 1}),
)
LIST = Figure(f"`images` with {MANY} images in the store", "ms", limit=60)


def contests(arena: Arena) -> Iterator[Contest]:
    with tempfile.TemporaryDirectory(prefix="cutaway-bench-") as name:
        debian = _debian(Path(name))
        yield Contest(FIGURES, {engine.name: partial(_load, engine, debian) for engine in arena.engines}, rounds=7)
        references = _load_many(arena.ours, Path(name) / "many.tar")
    yield Contest((LIST,), {OURS: partial(_list, arena.ours)}, rounds=30)
    arena.ours.say("rmi", *references)


def _debian(directory: Path) -> Path:
    """An image of one layer that no engine has yet: a file of its own is in it."""
    layer, image = directory / "layer.tar", directory / "debian.tar"
    shutil.copy(images.debian(()), layer)
    with tarfile.open(layer, "a") as tar:
        mark = tarfile.TarInfo("cutaway-bench")
        mark.size = 16
        tar.addfile(mark, io.BytesIO(os.urandom(mark.size)))
    docker_archive(image, [([layer.read_bytes()], [DEBIAN])])
    layer.unlink()
    return image


def _load(engine: Engine, image: Path) -> tuple[float, ...]:
    loading = engine.time("load", "--input", str(image))
    return 1e3 * loading, 1e3 * engine.time("rmi", DEBIAN)


def _load_many(engine: Engine, path: Path) -> list[str]:
    """Loads images of two layers, one of them shared by all; returns their names."""
    base = archive([member("base")])
    references = [f"registry.example/bench:{number}" for number in range(MANY)]
    docker_archive(path, [([base, archive([member(reference)])], [reference]) for reference in references])
    engine.say("load", "--input", str(path))
    return references


def _list(engine: Engine) -> tuple[float]:
    return (1e3 * engine.time("images"),)
