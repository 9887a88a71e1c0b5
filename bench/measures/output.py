"""Text through a container's standard output into a pipe."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.arena import Arena
from bench.contest import Contest, Figure
from bench.engines import IMAGE, Engine

SIZE = 1 << 30
LINE = b"The quick brown fox jumps over the lazy dog, and the lazy dog looks on.\n"


def contests(arena: Arena) -> Iterator[Contest]:
    figure = Figure("1 GiB of text through `run`'s standard output", "ms", goals={"podman": 1 / 5})
    with tempfile.TemporaryDirectory(prefix="cutaway-bench-") as directory:
        text = Path(directory) / "text"
        with open(text, "wb") as file:
            block = LINE * (1 << 14)
            for _ in range(SIZE // len(block) + 1):
                file.write(block)
            file.truncate(SIZE)
        yield Contest((figure,), {engine.name: partial(_print, engine, text) for engine in arena.engines}, rounds=3)


def _print(engine: Engine, text: Path) -> tuple[float]:
    volume = f"{text}:/text:ro"
    return (1e3 * engine.time_output("run", "--rm", "-v", volume, IMAGE, "cat", "/text", size=SIZE),)
