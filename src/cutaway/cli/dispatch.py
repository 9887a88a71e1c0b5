"""From a command line to its exit code: finding the verb, reading its options, saying what went wrong."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING

import cutaway
from cutaway.cli import help
from cutaway.cli.explanation import explain
from cutaway.cli.parser import HelpWanted, UsageError, parse
from cutaway.cli.session import Session
from cutaway.cli.verbs import NOUNS, find, names_after
from cutaway.client import wire
from cutaway.engine.connection import Disconnected, decode_command
from cutaway.engine.errors import EngineError
from cutaway.engine.options.option import suggestion
from cutaway.engine.requests import converse
from cutaway.kernel.errors import sentence

if TYPE_CHECKING:
    from cutaway.cli.verb import Verb
    from cutaway.engine.connection import Connection
    from cutaway.engine.interface import Engine

USAGE_CODE, MISTAKE_CODE = 125, 1
"""As Docker: 125 for an option that is wrong, 1 for a command that is not there."""


async def carry_out(engine: Engine, connection: Connection) -> None:
    """Answers one connection: a command line, or the requests of a program. Raises `Disconnected` where the caller
    leaves before the end."""
    try:
        frame = await connection.receive()
        if frame is None:
            return None
        if frame.kind == wire.REQUEST:
            return await converse(engine, connection, frame)
        command = decode_command(frame)
    except wire.ProtocolError as problem:
        await connection.err(f"cutaway: {problem}\n".encode())
        return await connection.exit(USAGE_CODE)
    session = Session(engine, connection, command)
    listening = asyncio.create_task(session.listen())
    try:
        code = await _do(session)
    finally:
        listening.cancel()
    return await connection.exit(code)


async def _do(session: Session) -> int:
    words = session.command.arguments
    verb, rest = find(words)
    if verb is None:
        return await _without_verb(session)
    try:
        parsed = parse(rest, verb.options, interspersed=verb.interspersed)
        verb.check_arguments(len(parsed.arguments))
        return await verb.do(session, parsed) or 0
    except HelpWanted:
        await session.print(help.of_verb(verb, session.width()))
        return 0
    except UsageError as problem:
        return await _misused(session, verb, problem)
    except EngineError as problem:
        await session.complain(f"cutaway: {await explain(session.engine, problem)}")
        return problem.exit_code if verb.failure_code == USAGE_CODE else verb.failure_code
    except (Disconnected, asyncio.CancelledError):
        raise
    except OSError as problem:  # a full disk, no memory, no descriptors
        traceback.print_exception(problem)
        await session.complain(f"cutaway: {sentence(problem)}")
        return verb.failure_code
    except Exception as problem:  # a traceback is for the engine's log, not for the person who typed
        traceback.print_exception(problem)
        await session.complain(f"cutaway: an error inside the engine: {type(problem).__name__}: {problem}")
        return USAGE_CODE


async def _without_verb(session: Session) -> int:
    """Help, the version, or a word that is not known."""
    words = session.command.arguments
    if words[:1] in (["-v"], ["--version"]):
        await session.print(f"cutaway version {cutaway.__version__}")
        return 0
    asks_for_help = not words or words[0] in ("help", "--help", "-h")
    if asks_for_help:
        return await _help(session, words[1:])
    if words[0] in NOUNS and (len(words) == 1 or words[1] in ("--help", "-h")):
        await session.print(help.of_noun(words[0], session.width()))
        return 0
    if words[0].startswith("-"):
        await session.complain(f"unknown flag: {words[0]}\n\nRun 'cutaway --help' for more information")
        return USAGE_CODE
    known = words[:1] if words[0] in NOUNS else []
    unknown = words[len(known)]
    near = suggestion(unknown, names_after(known), " ".join(["cutaway", *known, ""]))
    where = " ".join(["cutaway", *known])
    complaint = f"cutaway: unknown command: {where} {unknown}{near}"
    await session.complain(f"{complaint}\n\nRun '{where} --help' for more information")
    return MISTAKE_CODE


async def _help(session: Session, words: list[str]) -> int:
    """`help`, `help run`, `help network`, `help network create`."""
    verb, _ = find(words)
    if verb:
        await session.print(help.of_verb(verb, session.width()))
    elif words and words[0] in NOUNS:
        await session.print(help.of_noun(words[0], session.width()))
    else:
        await session.print(help.of_everything(session.width()))
    return 0


async def _misused(session: Session, verb: Verb, problem: UsageError) -> int:
    await session.complain(
        f"{problem}\n\n{help.usage_line(verb)}\n\nRun 'cutaway {verb.name} --help' for more information"
    )
    return problem.exit_code
