"""`logs`: what a container has written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cutaway.cli.verb import verb
from cutaway.engine import filters
from cutaway.engine.containers import moment
from cutaway.engine.errors import InvalidArgument
from cutaway.engine.options.option import BOOL, STRING, Option

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.engine.interface import LogLine

_MOMENT = 'a date ("2026-01-02T13:23:37Z") or how long ago ("42m")'
BATCH = 1 << 16
"""Bytes that are collected before they are sent."""


@verb(
    "logs",
    "container logs",
    usage="[OPTIONS] CONTAINER",
    summary="Print what a container has written",
    options=[
        Option("follow", BOOL, "Go on with what it writes from now on", short="f"),
        Option("since", STRING, f"Only what was written since {_MOMENT}"),
        Option("tail", STRING, "Only the last lines: their number, or all", short="n", default='"all"'),
        Option("timestamps", BOOL, "When each line was written too", short="t"),
        Option("until", STRING, f"Only what was written before {_MOMENT}"),
    ],
    arguments=(1, 1),
    completes="container",
)
async def logs(session: Session, parsed: Parsed) -> None:
    options, (name,) = parsed
    await session.engine.inspect(name)
    lines = session.engine.logs(
        name,
        since=_nanoseconds(options.get("since")),
        until=_nanoseconds(options.get("until")),
        tail=_tail(options.get("tail", "all")),
        follow=options.get("follow", False),
    )
    batch = 0 if options.get("follow") else BATCH
    await session.while_here(_print(session, lines, batch, timestamps=options.get("timestamps", False)))


async def _print(session: Session, lines: AsyncIterator[LogLine], batch: int, *, timestamps: bool) -> None:
    """Writes lines out, those of one stream together until they are more than `batch` bytes."""
    write = {"stdout": session.connection.out, "stderr": session.connection.err}
    stream, waiting, begun = "stdout", bytearray(), {"stdout": False, "stderr": False}
    async for line in lines:
        if line.stream != stream:
            await write[stream](bytes(waiting))
            stream, waiting = line.stream, bytearray()
        if timestamps and not begun[stream]:
            waiting += f"{moment(line.time)} ".encode()
        waiting += line.line
        begun[stream] = not line.line.endswith(b"\n")
        if len(waiting) > batch:
            await write[stream](bytes(waiting))
            waiting.clear()
    await write[stream](bytes(waiting))


def _nanoseconds(text: str | None) -> int:
    try:
        return int(filters.moment(text, time.time()) * 1e9) if text else 0
    except ValueError as problem:
        raise InvalidArgument(f"invalid value for a moment: {problem}") from None


def _tail(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
