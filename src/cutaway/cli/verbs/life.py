"""What is done to containers that are there: `start stop restart kill rm pause unpause wait rename`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cutaway.cli import foreground
from cutaway.cli.explanation import explain
from cutaway.cli.steps import EXPLAIN, explained
from cutaway.cli.verb import UNLIMITED, verb
from cutaway.engine.errors import EngineError, NotFound
from cutaway.engine.options import values
from cutaway.engine.options.option import BOOL, INT, STRING, Kind, Option

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.cli.verb import Verb
    from cutaway.engine.interface import Exit

USAGE = "CONTAINER [CONTAINER...]"
SEVERAL = (1, UNLIMITED)
SIGNAL = Option("signal", STRING, "Signal to send", short="s", completes="signal")
TIMEOUT = Option("timeout", INT, "Seconds to wait before killing it", short="t", alias="time")
DETACH_KEYS = Option("detach-keys", Kind("string", values.key_sequence), "Keys that detach from the container")


@verb(
    "start",
    "container start",
    usage=f"[OPTIONS] {USAGE}",
    summary="Start one or more stopped containers",
    options=[
        Option("attach", BOOL, "Attach its output and pass signals on", short="a"),
        DETACH_KEYS,
        EXPLAIN,
        Option("interactive", BOOL, "Attach its standard input", short="i"),
    ],
    arguments=SEVERAL,
    completes="stopped",
)
async def start(session: Session, parsed: Parsed) -> int:
    async with explained(session, parsed):
        return await _start(session, parsed)


async def _start(session: Session, parsed: Parsed) -> int:
    options, names = parsed
    if not options.get("attach") and not options.get("interactive"):
        return await session.for_each(names, session.engine.start)
    if len(names) > 1:
        raise EngineError("you cannot start and attach multiple containers at once")
    container = await session.engine.inspect(names[0])
    stdin = options.get("interactive", False) and container.Config.OpenStdin
    foreground.check_terminal(session, stdin=stdin, tty=container.Config.Tty)
    return await foreground.start_attached(
        session,
        container,
        stdin=stdin,
        stdout=True,
        stderr=True,
        detach_keys=options.get("detach-keys", ""),
        sig_proxy=not container.Config.Tty,
    )


@verb(
    "stop",
    "container stop",
    usage=f"[OPTIONS] {USAGE}",
    summary="Stop one or more running containers",
    options=[EXPLAIN, SIGNAL, TIMEOUT],
    arguments=SEVERAL,
    completes="running",
)
async def stop(session: Session, parsed: Parsed) -> int:
    timeout, signal = parsed.options.get("timeout"), parsed.options.get("signal", "")
    async with explained(session, parsed):
        return await session.for_each(parsed.arguments, lambda name: session.engine.stop(name, timeout, signal))


@verb(
    "restart",
    "container restart",
    usage=f"[OPTIONS] {USAGE}",
    summary="Stop one or more containers and start them again",
    options=[SIGNAL, TIMEOUT],
    arguments=SEVERAL,
    completes="container",
)
async def restart(session: Session, parsed: Parsed) -> int:
    timeout, signal = parsed.options.get("timeout"), parsed.options.get("signal", "")
    return await session.for_each(parsed.arguments, lambda name: session.engine.restart(name, timeout, signal))


@verb(
    "kill",
    "container kill",
    usage=f"[OPTIONS] {USAGE}",
    summary="Kill one or more running containers, or send them another signal",
    options=[SIGNAL],
    arguments=SEVERAL,
    completes="running",
)
async def kill(session: Session, parsed: Parsed) -> int:
    signal = parsed.options.get("signal") or "KILL"
    return await session.for_each(parsed.arguments, lambda name: session.engine.kill(name, signal))


@verb(
    "rm",
    "container rm",
    "container remove",
    usage=f"[OPTIONS] {USAGE}",
    summary="Remove one or more containers",
    options=[
        EXPLAIN,
        Option("force", BOOL, "Also one that runs (it is killed), and none that is not there is an error", short="f"),
        Option("volumes", BOOL, "Its anonymous volumes too", short="v"),
    ],
    arguments=SEVERAL,
    completes="container",
)
async def rm(session: Session, parsed: Parsed) -> int:
    force, volumes = parsed.options.get("force", False), parsed.options.get("volumes", False)

    async def remove(name: str) -> None:
        try:
            await session.engine.remove(name, force=force, volumes=volumes)
        except NotFound:
            if not force:
                raise

    async with explained(session, parsed):
        return await session.for_each(parsed.arguments, remove)


def _for_each(
    name: str, summary: str, completes: str, do: Callable[[Session, str], Coroutine[object, object, None]]
) -> Verb:
    """A verb that has no options and does one thing to each container."""

    @verb(name, f"container {name}", usage=USAGE, summary=summary, arguments=SEVERAL, completes=completes)
    async def made(session: Session, parsed: Parsed) -> int:
        return await session.for_each(parsed.arguments, lambda name: do(session, name))

    return made


pause = _for_each(
    "pause",
    "Freeze all processes of one or more containers",
    "running",
    lambda session, name: session.engine.pause(name),
)
unpause = _for_each(
    "unpause", "Let paused containers run on", "paused", lambda session, name: session.engine.unpause(name)
)


@verb(
    "wait",
    "container wait",
    usage=USAGE,
    summary="Wait until one or more containers stop, and print their exit codes",
    arguments=SEVERAL,
    completes="container",
)
async def wait(session: Session, parsed: Parsed) -> int:
    exits = [asyncio.ensure_future(session.engine.wait(name)) for name in parsed.arguments]
    try:
        return await session.while_here(_print_exit_codes(session, exits))
    finally:
        foreground.abandon(*exits)


async def _print_exit_codes(session: Session, exits: Sequence[asyncio.Future[Exit]]) -> int:
    """Each as soon as it is known, in the order in which the containers were named."""
    failures = 0
    for exit in exits:
        try:
            await session.print(str((await exit).code))
        except EngineError as problem:
            await session.complain(f"cutaway: {await explain(session.engine, problem)}")
            failures += 1
    return int(failures > 0)


@verb(
    "rename",
    "container rename",
    usage="CONTAINER NEW_NAME",
    summary="Give a container another name",
    arguments=(2, 2),
    completes="container",
)
async def rename(session: Session, parsed: Parsed) -> None:
    await session.engine.rename(*parsed.arguments)


@verb(
    "attach",
    "container attach",
    usage="[OPTIONS] CONTAINER",
    summary="Attach this terminal's input and output to a running container",
    options=[
        DETACH_KEYS,
        Option("no-stdin", BOOL, "Leave its standard input alone"),
        Option("sig-proxy", BOOL, "Pass signals on to it", default="true"),
    ],
    arguments=(1, 1),
    completes="running",
)
async def attach(session: Session, parsed: Parsed) -> int:
    options, (name,) = parsed
    container = await session.engine.inspect(name)
    for state, remedy in (("paused", "unpause it"), ("restarting", "wait until it runs")):
        if container.State.Status == state:
            raise EngineError(f"You cannot attach to a {state} container, {remedy} first")
    if not container.State.Running:
        raise EngineError("You cannot attach to a stopped container, start it first")
    stdin = container.Config.OpenStdin and not options.get("no-stdin")
    foreground.check_terminal(session, stdin=stdin, tty=container.Config.Tty)
    ended = asyncio.ensure_future(session.engine.wait(container.Id))
    streams = await session.engine.attach(container.Id, stdin=stdin, stdout=True, stderr=True)
    sig_proxy = options.get("sig-proxy", True) and not container.Config.Tty
    await foreground.attach_streams(session, streams, detach_keys=options.get("detach-keys", ""), sig_proxy=sig_proxy)
    return await foreground.until_container_ends(session, container.Id, ended)
