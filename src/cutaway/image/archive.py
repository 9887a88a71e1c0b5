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
from cutaway.image.unpack import OVERLAY, Unpacker
from cutaway.kernel.openat2 import open_in_root

_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}  # sockets have no place in an archive
Links = dict[tuple[int, int] | None, bytes]
"""Device and inode of each file of several names packed so far, and the first of them in the archive."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_CONTENTS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_XATTRS = ("security.capability", "system.posix_acl_", "trusted.", "user.")
_PIPE = 1 << 16  # bytes that a pipe holds


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
    """The tar stream of `path` inside `root`, in which it is called `name`: a file, or a directory with all it holds;
    without a name, only what the directory holds.

    Raises `OSError` where nothing is there. A link is packed as the link it is; sockets are left out.
    """
    status(root, path)
    links: Links = {}
    above, last = os.path.split(_normalised(path))
    waiting = [(os.fsencode(above), os.fsencode(last or "."), os.fsencode(name))]
    while waiting:
        directory, last_name, shown_name = waiting.pop()
        try:
            parent = open_in_root(root, directory, _DIRECTORY)
        except FileNotFoundError:
            continue  # it was there when it was listed
        try:
            if shown_name:
                yield from member(parent, last_name, shown_name, links)
            below = directory + b"/" + last_name
            waiting += [(below, child, os.path.join(shown_name, child)) for child in children(parent, last_name)]
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


def gathered(chunks: Iterable[bytes], size: int = _PIPE) -> Iterator[bytes]:
    """The same bytes in pieces of at least `size`: most files are small, and passing each on by itself costs."""
    held: list[bytes] = []
    waiting = 0
    for chunk in chunks:
        held.append(chunk)
        waiting += len(chunk)
        if waiting >= size:
            yield b"".join(held)
            held, waiting = [], 0
    if held:
        yield b"".join(held)


def member(parent: int, last: bytes, name: bytes, links: Links, *, layer: bool = False) -> Iterator[bytes]:
    """The part of a tar stream that is about `last` in the directory `parent`, which is called `name` there; nothing
    where it is gone, or a socket.

    `links` keeps the first names. `layer`: it is read from an upper directory of overlayfs, whose own attributes are
    left out.
    """
    try:
        found = os.lstat(last, dir_fd=parent)
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            return
        entry = _entry(found, kind, name)
        same = (found.st_dev, found.st_ino) if found.st_nlink > 1 and kind != DIRECTORY else None
        if same in links:
            entry.kind, entry.linkname, entry.size = LINK, links[same], 0
        else:
            entry.linkname = os.readlink(last, dir_fd=parent) if kind == SYMLINK else b""
            entry.xattrs = _xattrs(b"/proc/self/fd/%d/%s" % (parent, last), layer=layer)
        file = os.open(last, _CONTENTS, dir_fd=parent) if entry.kind == REGULAR else -1
    except FileNotFoundError:
        return
    if same:
        links.setdefault(same, name)
    if file < 0:
        yield header(entry)
    else:
        yield from _regular(file, entry)


def _entry(found: os.stat_result, kind: bytes, name: bytes) -> Entry:
    entry = Entry(name + b"/" if kind == DIRECTORY else name, kind)
    entry.mode, entry.uid, entry.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    entry.size, entry.mtime = found.st_size if kind == REGULAR else 0, found.st_mtime_ns
    if kind in (CHARACTER, BLOCK_DEVICE):
        entry.device = (os.major(found.st_rdev), os.minor(found.st_rdev))
    return entry


def _xattrs(path: bytes, *, layer: bool) -> dict[bytes, bytes]:
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(_XATTRS)]
    found = {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names}
    return dict(filter(None, map(_unescaped, found.items()))) if layer else found


def _unescaped(xattr: tuple[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """An attribute as a container sees it: overlayfs hides its own and escapes those that only look so."""
    name, value = xattr
    if not name.startswith(OVERLAY):
        return xattr
    escaped = name.removeprefix(OVERLAY)
    return (OVERLAY + escaped.removeprefix(b"overlay."), value) if escaped.startswith(b"overlay.") else None


def _regular(file: int, entry: Entry) -> Iterator[bytes]:
    """An open file, which is closed, with as many bytes as the header says, whatever happens to it meanwhile."""
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ImageError(f"{shown(entry.name)} became something else while it was read")
        yield header(entry)
        left = entry.size
        while left and (chunk := os.read(file, min(left, PIECE))):
            left -= len(chunk)
            yield chunk
        for at in range(0, left, PIECE):
            yield bytes(min(left - at, PIECE))
        yield padding(entry.size)
    finally:
        os.close(file)


def children(parent: int, name: bytes) -> list[bytes]:
    """What a directory holds, last name first; nothing where it is none."""
    try:
        directory = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except (NotADirectoryError, FileNotFoundError):
        return []
    try:
        return sorted(map(os.fsencode, os.listdir(directory)), reverse=True)
    finally:
        os.close(directory)
