"""Where an image comes from: named files, in a tar archive or in a directory. Names are relative, without `./`."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from typing import Protocol

from cutaway.image.compression import NONE, PIECE, inflated, peek, recognised
from cutaway.image.errors import BrokenArchive
from cutaway.image.tarstream import LINK, REGULAR, SYMLINK, FileStream, Reader
from cutaway.kernel.openat2 import open_in_root

_MOST_MEMBERS = 100_000  # an image has a few per layer, and 128 layers


class Source(Protocol):
    """Files by name; each can be read as often as wanted, by several processes at once."""

    def __contains__(self, name: str) -> bool: ...
    def size(self, name: str) -> int: ...
    def chunks(self, name: str) -> Iterator[bytes]: ...


def opened(descriptor: int, staging: str) -> Source:
    """What `descriptor` gives: a directory, or a tar archive in a file or from a pipe, compressed or not.

    An archive has its table of contents at the end or in the middle. One that cannot be read twice, or not from the
    middle, is first copied, inflated, into a file without a name in the directory `staging`.
    """
    if is_directory(descriptor):
        return Directory(descriptor)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        start = os.pread(descriptor, 6, os.lseek(descriptor, 0, os.SEEK_CUR))
        if recognised(start) == NONE:
            return TarFile(descriptor)
    return TarFile(_copied(descriptor, staging))


def require(source: Source, name: str) -> None:
    """Raises `BrokenArchive` where there is no such file."""
    if name not in source:
        raise BrokenArchive(f"the archive does not hold {name!a}")


def read(source: Source, name: str, largest: int) -> bytes:
    """A whole small file; raises `BrokenArchive` where it is missing or larger than `largest` bytes."""
    require(source, name)
    if source.size(name) > largest:
        raise BrokenArchive(f"{name!a} has {source.size(name)} bytes; more than {largest} are not accepted")
    return b"".join(source.chunks(name))


def is_directory(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def pieces(descriptor: int) -> Iterator[bytes]:
    """All that can be read from a descriptor."""
    while chunk := os.read(descriptor, PIECE):
        yield chunk


class Directory:
    """The files of a directory; links inside it are followed inside it."""

    def __init__(self, root: int) -> None:
        self._root = root

    def __contains__(self, name: str) -> bool:
        try:
            os.close(self._open(name))
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        file = self._open(name)
        try:
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def chunks(self, name: str) -> Iterator[bytes]:
        file = self._open(name)
        try:
            yield from pieces(file)
        finally:
            os.close(file)

    def _open(self, name: str) -> int:
        file = open_in_root(self._root, name, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise BrokenArchive(f"{name!a} is not a regular file")
        return file


class TarFile:
    """The members of a tar archive in a file; of two with one name the later counts."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._members: dict[str, tuple[int, int]] = {}  # name: offset, size
        self._links: dict[str, str] = {}
        self._index()

    def _index(self) -> None:
        stream = FileStream(self._file)
        for number, entry in enumerate(Reader(stream)):
            name = posixpath.normpath(os.fsdecode(entry.name))
            if entry.kind == REGULAR:
                self._members[name] = (stream.position, entry.size)
            elif entry.kind == SYMLINK:
                self._links[name] = posixpath.normpath(posixpath.join(name, "..", os.fsdecode(entry.linkname)))
            elif entry.kind == LINK:
                self._links[name] = posixpath.normpath(os.fsdecode(entry.linkname))
            if number >= _MOST_MEMBERS:
                raise BrokenArchive(f"the archive has more than {_MOST_MEMBERS} members: it is no image")

    def __contains__(self, name: str) -> bool:
        return self._target(name) in self._members

    def size(self, name: str) -> int:
        return self._members[self._target(name)][1]

    def chunks(self, name: str) -> Iterator[bytes]:
        offset, left = self._members[self._target(name)]
        while left:
            chunk = os.pread(self._file, min(left, PIECE), offset)
            if not chunk:
                raise BrokenArchive(f"the archive ends in the middle of {name!a}")
            offset, left = offset + len(chunk), left - len(chunk)
            yield chunk

    def _target(self, name: str) -> str:
        """`docker save` stores a layer that comes twice as a link; one step is all it ever takes."""
        name = posixpath.normpath(name)
        return name if name in self._members else self._links.get(name, name)


def _copied(descriptor: int, staging: str) -> int:
    path = os.path.join(staging, "archive")
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    start, chunks = peek(pieces(descriptor))
    for chunk in inflated(chunks, recognised(start)):
        left = memoryview(chunk)
        while left:
            left = left[os.write(file, left) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file
