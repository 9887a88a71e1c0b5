"""Reading a container's log: the files that the spawner writes (`spawner.logs`), as lines with their times."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cutaway.engine.errors import Conflict, InvalidArgument
from cutaway.engine.interface import LogLine
from cutaway.engine.options.values import size as size_in_bytes
from cutaway.kernel import inotify
from cutaway.spawner.logs import DRIVERS, HEADER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from cutaway.engine.containers import Container
    from cutaway.engine.model import LogConfig

DEFAULTS = {"local": (20 << 20, 5), "json-file": (1 << 62, 1)}
"""Driver → the size in bytes at which a file is rotated and how many there are, unless `--log-opt` says otherwise."""
_ROUND = 1000  # lines read before others get their turn


class Chunk(NamedTuple):
    """A piece of output as it came: `stream` 1 or 2, `time` in nanoseconds since 1970."""

    stream: int
    time: int
    content: bytes


class Wanted(NamedTuple):
    """Which lines: of which streams, from when to when (nanoseconds since 1970, 0 for no bound)."""

    streams: frozenset[str]
    since: int
    until: int

    def has(self, line: LogLine) -> bool:
        """Whether the line is among them."""
        in_time = self.since <= line.time and not (self.until and line.time > self.until)
        return line.stream in self.streams and in_time


async def lines(
    container: Container, directory: str, wanted: Wanted, tail: int | None, *, follow: bool
) -> AsyncIterator[LogLine]:
    """The wanted lines, the last `tail` of those there are (None: all), and with `follow` those that come until the
    container ends or `wanted.until` has passed."""
    log = _LogFiles(container, directory)
    try:
        watched = inotify.watch(directory, inotify.IN_MODIFY | inotify.IN_CREATE) if follow else -1
        async for line in _at_leisure(_last(filter(wanted.has, log.lines()), tail)):
            yield line
        if follow:
            async for line in _following(container, log, watched):
                if wanted.until and line.time > wanted.until:
                    return
                if wanted.has(line):
                    yield line
        for line in filter(wanted.has, log.rest()):
            yield line
    finally:
        log.close()
        if follow:
            os.close(watched)


async def _following(container: Container, log: _LogFiles, watched: int) -> AsyncIterator[LogLine]:
    running = True
    while running:
        running = container.state.Running or container.state.Restarting
        async for line in _at_leisure(log.lines()):
            yield line
        if running:
            await _changed(container, watched)


async def _changed(container: Container, watched: int) -> None:
    """Until something happens in the log's directory, or the container ends."""
    loop = asyncio.get_running_loop()
    change: asyncio.Future[None] = loop.create_future()
    loop.add_reader(watched, _settle, change)
    end = asyncio.ensure_future(container.ended())
    try:
        await asyncio.wait([change, end], return_when=asyncio.FIRST_COMPLETED)
        inotify.acknowledge(watched)
    finally:
        loop.remove_reader(watched)
        end.cancel()


def _settle(change: asyncio.Future[None]) -> None:
    if not change.done():
        change.set_result(None)


async def _at_leisure(found: Iterable[LogLine]) -> AsyncIterator[LogLine]:
    for number, line in enumerate(found):
        if number % _ROUND == _ROUND - 1:
            await asyncio.sleep(0)
        yield line


def _last(found: Iterator[LogLine], tail: int | None) -> Iterable[LogLine]:
    return found if tail is None else deque(found, tail)


