"""What `--explain` costs: the same command with it and without, in turn."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench import clock
from bench.arena import Arena
from bench.contest import OURS, Contest, Figure
from bench.engines import IMAGE, Engine

PLAIN = "cutaway without"


def contests(arena: Arena) -> Iterator[Contest]:
    for network in ("bridge", "none"):
        command = ("run", "--rm", "--network", network, IMAGE, "true")
        figure = Figure(f"`run --rm --explain --network {network} busybox true`", "ms", goals={PLAIN: 1.05})
        explained = partial(_run, arena.ours, "run", "--explain", *command[1:])
        yield Contest((figure,), {OURS: explained, PLAIN: partial(_run, arena.ours, *command)}, rounds=40)


def _run(engine: Engine, *arguments: str) -> tuple[float]:
    """In both cases without its standard error, where the explanation goes."""
    command = ("sh", "-c", 'exec "$@" 2>/dev/null', "sh", *engine.command, *arguments)
    return (1e3 * clock.alone(command, engine.environment),)
