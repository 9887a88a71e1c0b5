"""An image made here brought to a registry that has none of it, and saved as an archive."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.arena import Arena
from bench.contest import Contest, Figure
from bench.engines import Engine
from tests import images
from tests.registry import Registry

IMAGE = "cutaway-bench:made"
HALF = 1 / 2

FIGURES = (
    Figure("`push` of Debian, 170 MB in one layer, to a registry beside it", "ms", goals={"docker": HALF, "podman": 1}),
    Figure("`save` of it", "ms", goals={"docker": 1, "podman": 1}),
)


def contests(arena: Arena) -> Iterator[Contest]:
    if not shutil.which("docker-registry"):
        print("docker-registry is not there: pushing is not measured", file=sys.stderr)
        return
    for engine in arena.engines:
        engine.say("import", str(images.debian(())), IMAGE)
    yield Contest(FIGURES, {engine.name: partial(_push_and_save, engine) for engine in arena.engines}, rounds=3)
    for engine in arena.engines:
        engine.say("rmi", IMAGE)


def _push_and_save(engine: Engine) -> tuple[float, ...]:
    with tempfile.TemporaryDirectory(prefix="cutaway-bench-") as name, Registry(Path(name)) as registry:
        image = f"{registry.name}/made:1"
        engine.say("tag", IMAGE, image)
        pushing = engine.time("push", "-q", *engine.insecure, image)
        engine.say("rmi", image)
        return 1e3 * pushing, 1e3 * engine.time("save", "-o", f"{name}/saved.tar", IMAGE)