class _LogFiles:
    """A log's files, from the oldest on; remembers how far it has read."""

    def __init__(self, container: Container, directory: str) -> None:
        driver = container.seen.HostConfig.LogConfig.Type
        if driver not in DRIVERS:
            raise InvalidArgument(f'configured logging driver "{driver}" does not support reading')
        if not container.record.own_log:
            raise Conflict(f"the output of {container.name} went straight to its caller; nothing was logged")
        self._path = f"{directory}/{DRIVERS[driver].file_name}"
        self._read: Callable[[int, int], Iterator[tuple[Chunk, int]]] = _READERS[driver]
        self._partial: dict[int, Chunk] = {}
        self._file, self._position = -1, 0
        self._waiting = self._older()

    def lines(self) -> Iterator[LogLine]:
        """The whole lines there are and have not been returned yet."""
        while self._open():
            for chunk, end in self._read(self._file, self._position):
                self._position = end
                yield from self._split(chunk)
            if not self._rotated():
                return
            self.close()

    def rest(self) -> Iterator[LogLine]:
        """What is left of lines that have no end."""
        for chunk in self._partial.values():
            yield _line(chunk, chunk.content)
        self._partial.clear()

    def close(self) -> None:
        """Closes the file that is being read."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._position = -1, 0

    def _older(self) -> list[str]:
        numbered: list[str] = []
        while os.path.exists(f"{self._path}.{len(numbered) + 1}"):
            numbered.append(f"{self._path}.{len(numbered) + 1}")
        return numbered[::-1]

    def _open(self) -> bool:
        while self._file < 0:
            path = self._waiting.pop(0) if self._waiting else self._path
            try:
                self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                if path == self._path:
                    return False
        return True

    def _rotated(self) -> bool:
        """Whether another file comes after the one that is being read."""
        if self._waiting:
            return True
        try:
            return os.stat(self._path).st_ino != os.fstat(self._file).st_ino
        except FileNotFoundError:
            return False

    def _split(self, chunk: Chunk) -> Iterator[LogLine]:
        """Whole lines; what has no end yet waits for it."""
        before = self._partial.pop(chunk.stream, None)
        time, content = (before.time, before.content + chunk.content) if before else (chunk.time, chunk.content)
        *whole, rest = content.split(b"\n")
        for number, line in enumerate(whole):
            yield _line(Chunk(chunk.stream, chunk.time if number else time, b""), line + b"\n")
        if rest:
            self._partial[chunk.stream] = Chunk(chunk.stream, chunk.time if whole else time, rest)


def _line(chunk: Chunk, content: bytes) -> LogLine:
    return LogLine("stdout" if chunk.stream == 1 else "stderr", chunk.time, content)


def _read_local(file: int, position: int) -> Iterator[tuple[Chunk, int]]:
    """Records from `position` on, each with the position after it; one that is not whole yet is left."""
    while len(header := os.pread(file, HEADER.size, position)) == HEADER.size:
        time, stream, length = HEADER.unpack(header)
        content = os.pread(file, length, position + HEADER.size)
        if len(content) < length:
            return
        position += HEADER.size + length
        yield Chunk(stream, time, content), position


class _JsonLine(msgspec.Struct):
    log: str
    stream: str
    time: str


_json = msgspec.json.Decoder(_JsonLine)


def _read_json(file: int, position: int) -> Iterator[tuple[Chunk, int]]:
    while block := os.pread(file, 1 << 20, position):
        end = block.rfind(b"\n") + 1
        if not end:
            return
        for line in block[:end].splitlines(keepends=True):
            position += len(line)
            entry = _json.decode(line)
            yield Chunk(1 if entry.stream == "stdout" else 2, nanoseconds(entry.time), entry.log.encode()), position


def log_settings(config: LogConfig, directory: str) -> dict[str, Any] | None:
    """`--log-driver` and `--log-opt` as the spawner takes them; None for the driver `none`."""
    if config.Type == "none":
        return None
    size, files = DEFAULTS[config.Type]
    wanted = config.Config.get("max-size", "-1")
    return {
        "directory": directory,
        "driver": config.Type,
        "max_size": size if wanted == "-1" else size_in_bytes(wanted),
        "max_files": int(config.Config.get("max-file", files)),
    }


def nanoseconds(moment: str) -> int:
    """An RFC 3339 moment in UTC as nanoseconds since 1970."""
    whole, _, fraction = moment.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)


_READERS = {"local": _read_local, "json-file": _read_json}
