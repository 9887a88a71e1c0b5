"""One command line being carried out: the engine, the caller, and where output goes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import struct
import termios
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from cutaway.cli.explanation import explain
from cutaway.client import wire
from cutaway.engine.connection import Disconnected
from cutaway.engine.errors import EngineError
from cutaway.engine.options import Caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence

    from cutaway.cli.steps import Explanation
    from cutaway.engine.connection import Command, Connection
    from cutaway.engine.interface import Engine

Result = TypeVar("Result")
DEFAULT_WIDTH = 80


class Session:
    """What a verb works with. `signals`: the numbers of those that the caller's process passes on, as they came."""

    def __init__(self, engine: Engine, connection: Connection, command: Command) -> None:
        self.engine, self.connection, self.command = engine, connection, command
        self.caller = Caller(command.cwd, command.environment, connection.credentials.pid)
        self.signals: asyncio.Queue[str] = asyncio.Queue()
        self.detached, self._gone = asyncio.Event(), asyncio.Event()
        self.explanation: Explanation | None = None
        self._is_attached = self.has_raw_terminal = False
        """Whether the caller's terminal is a container's now, and lines must return to its left edge by themselves."""
        self._answers: asyncio.StreamReader | None = None

    async def listen(self) -> None:
        """Takes what the caller's process sends, until it is gone."""
        try:
            while frame := await self.connection.receive():
                if frame.kind == wire.DETACHED:
                    self.detached.set()
                elif frame.kind == wire.SIGNAL:
                    self.signals.put_nowait(frame.body.decode("ascii", "replace"))
        except wire.ProtocolError:
            pass
        self._gone.set()

    async def while_here(self, work: Coroutine[object, object, Result]) -> Result:
        """The result of work that has no sense without the caller: it is cancelled, and `Disconnected` raised, when
        the caller goes away."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Disconnected("the caller has gone away")
            return task.result()
        finally:
            gone.cancel()
            task.cancel()

    async def for_each(
        self, names: Sequence[str], do: Callable[[str], Awaitable[object]], *, report: bool = True
    ) -> int:
        """Does something to each of several things at once, and prints the names of those that it went well with, and
        what is wrong with the others. Returns the exit code."""
        outcomes = await asyncio.gather(*map(do, names), return_exceptions=True)
        for name, outcome in zip(names, outcomes, strict=True):
            if isinstance(outcome, EngineError):
                await self.complain(f"cutaway: {await explain(self.engine, outcome)}")
            elif isinstance(outcome, BaseException):
                raise outcome
            elif report:
                await self.print(name)
        return int(any(isinstance(outcome, EngineError) for outcome in outcomes))

    async def print(self, text: str) -> None:
        """One line, or several, to standard output."""
        await self.out(f"{text}\n")

    async def out(self, text: str) -> None:
        await self.connection.out(text.encode("utf-8", "surrogateescape"))

    async def complain(self, text: str) -> None:
        """One line to standard error."""
        await self.connection.err(f"{text}\n".encode("utf-8", "surrogateescape"))

    def explains_on(self, descriptor: int) -> bool:
        """Whether this is where steps are explained to the caller, and anybody reads it."""
        if self.explanation is None:
            return False
        explained_on = os.fstat(self.command.descriptors[2])
        return not stat.S_ISCHR(explained_on.st_mode) and os.path.samestat(os.fstat(descriptor), explained_on)

    async def attach(self, attachment: wire.Attachment) -> None:
        """Has the caller's process connect its descriptors with those of the attachment, when it has shown what there
        was to be explained."""
        if self.explanation:
            await self.explanation.flush()
        self.has_raw_terminal = {"t", "i"} <= attachment.descriptors.keys() and self.is_terminal(0)
        await self.connection.attach(attachment)
        self._is_attached = True

    async def drain(self) -> None:
        """Has the caller's process write out what an attached container has said, now that it has ended."""
        if self._is_attached:
            await self.connection.send(wire.DRAIN)

    async def ask(self, statement: str) -> bool:
        """Has the caller confirm what is stated; anything but yes is no."""
        answer = await self.answer(f"{statement}\nAre you sure you want to continue? [y/N] ")
        return answer.lower() in ("y", "yes")

    async def answer(self, question: str, *, secret: bool = False) -> str:
        """The line that the caller types, without the blanks around it; a `secret` is not shown while it is typed."""
        await self.out(question)
        with self._without_echo() if secret else nullcontext():
            line = await self.while_here((await self._typed()).readline())
        if secret:
            await self.out("\n")
        return line.decode("utf-8", "surrogateescape").strip()

    async def _typed(self) -> asyncio.StreamReader:
        """What comes from the caller's standard input, from the first question on."""
        if self._answers is None:
            reading, writing = os.pipe()
            try:
                await self.connection.attach(wire.Attachment("i", b"", [writing]))
            finally:
                os.close(writing)
            self._answers = answers = asyncio.StreamReader()
            pipe = os.fdopen(reading, "rb", buffering=0)
            protocol = asyncio.StreamReaderProtocol(answers)
            await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        return self._answers

    @contextmanager
    def _without_echo(self) -> Iterator[None]:
        """Has the caller's terminal show nothing of what is typed (`termios(3)`)."""
        terminal = self.command.descriptors[0]
        before = termios.tcgetattr(terminal)
        quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        termios.tcsetattr(terminal, termios.TCSADRAIN, quiet)
        try:
            yield
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)

    def is_terminal(self, descriptor: int) -> bool:
        """Whether the caller's 0, 1 or 2 is a terminal."""
        return os.isatty(self.command.descriptors[descriptor])

    def window(self) -> tuple[int, int]:
        """Rows and columns of the caller's terminal; zeros without one."""
        for descriptor in self.command.descriptors:
            try:
                size = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8)
            except OSError:  # not a terminal
                continue
            rows, columns, _, _ = struct.unpack("4H", size)
            return rows, columns
        return 0, 0

    def width(self) -> int:
        """How wide text for the caller may be."""
        return self.window()[1] or DEFAULT_WIDTH
