"""`exec`: another process in a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli import foreground
from cutaway.cli.steps import EXPLAIN, explained
from cutaway.cli.verb import UNLIMITED, verb
from cutaway.cli.verbs.life import DETACH_KEYS
from cutaway.engine.beside import beside
from cutaway.engine.errors import NotStarted
from cutaway.engine.interface import Stdio
from cutaway.engine.model import ExecConfig
from cutaway.engine.options import EXEC
from cutaway.engine.options.option import BOOL, Option
from cutaway.engine.options.request import environment

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session


@verb(
    "exec",
    "container exec",
    usage="[OPTIONS] CONTAINER COMMAND [ARG...]",
    summary="Run a command in a running container",
    options=[
        *EXEC,
        Option("detach", BOOL, "Run it in the background", short="d"),
        DETACH_KEYS,
        EXPLAIN,
        Option("interactive", BOOL, "Keep standard input open", short="i"),
        Option("tty", BOOL, "Give it a terminal", short="t"),
    ],
    arguments=(2, UNLIMITED),
    completes="running",
    interspersed=False,
)
async def exec(session: Session, parsed: Parsed) -> int:
    async with explained(session, parsed):
        return await _execute(session, parsed)


async def _execute(session: Session, parsed: Parsed) -> int:
    options, engine = parsed.options, session.engine
    config = await _config(session, parsed)
    detach = options.get("detach", False)
    if not detach:
        foreground.check_terminal(session, stdin=config.AttachStdin, tty=config.Tty)
    exec_id = await engine.exec_create(parsed.arguments[0], config)
    try:
        if detach:
            await engine.exec_start(exec_id, Stdio())
            return 0
        await _start(session, exec_id, config, options.get("detach-keys", ""))
    except NotStarted as problem:
        await session.complain(f"cutaway: {problem}")
        return problem.exit_code
    return await foreground.until_end(
        session, engine.exec_wait(exec_id), lambda number: engine.exec_kill(exec_id, number)
    )


async def _config(session: Session, parsed: Parsed) -> ExecConfig:
    options, command = parsed.options, parsed.arguments[1:]
    wanted = options.get("env-file", []), options.get("env", []), session.caller
    attached = not options.get("detach", False)
    return ExecConfig(
        User=options.get("user", ""),
        Privileged=options.get("privileged", False),
        Tty=options.get("tty", False),
        ConsoleSize=session.window(),
        AttachStdin=attached and options.get("interactive", False),
        AttachStdout=attached,
        AttachStderr=attached,
        Env=await beside(lambda _: environment(*wanted)) if wanted[0] else environment(*wanted),
        WorkingDir=options.get("workdir", ""),
        Cmd=command,
    )


async def _start(session: Session, exec_id: str, config: ExecConfig, detach_keys: str) -> None:
    """Starts it on the caller's own descriptors, or with a terminal of its own attached to the caller's."""
    if config.Tty:
        streams = await session.engine.exec_start(exec_id)
        return await foreground.attach_streams(session, streams, detach_keys=detach_keys, sig_proxy=False)
    with foreground.Shared(session, stdin=config.AttachStdin, stdout=True, stderr=True) as shared:
        await session.attach(shared.attachment(sig_proxy=True))
        await session.engine.exec_start(exec_id, shared.stdio)
    return None
