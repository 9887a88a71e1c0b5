"""What is measured: each module's `contests` gives the contests for an arena."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.arena import Arena
from bench.contest import Contest
from bench.measures import (
    burst,
    crowd,
    executing,
    explaining,
    growth,
    library,
    looking,
    output,
    pulling,
    pushing,
    running,
    runtimes,
    storing,
)

ALL: dict[str, Callable[[Arena], Iterator[Contest]]] = {
    module.__name__.rpartition(".")[2]: module.contests
    for module in (
        running,
        runtimes,
        library,
        executing,
        explaining,
        burst,
        output,
        crowd,
        growth,
        looking,
        pulling,
        pushing,
        storing,
    )
}
