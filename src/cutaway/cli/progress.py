"""How far something is that takes long: bars that live on a terminal, drawn by `rich`; elsewhere a line a step.

`rich` is imported when the first terminal wants bars: 30 ms, and 3 MB that the engine keeps from then on.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from cutaway.engine.connection import Disconnected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cutaway.cli.session import Session
    from cutaway.engine.interface import Step

_INTERVAL = 0.1  # seconds
_MOVING = ("Downloading", "Extracting", "Pushing")
"""What is shown by bars alone: there is a step of it every moment."""


class _Drawing(Protocol):
    def add(self, step: Step) -> None: ...
    def drawn(self) -> str: ...
    def finished(self) -> str: ...


@asynccontextmanager
async def shown(session: Session, output: int) -> AsyncIterator[Callable[[Step], None]]:
    """What is told steps, and shows them on the caller's descriptor `output` (1 or 2)."""
    drawing = _drawing(session, output)
    write = session.connection.out if output == 1 else session.connection.err
    drawer = asyncio.create_task(_keep_drawing(drawing, write))
    try:
        yield drawing.add
    finally:
        drawer.cancel()
        with suppress(asyncio.CancelledError, Disconnected):
            await drawer
        with suppress(Disconnected):
            await write(drawing.finished().encode())


def _drawing(session: Session, output: int) -> _Drawing:
    if not session.is_terminal(output):
        return _Lines()
    from cutaway.cli.bars import Bars

    return Bars(session.window, session.caller.environment)


async def _keep_drawing(drawing: _Drawing, write: Callable[[bytes], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(_INTERVAL)
        if text := drawing.drawn():
            await write(text.encode())


class _Lines:
    def __init__(self) -> None:
        self._new: list[str] = []

    def add(self, step: Step) -> None:
        if step.status not in _MOVING:
            self._new.append(f"{step.id}: {step.status}\n")

    def drawn(self) -> str:
        text = "".join(self._new)
        self._new.clear()
        return text

    finished = drawn
