"""`xray` of a crowded host: its containers listed from what the kernel says, without an engine; and one opened."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.arena import Arena
from bench.contest import OURS, Contest, Figure
from bench.engines import START, Engine

CROWD = 200

FIGURES = (
    Figure(f"`xray` of a host with {CROWD} containers", "ms", limit=500),
    Figure("`xray NAME` of one of them", "ms"),
)


def contests(arena: Arena) -> Iterator[Contest]:
    for _ in range(CROWD // 4):
        arena.ours.time_together(*START, times=4)
    one = arena.ours.say("ps", "-q", "--last", "1")
    yield Contest(FIGURES, {OURS: partial(_look, arena.ours, one)})
    arena.ours.remove_started()


def _look(engine: Engine, one: str) -> tuple[float, float]:
    return 1e3 * engine.time("xray"), 1e3 * engine.time("xray", one)
