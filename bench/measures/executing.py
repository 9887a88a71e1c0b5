"""A command in a container that runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.arena import Arena
from bench.contest import Contest, Figure
from bench.engines import START, Engine


def contests(arena: Arena) -> Iterator[Contest]:
    running = {engine: engine.say(*START) for engine in arena.engines}
    figure = Figure("`exec CONTAINER true`", "ms", goals={"docker": 1 / 4})
    yield Contest((figure,), {engine.name: partial(_exec, engine, container) for engine, container in running.items()})
    for engine in running:
        engine.remove_started()


def _exec(engine: Engine, container: str) -> tuple[float]:
    return (1e3 * engine.time("exec", container, "true"),)
