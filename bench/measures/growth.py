"""Whether a start takes longer the more containers run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from bench.arena import Arena
from bench.contest import OURS, Contest, Figure
from bench.engines import START, Engine

MANY = 500
SAMPLE = 10


def contests(arena: Arena) -> Iterator[Contest]:
    figure = Figure(f"the start of the {MANY}th container against the first", "×", limit=1.3)
    yield Contest((figure,), {OURS: partial(_grow, arena.ours)}, rounds=3)


def _grow(engine: Engine) -> tuple[float]:
    taken = [engine.time(*START) for _ in range(MANY)]
    engine.remove_started()
    return (median(taken[-SAMPLE:]) / median(taken[:SAMPLE]),)
