"""Files of a tree as a tar stream and back: `cp`, `box.put`, `box.get`, `import` of a directory.

The tree may be a container's, and the container may change it meanwhile: every look-up is made inside its root
(`openat2(2)`), what is opened is checked to be what it was listed as, and devices and pipes are never opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterable, Iterator

import msgspec

from cutaway.image.compression import PIECE, inflated, peek, recognised
from cutaway.image.errors import ImageError
from cutaway.image.tarstream import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    LINK,
    REGULAR,
    SYMLINK,
    Entry,
    Reader,
    Stream,
    shown,
)
from cutaway.image.tarwriter import END, header, padding
from cutaway.image.unpack import Unpacker
from cutaway.kernel.openat2 import open_in_root

_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}  # sockets have no place in an archive
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_CONTENTS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_XATTRS = ("security.capability", "system.posix_acl_", "user.")


class PathStatus(msgspec.Struct, frozen=True):
    """What is at a path: `mode` as in `stat(2)`, `size` in bytes, `mtime` in nanoseconds, `target` of a link."""

    name: str
    size: int
    mode: int
    mtime: int
    target: str = ""


def status(root: int, path: str) -> PathStatus:
    """What is at `path` inside `root` (a descriptor); a link is not followed. Raises `OSError` where nothing is."""
    path = _normalised(path)
    file = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        found = os.fstat(file)
        target = os.readlink("", dir_fd=file) if stat.S_ISLNK(found.st_mode) else ""
    finally:
        os.close(file)
    return PathStatus(os.path.basename(path) or "/", found.st_size, found.st_mode, found.st_mtime_ns, target)


def packed(root: int, path: str, name: str) -> Generator[bytes]:
    """The tar stream of `path` inside `root`, in which it is called `name`: a file, or a directory with all it holds.

    Raises `OSError` where nothing is there. A link is packed as the link it is; sockets are left out.
    """
    status(root, path)
    links: dict[tuple[int, int], bytes] = {}
    above, last = os.path.split(_normalised(path))
    waiting = [(os.fsencode(above), os.fsencode(last or "."), os.fsencode(name))]
    while waiting:
        directory, last_name, shown_name = waiting.pop()
        try:
            parent = open_in_root(root, directory, _DIRECTORY)
        except FileNotFoundError:
            continue  # it was there when it was listed
        try:
            yield from _member(parent, last_name, shown_name, links)
            below = directory + b"/" + last_name
            waiting += [(below, child, shown_name + b"/" + child) for child in _children(parent, last_name)]
        finally:
            os.close(parent)
    yield END


def unpack(
    root: int,
    path: str,
    chunks: Iterable[bytes],
    owner: tuple[int, int] | None = None,
    keep_kind: bool = False,
) -> None:
    """Makes the files of a tar stream, compressed or not, in the directory `path` inside `root`; see `Unpacker`.

    Raises `OSError` where `path` is no directory, `ImageError` where something cannot be made.
    """
    os.close(open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
    start, chunks = peek(chunks)
    with Unpacker(root, path, owner=owner, keep_kind=keep_kind) as unpacker:
        unpacker.unpack(Reader(Stream(inflated(chunks, recognised(start)))))


def _normalised(path: str) -> str:
    """An absolute path that does not end in `..`, which as a last component would lead out of the root."""
    return os.path.normpath("/" + path.lstrip("/"))


def _member(parent: int, last: bytes, name: bytes, links: dict[tuple[int, int], bytes]) -> Iterator[bytes]:
    try:
        found = os.lstat(last, dir_fd=parent)
    except FileNotFoundError:
        return
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        return
    entry = _entry(found, kind, name)
    first = links.setdefault((found.st_dev, found.st_ino), name)
    if first != name:
        entry.kind, entry.linkname, entry.size = LINK, first, 0
    else:
        entry.linkname = os.readlink(last, dir_fd=parent) if kind == SYMLINK else b""
        entry.xattrs = _xattrs(b"/proc/self/fd/%d/%s" % (parent, last))
    yield header(entry)
    if entry.kind == REGULAR:
        yield from _contents(parent, last, entry)


def _entry(found: os.stat_result, kind: bytes, name: bytes) -> Entry:
    entry = Entry(name + b"/" if kind == DIRECTORY else name, kind)
    entry.mode, entry.uid, entry.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    entry.size, entry.mtime = found.st_size if kind == REGULAR else 0, found.st_mtime_ns
    if kind in (CHARACTER, BLOCK_DEVICE):
        entry.device = (os.major(found.st_rdev), os.minor(found.st_rdev))
    return entry


def _xattrs(path: bytes) -> dict[bytes, bytes]:
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(_XATTRS)]
    return {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names}


def _contents(parent: int, last: bytes, entry: Entry) -> Iterator[bytes]:
    """As many bytes as the header says, whatever happens to the file meanwhile."""
    file = os.open(last, _CONTENTS, dir_fd=parent)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ImageError(f"{shown(entry.name)} became something else while it was read")
        left = entry.size
        while left and (chunk := os.read(file, min(left, PIECE))):
            left -= len(chunk)
            yield chunk
        for at in range(0, left, PIECE):
            yield bytes(min(left - at, PIECE))
        yield padding(entry.size)
    finally:
        os.close(file)


def _children(parent: int, name: bytes) -> list[bytes]:
    """What a directory holds, last name first; nothing where it is none."""
    try:
        directory = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except (NotADirectoryError, FileNotFoundError):
        return []
    try:
        return sorted(map(os.fsencode, os.listdir(directory)), reverse=True)
    finally:
        os.close(directory)
