"""A request whose answer comes after output: a command that runs, a log that is read.

A process writes its output straight into pipes whose other ends are here: it goes through nobody's hands. What has no
process (a log) or has a terminal comes in frames, or through a descriptor that a frame brings (`wire`).
"""

from __future__ import annotations

import fcntl
import os

from cutaway.client import wire
from cutaway.client.results import Line, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Literal, Self

    from cutaway.client.channel import Channel, Channels
    from cutaway.client.results import Outcome

    Name = Literal["stdout", "stderr"]
    Chunk = tuple[Name, bytes]

_CHUNK = 1 << 16
"""Bytes read at once."""
_PIPE_SIZE = 1 << 20
"""Bytes that a pipe holds, so that a command need not wait for us too often (`pipe(7)`; by default it is 64 KiB)."""
LONGEST_LINE = 1 << 20
"""Bytes; of a longer line what is there so far is passed on as if it ended there."""


class Exchange:
    """One request, from the moment the block is entered. `pipes`: which outputs come through pipes that go with the
    request; `input`: what the process reads from its standard input, which is empty where this is None.

    Left before its end the engine takes the request back: the process is killed.
    """

    def __init__(
        self,
        channels: Channels,
        method: str,
        parameters: dict[str, Any],
        *,
        pipes: tuple[Name, ...] = (),
        input: bytes | None = None,
    ) -> None:
        self._channels, self._method, self._parameters = channels, method, parameters
        self._pipes, self._input = pipes, input
        self._channel: Channel | None = None
        self._outputs: dict[int, Name] = {}
        self._ended = False
        self.answer: Any = None
        """What is answered in the end."""

    async def __aenter__(self) -> Self:
        self._channel = await self._channels.take()
        theirs: list[int] = []
        try:
            streams = self._open_streams(theirs)
            parameters = self._parameters | ({"streams": streams} if streams else {})
            await self._channel.ask(self._method, parameters, theirs)
        except BaseException:
            await self._finish()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return self

    def _open_streams(self, theirs: list[int]) -> str:
        """Fills `theirs` with the process's ends, and returns what each is: the letters of `wire.Attachment`."""
        letters = ""
        if self._input is not None:
            theirs.append(_sealed(self._input))
            letters += "i"
        for name in self._pipes:
            ours, others = os.pipe()
            theirs.append(others)
            self._watch(ours, name)
            _enlarge(ours)
            letters += {"stdout": "o", "stderr": "e"}[name]
        return letters

    def _watch(self, descriptor: int, name: Name) -> None:
        os.set_blocking(descriptor, False)
        self._outputs[descriptor] = name

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._finish()

    async def _finish(self) -> None:
        channel, self._channel = self._channel, None
        self._close_outputs()
        if channel:
            await self._channels.give_back(channel)

    def abandon(self) -> None:
        """Leaves it without waiting for anything."""
        channel, self._channel = self._channel, None
        self._close_outputs()
        if channel:
            channel.close()

    def _close_outputs(self) -> None:
        while self._outputs:
            os.close(self._outputs.popitem()[0])

    async def output(self) -> list[Chunk]:
        """What has been written since, at least one piece; none once all is there, and `answer` too."""
        assert self._channel
        chunks: list[Chunk] = []
        while not chunks and not self._ended:
            for descriptor in await self._channels.ready((self._channel.fileno(), *self._outputs), ()):
                if descriptor == self._channel.fileno():
                    chunks += await self._frames(self._channel)
                else:
                    chunks += self._read(descriptor)
        return chunks

    async def _frames(self, channel: Channel) -> list[Chunk]:
        chunks = await self._frame(channel)
        while channel.has_frame():
            chunks += await self._frame(channel)
        return chunks

    async def _frame(self, channel: Channel) -> list[Chunk]:
        kind, body, descriptors = await channel.receive()
        if kind == wire.ATTACH:
            for descriptor in wire.Attachment.decode(body, descriptors).descriptors.values():
                self._watch(descriptor, "stdout")
            return []
        if kind in (wire.STDOUT, wire.STDERR):
            return [("stdout" if kind == wire.STDOUT else "stderr", body)]
        self._ended, self.answer = True, channel.decode_answer(kind, body)
        return [chunk for descriptor in list(self._outputs) for chunk in self._drained(descriptor)]

    def _drained(self, descriptor: int) -> list[Chunk]:
        """The last output: all of it is in the pipe before the answer is sent. Others may be writing on for ever."""
        return [chunk for _ in range(_PIPE_SIZE // _CHUNK) for chunk in self._read(descriptor)]

    def _read(self, descriptor: int) -> list[Chunk]:
        """What is there; at the end of a pipe nothing, and it is closed."""
        name = self._outputs.get(descriptor)
        if name is None:
            return []
        try:
            part = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return []
        if part:
            return [(name, part)]
        del self._outputs[descriptor]
        os.close(descriptor)
        return []


def _enlarge(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:  # the host's administrator allows less
        pass


def _sealed(content: bytes) -> int:
    """A file in memory that holds `content` and that nobody can change any more (`memfd_create(2)`)."""
    file = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        write_all(file, content)
        os.lseek(file, 0, os.SEEK_SET)
        every_change = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, every_change)
    except BaseException:
        os.close(file)
        raise
    return file


def write_all(file: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


class Capture:
    """Gathers output, of each stream `limit` bytes at most (None: all)."""

    def __init__(self, limit: int | None) -> None:
        self._room = {"stdout": limit, "stderr": limit}
        self._written: dict[Name, list[bytes]] = {"stdout": [], "stderr": []}
        self.truncated = False

    def add(self, chunks: list[Chunk]) -> None:
        for name, part in chunks:
            room = self._room[name]
            if room is not None:
                self._room[name] = room - len(part[:room])
                self.truncated |= room < len(part)
            self._written[name].append(part[:room])

    def of(self, name: Name) -> bytes:
        """What was written to a stream."""
        return b"".join(self._written[name])

    def result(self, outcome: Outcome) -> Result:
        return Result(self.of("stdout"), self.of("stderr"), *outcome, truncated=self.truncated)


class Lines:
    """Cuts output into lines as it comes."""

    def __init__(self) -> None:
        self._begun: dict[Name, bytes] = {}

    def add(self, chunks: list[Chunk]) -> list[Line]:
        """The lines that these chunks complete."""
        return [line for name, part in chunks for line in self._completed(name, part)]

    def _completed(self, name: Name, part: bytes) -> list[Line]:
        *lines, rest = (self._begun.pop(name, b"") + part).split(b"\n")
        if len(rest) >= LONGEST_LINE:
            return [*(Line(name, line + b"\n") for line in lines), Line(name, rest)]
        self._begun[name] = rest
        return [Line(name, line + b"\n") for line in lines]

    def rest(self) -> list[Line]:
        """What was written after the last line ends."""
        begun, self._begun = self._begun, {}
        return [Line(name, rest) for name, rest in begun.items() if rest]
