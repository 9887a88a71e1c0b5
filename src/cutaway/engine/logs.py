"""Reading a container's log: the files that the spawner writes (`spawner.logs`), as lines with their times."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cutaway.engine import streams
from cutaway.engine.errors import Conflict, InvalidArgument
from cutaway.engine.interface import LogLine
from cutaway.engine.options.values import size as size_in_bytes
from cutaway.kernel import inotify
from cutaway.spawner.logs import DRIVERS, HEADER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cutaway.engine.containers import Container
    from cutaway.engine.model import LogConfig

    Reader = Callable[[int, int, int], Iterator[tuple["Chunk", int]]]
    """Of a file, from one position to another: its chunks, each with the position after it."""

DEFAULTS = {"local": (20 << 20, 5), "json-file": (1 << 62, 1)}
"""Driver → the size in bytes at which a file is rotated and how many there are, unless `--log-opt` says otherwise."""
_ROUND = 1000  # lines read before others get their turn
_LONGEST_LINE = 1 << 20
"""Bytes; what is longer comes in parts, or a container could fill the engine's memory."""


class Chunk(NamedTuple):
    """A piece of output as it came: `stream` 1 or 2, `time` in nanoseconds since 1970; whether it `goes_on` with a line
    that the piece before it began."""

    stream: int
    time: int
    content: bytes
    goes_on: bool = False


class Wanted(NamedTuple):
    """Which lines: of which streams, from when to when (nanoseconds since 1970, 0 for no bound)."""

    streams: frozenset[str]
    since: int
    until: int

    def has(self, line: LogLine) -> bool:
        """Whether the line is among them."""
        in_time = self.since <= line.time and not (self.until and line.time > self.until)
        return line.stream in self.streams and in_time

    def reaches_the_end(self) -> bool:
        """Whether the last lines of all are among them."""
        return not self.until and self.streams == {"stdout", "stderr"}


async def lines(
    container: Container, directory: str, wanted: Wanted, tail: int | None, *, follow: bool
) -> AsyncIterator[LogLine]:
    """The wanted lines, the last `tail` of those there are (None: all), and with `follow` those that come until the
    container ends or `wanted.until` has passed."""
    log = _LogFiles(container, directory)
    try:
        if tail is not None and wanted.reaches_the_end():
            await log.skip_to_last(tail)
        there = _unread(log, wanted)
        async for line in there if tail is None else _last(there, tail):
            yield line
        if follow:
            async for line in _following(container, log, directory, wanted):
                yield line
    finally:
        log.close()


async def _last(found: AsyncIterator[LogLine], tail: int) -> AsyncIterator[LogLine]:
    kept: deque[LogLine] = deque(maxlen=tail)
    async for line in found:
        kept.append(line)
    for line in kept:
        yield line


async def _following(container: Container, log: _LogFiles, directory: str, wanted: Wanted) -> AsyncIterator[LogLine]:
    watched, over = inotify.watch(directory, inotify.IN_MODIFY | inotify.IN_CREATE), container.expect("next-exit")
    if wanted.until:
        seconds = (wanted.until - time.time_ns()) / 1e9
        asyncio.get_running_loop().call_later(max(seconds, 0), over.cancel)
    try:
        running = True
        while running:
            running = container.state.Running and not over.done()
            async for line in _unread(log, wanted):
                yield line
            if running:
                await _changed(watched, over)
    finally:
        over.cancel()
        os.close(watched)


async def _changed(watched: int, over: asyncio.Future[Any]) -> None:
    """Until something happens in the log's directory, or it is over."""
    loop = asyncio.get_running_loop()
    change: asyncio.Future[None] = loop.create_future()
    loop.add_reader(watched, _settle, change)
    try:
        await asyncio.wait([change, over], return_when=asyncio.FIRST_COMPLETED)
        inotify.acknowledge(watched)
    finally:
        loop.remove_reader(watched)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _unread(log: _LogFiles, wanted: Wanted) -> AsyncIterator[LogLine]:
    for number, line in enumerate(log.unread(), 1):
        if number % _ROUND == 0:
            await asyncio.sleep(0)
        if wanted.has(line):
            yield line


