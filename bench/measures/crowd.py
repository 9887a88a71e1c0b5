"""A hundred idle containers on the bridge: what each costs, and how long taking them all away takes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.arena import Arena
from bench.contest import Contest, Figure
from bench.engines import START, Engine
from bench.memory import pss

CROWD = 100

FIGURES = (
    Figure("memory of engine and spawner at rest", "MB", limit=60),
    Figure(f"the same with {CROWD} containers", "MB", limit=75),
    Figure("memory of one more idle detached container", "MB", limit=0.15),
    Figure(f"`rm -f` of {CROWD} running containers", "ms", goals={"docker": 1 / 8}),
    Figure("mounts, links and cgroups left when it returns", "", limit=0),
)


def contests(arena: Arena) -> Iterator[Contest]:
    yield Contest(FIGURES, {engine.name: partial(_gather, engine) for engine in arena.engines}, rounds=3)


def _gather(engine: Engine) -> tuple[float, ...]:
    engine.renew()
    at_rest = pss(engine.processes())
    for _ in range(CROWD // 4):
        engine.time_together(*START, times=4)
    crowded = pss(engine.processes())
    removed = engine.remove_started()
    return at_rest, crowded, (crowded - at_rest) / CROWD, 1e3 * removed, engine.traces().total()
