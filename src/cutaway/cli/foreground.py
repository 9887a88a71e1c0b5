"""A process in the foreground: the caller's descriptors connected with it, signals passed on, its exit code awaited."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING

from cutaway.client import wire
from cutaway.engine.errors import EngineError
from cutaway.engine.interface import Stdio
from cutaway.engine.options import values
from cutaway.kernel.descriptors import is_null

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any, Literal, Self

    from cutaway.cli.session import Session
    from cutaway.engine.interface import Exit, Streams
    from cutaway.engine.model import Container

DETACH_KEYS = "ctrl-p,ctrl-q"


class Shared:
    """The caller's descriptors as a process gets them: its own where that is safe, else a pipe that the client pumps; a
    pipe, too, where steps are explained on the same descriptor, so that each comes in its turn.

    Safe are pipes, sockets and `/dev/null`. A terminal would let the process type into the caller's shell
    (`ioctl_tty(2)`, TIOCSTI); a regular file or directory could be opened anew through `/proc/self/fd`, for writing or
    for what lies beside it.
    """

    def __init__(self, session: Session, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        self._session = session
        self._pipes: list[int] = []
        self._to_client: dict[str, int] = {}
        own = session.command.descriptors
        self.stdio = Stdio(
            self._input(own[0]) if stdin else -1,
            self._output("o", own[1]) if stdout else -1,
            self._output("e", own[2]) if stderr else -1,
        )

    def _input(self, descriptor: int) -> int:
        if may_be_given_away(descriptor):
            return descriptor
        reading, self._to_client["i"] = self._pipe()
        return reading

    def _output(self, letter: str, descriptor: int) -> int:
        if may_be_given_away(descriptor) and not self._session.explains_on(descriptor):
            return descriptor
        self._to_client[letter], writing = self._pipe()
        return writing

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._pipes += ends
        return ends

    def attachment(self, *, sig_proxy: bool) -> wire.Attachment:
        """What the client is to pump."""
        letters = "".join(self._to_client) + ("s" if sig_proxy else "")
        return wire.Attachment(letters, b"", list(self._to_client.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Closes our copies of the pipes: then the process's end of them is the last."""
        for descriptor in self._pipes:
            os.close(descriptor)


def may_be_given_away(descriptor: int) -> bool:
    """Whether a process in a container can do nothing with this descriptor but read or write it."""
    found = os.fstat(descriptor)
    return stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode) or is_null(descriptor)


async def attach_streams(session: Session, streams: Streams, *, detach_keys: str, sig_proxy: bool) -> None:
    """Has the client pump the engine's streams, which are closed here."""
    named = {"i": streams.stdin, "o": streams.stdout, "e": streams.stderr, "t": streams.terminal}
    there = {letter: descriptor for letter, descriptor in named.items() if descriptor >= 0}
    keys = values.key_bytes(detach_keys or DETACH_KEYS) if streams.terminal >= 0 else b""
    try:
        letters = "".join(there) + ("s" if sig_proxy else "")
        await session.attach(wire.Attachment(letters, keys, list(there.values())))
    finally:
        for descriptor in there.values():
            os.close(descriptor)


async def start_attached(
    session: Session,
    container: Container,
    *,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    detach_keys: str,
    sig_proxy: bool,
) -> int:
    """Starts a container with the caller attached to the streams that its log is made of; returns its exit code."""
    engine = session.engine
    ended = asyncio.ensure_future(engine.wait(container.Id, _end_of(container)))
    attaching = asyncio.ensure_future(engine.attach(container.Id, stdin=stdin, stdout=stdout, stderr=stderr))
    try:
        await asyncio.sleep(0)  # both are waiting before it starts
        await engine.start(container.Id)
        await attach_streams(session, await attaching, detach_keys=detach_keys, sig_proxy=sig_proxy)
        return await until_container_ends(session, container.Id, ended)
    finally:
        abandon(ended, attaching)


def _end_of(container: Container) -> Literal["removed", "next-exit"]:
    return "removed" if container.HostConfig.AutoRemove else "next-exit"


async def until_container_ends(session: Session, container_id: str, ended: asyncio.Future[Exit]) -> int:
    """The exit code of a container that the caller is attached to. Raises `EngineError` where it never ran."""

    async def code() -> int:
        exit = await ended
        if exit.error:
            raise EngineError(exit.error)
        return exit.code

    return await until_end(session, code(), lambda number: session.engine.kill(container_id, number))


async def until_end(
    session: Session, ended: Coroutine[object, object, int], signal: Callable[[str], Awaitable[None]]
) -> int:
    """The exit code that `ended` gives, signals passed on by `signal` meanwhile; 0 where the caller detaches first."""
    passing_on = asyncio.ensure_future(_pass_on(session.signals, signal))
    try:
        return await session.while_here(_first(ended, session.detached))
    finally:
        abandon(passing_on)


async def _pass_on(signals: asyncio.Queue[str], signal: Callable[[str], Awaitable[None]]) -> None:
    """Those too that came while the process was being started."""
    while True:
        try:
            await signal(await signals.get())
        except EngineError:  # it has just ended
            pass


async def _first(ended: Coroutine[object, object, int], detached: asyncio.Event) -> int:
    end, leave = asyncio.ensure_future(ended), asyncio.ensure_future(detached.wait())
    try:
        await asyncio.wait({end, leave}, return_when=asyncio.FIRST_COMPLETED)
        return end.result() if end.done() else 0
    finally:
        abandon(end, leave)


def abandon(*futures: asyncio.Future[Any]) -> None:
    """Cancels what nobody waits for any more, and takes note of how it ended, so that asyncio does not complain."""
    for future in futures:
        future.cancel()
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


def check_terminal(session: Session, *, stdin: bool, tty: bool) -> None:
    """Raises `EngineError` where a terminal is asked for and the caller has none to type on."""
    if stdin and tty and not session.is_terminal(0):
        raise EngineError("the input device is not a TTY")