class _LogFiles:
    """A log's files, open from the oldest that is not read to its end; remembers how far that one is read."""

    def __init__(self, container: Container, directory: str) -> None:
        config = container.seen.HostConfig.LogConfig
        if config.Type not in DRIVERS:
            raise InvalidArgument(f'configured logging driver "{config.Type}" does not support reading')
        if not container.record.own_log:
            raise Conflict(f"the output of {container.name} went straight to its caller; nothing was logged")
        _, max_files = _bounds(config)
        self._paths = [f"{directory}/{name}" for name in DRIVERS[config.Type].names(max_files)]
        self._read: Reader = _READERS[config.Type]
        self._partial: dict[int, Chunk] = {}
        self._met: set[int] = set()
        self._files: list[int] = []
        self._position = 0

    def unread(self) -> Iterator[LogLine]:
        """The lines there are by now that were not returned yet; at last what has no end, of which more may come."""
        self._open_newer()
        while self._files:
            yield from self._rest_of_oldest()
            if len(self._files) == 1:
                break
            os.close(self._files.pop(0))
            self._position = 0
        for chunk in self._partial.values():
            yield _line(chunk, chunk.content)
        self._partial.clear()

    async def skip_to_last(self, number: int) -> None:
        """Begins so late that the last `number` lines are left, and few before them."""
        self._open_newer()
        for index in reversed(range(len(self._files))):
            found, begins = await _late_begin(self._read, self._files[index], number)
            if found > number:
                streams.close_all(self._files[:index])
                self._files, self._position = self._files[index:], begins
                return
            number -= found

    def close(self) -> None:
        """Closes what is open."""
        while self._files:
            os.close(self._files.pop())

    def _open_newer(self) -> None:
        """Opens the files that came after the newest that is open. The newest first: then one that is rotated meanwhile
        is met twice, and none is missed."""
        known = os.fstat(self._files[-1]).st_ino if self._files else 0
        newer: dict[int, int] = {}
        for path in self._paths:
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # it is not there yet, or is just being rotated
                continue
            inode = os.fstat(file).st_ino
            if inode == known or inode in newer:
                os.close(file)
            if inode == known:
                break
            newer.setdefault(inode, file)
        self._files += reversed(newer.values())

    def _rest_of_oldest(self) -> Iterator[LogLine]:
        """Up to where it ends now: the container may write faster than this reads."""
        end = os.fstat(self._files[0]).st_size
        for chunk, position in self._read(self._files[0], self._position, end):
            self._position = position
            yield from self._split(chunk)

    def _split(self, chunk: Chunk) -> Iterator[LogLine]:
        """Whole lines; what has no end yet waits for it, if it is not too long, and what has no beginning is left."""
        before = self._partial.pop(chunk.stream, None)
        time, content = (before.time, before.content + chunk.content) if before else (chunk.time, chunk.content)
        if chunk.goes_on and chunk.stream not in self._met:
            _, ended, content = content.partition(b"\n")
            if not ended:
                return
        self._met.add(chunk.stream)
        *whole, rest = content.split(b"\n")
        for number, line in enumerate(whole):
            yield _line(Chunk(chunk.stream, chunk.time if number else time, b""), line + b"\n")
        begun = Chunk(chunk.stream, chunk.time if whole else time, rest)
        if len(rest) > _LONGEST_LINE:
            yield _line(begun, rest)
        elif rest:
            self._partial[chunk.stream] = begun


async def _late_begin(read: Reader, file: int, number: int) -> tuple[int, int]:
    """How many line ends a file has, and the last position of a chunk that more than `number` of them come after."""
    begins, found = deque([(0, 0)]), 0
    for turn, (chunk, end) in enumerate(read(file, 0, os.fstat(file).st_size), 1):
        found += chunk.content.count(b"\n")
        begins.append((found, end))
        while len(begins) > 1 and found - begins[1][0] > number:
            begins.popleft()
        if turn % _ROUND == 0:
            await asyncio.sleep(0)
    return found, begins[0][1]


def _line(chunk: Chunk, content: bytes) -> LogLine:
    return LogLine("stdout" if chunk.stream == 1 else "stderr", chunk.time, content)


def _read_local(file: int, position: int, end: int) -> Iterator[tuple[Chunk, int]]:
    """Records from `position` to `end`, each with the position after it; one that is not whole yet is left."""
    while position + HEADER.size <= end:
        time, stream, goes_on, length = HEADER.unpack(os.pread(file, HEADER.size, position))
        content = os.pread(file, length, position + HEADER.size)
        if len(content) < length:
            return
        position += HEADER.size + length
        yield Chunk(stream, time, content, bool(goes_on)), position


class _JsonLine(msgspec.Struct):
    log: str
    stream: str
    time: str


_json = msgspec.json.Decoder(_JsonLine)


def _read_json(file: int, position: int, end: int) -> Iterator[tuple[Chunk, int]]:
    while position < end and (block := os.pread(file, min(end - position, 1 << 20), position)):
        whole = block.rfind(b"\n") + 1
        if not whole:
            return
        for line in block[:whole].splitlines(keepends=True):
            position += len(line)
            entry = _json.decode(line)
            yield Chunk(1 if entry.stream == "stdout" else 2, nanoseconds(entry.time), entry.log.encode()), position


def log_settings(config: LogConfig, directory: str) -> dict[str, Any] | None:
    """`--log-driver` and `--log-opt` as the spawner takes them; None for the driver `none`."""
    if config.Type == "none":
        return None
    max_size, max_files = _bounds(config)
    return {"directory": directory, "driver": config.Type, "max_size": max_size, "max_files": max_files}


def _bounds(config: LogConfig) -> tuple[int, int]:
    """The size in bytes at which a file is rotated, and how many files there are."""
    size, files = DEFAULTS[config.Type]
    wanted = config.Config.get("max-size", "-1")
    return size if wanted == "-1" else size_in_bytes(wanted), int(config.Config.get("max-file", files))


def nanoseconds(moment: str) -> int:
    """An RFC 3339 moment in UTC as nanoseconds since 1970."""
    whole, _, fraction = moment.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)


_READERS = {"local": _read_local, "json-file": _read_json}
