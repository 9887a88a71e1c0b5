"""`engine start|stop|status|logs`: the engine's own process."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from cutaway.cli.verb import verb
from cutaway.engine.errors import EngineError
from cutaway.engine.options.option import BOOL, STRING, Option

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session


@verb("engine start", usage="", summary="Start the engine, as every other command does too", arguments=(0, 0))
async def start(session: Session, _: Parsed) -> None:
    status = await session.engine.status()
    await session.print(f"the engine runs as process {status.engine_pid}")


@verb(
    "engine stop",
    usage="[OPTIONS]",
    summary="End the engine; containers run on, and the next engine takes them over",
    options=[Option("containers", BOOL, "Stop all containers first")],
    arguments=(0, 0),
)
async def stop(session: Session, parsed: Parsed) -> None:
    await session.engine.shutdown(stop_containers=parsed.options.get("containers", False))


@verb(
    "engine status",
    usage="[OPTIONS]",
    summary="Print the engine's processes, places and versions",
    options=[
        Option("output", STRING, "How to print: text or json", short="o", default='"text"', completes="text|json")
    ],
    arguments=(0, 0),
)
async def status(session: Session, parsed: Parsed) -> None:
    found = await session.engine.status()
    output = parsed.options.get("output", "text")
    if output == "json":
        return await session.print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    if output != "text":
        raise EngineError(f"--output {output}: it is text or json")
    rows = msgspec.to_builtins(found).items()
    return await session.print("\n".join(f"{name.replace('_', ' '):<20}{value}" for name, value in rows))


@verb(
    "engine logs",
    usage="[OPTIONS]",
    summary="Print what the engine has written about itself",
    options=[Option("tail", STRING, "Only the last lines: their number, or all", short="n", default='"all"')],
    arguments=(0, 0),
)
async def logs(session: Session, parsed: Parsed) -> None:
    tail = parsed.options.get("tail", "all")
    status = await session.engine.status()
    try:
        with open(f"{status.runtime_dir}/engine.log", encoding="utf-8", errors="replace") as lines:
            await session.out("".join(deque(lines, maxlen=int(tail) if tail.isdecimal() else None)))
    except FileNotFoundError:
        raise EngineError("the engine writes no log file: whoever started it keeps its output") from None
