"""One command line being carried out: the engine, the caller, and where output goes."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import TYPE_CHECKING

from cutaway.engine.options import Caller

if TYPE_CHECKING:
    from cutaway.engine.connection import Command, Connection
    from cutaway.engine.interface import Engine

DEFAULT_WIDTH = 80


class Session:
    """What a verb works with."""

    def __init__(self, engine: Engine, connection: Connection, command: Command) -> None:
        self.engine, self.connection, self.command = engine, connection, command
        self.caller = Caller(command.cwd, command.environment, connection.credentials.pid)

    async def print(self, text: str) -> None:
        """One line, or several, to standard output."""
        await self.out(f"{text}\n")

    async def out(self, text: str) -> None:
        await self.connection.out(text.encode("utf-8", "surrogateescape"))

    async def complain(self, text: str) -> None:
        """One line to standard error."""
        await self.connection.err(f"{text}\n".encode("utf-8", "surrogateescape"))

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
