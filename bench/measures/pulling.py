"""A ten-layer image pulled from a registry on this machine, and the memory that our engine takes for it."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import layers, memory
from bench.arena import Arena
from bench.contest import OURS, Contest, Figure
from bench.engines import Cutaway, Engine
from tests import images
from tests.registry import Registry

IMAGE = "bench/ten:1"
THIRD = 1 / 3
_INTERVAL = 0.01  # seconds


def contests(arena: Arena) -> Iterator[Contest]:
    if not shutil.which("docker-registry") or not shutil.which("skopeo"):
        print("docker-registry or skopeo is not there: pulling is not measured", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="cutaway-bench-") as name, Registry(Path(name)) as registry:
        image = f"{registry.name}/{IMAGE}"
        layers.publish(images.debian(()), image, Path(name) / "layout")
        what = f"pull of {layers.LAYERS} layers, {layers.SIZE / 1e6:.0f} MB, from a registry beside it"
        figures = (Figure(what, "ms", goals={"docker": THIRD, "podman": THIRD}),)
        yield Contest(figures, {engine.name: partial(_pull, engine, image) for engine in arena.engines}, rounds=5)
        limit = Figure("memory that the engine takes, with its children, while it pulls that", "MB", limit=150)
        yield Contest((limit,), {OURS: partial(_extra_memory, arena.ours, image)}, rounds=3)


def _pull(engine: Engine, image: str) -> tuple[float]:
    taken = engine.time("pull", "-q", *engine.insecure, image)
    engine.say("rmi", image)
    return (1e3 * taken,)


def _extra_memory(engine: Cutaway, image: str) -> tuple[float]:
    """The most that its processes take at once, beyond what they take at rest."""
    engine.renew()
    status = engine.processes()
    at_rest = most = memory.pss(status)
    pulling = threading.Thread(target=_pull, args=(engine, image))
    pulling.start()
    while pulling.is_alive():
        most = max(most, memory.pss(memory.family(status)))
        pulling.join(_INTERVAL)
    return (most - at_rest,)
