"""A container from nothing to nothing, as one command."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.arena import Arena
from bench.contest import Contest, Figure
from bench.engines import IMAGE, Engine


def contests(arena: Arena) -> Iterator[Contest]:
    bridge = Figure("`run --rm busybox true` on the bridge", "ms", goals={"docker": 1 / 10, "podman": 1 / 12})
    alone = Figure("the same with `--network none`", "ms")
    for figure, options in ((bridge, ()), (alone, ("--network", "none"))):
        yield Contest((figure,), {engine.name: partial(_run, engine, *options) for engine in arena.engines})


def _run(engine: Engine, *options: str) -> tuple[float]:
    return (1e3 * engine.time("run", "--rm", *options, IMAGE, "true"),)
