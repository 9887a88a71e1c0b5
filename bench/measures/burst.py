"""Many containers wanted at the same moment."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.arena import Arena
from bench.contest import Contest, Figure
from bench.engines import START, Engine

AT_ONCE = 20


def contests(arena: Arena) -> Iterator[Contest]:
    figure = Figure(f"{AT_ONCE} × `run -d busybox sleep` at once", "ms", goals={"docker": 1 / 12, "podman": 1 / 8})
    yield Contest((figure,), {engine.name: partial(_burst, engine) for engine in arena.engines}, rounds=5)


def _burst(engine: Engine) -> tuple[float]:
    taken = engine.time_together(*START, times=AT_ONCE)
    engine.remove_started()
    return (1e3 * taken,)
