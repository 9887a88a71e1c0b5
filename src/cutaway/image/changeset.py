"""A container's own layer as a tar archive: what it added and changed, and whiteouts for what it deleted.

The members and their names are those that Docker writes for the same upper directory (OCI image-spec, `layer.md`). More
of each is kept: fractions of a second, all extended attributes. Sockets are left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence

from cutaway.image import archive
from cutaway.image.archive import Links
from cutaway.image.diff import differs, is_opaque, names_in, shown_below
from cutaway.image.errors import ImageError
from cutaway.image.tarstream import Entry, shown
from cutaway.image.tarwriter import END, header
from cutaway.image.unpack import OPAQUE_WHITEOUT, WHITEOUT
from cutaway.kernel.openat2 import open_in_root
from cutaway.kernel.overlay import is_whiteout


def packed(upper: int, lowers: Sequence[int], made: Collection[bytes] = ()) -> Iterator[bytes]:
    """The archive of what the directory `upper` changes of `lowers`, the topmost first (descriptors).

    `made`: paths (without a leading slash) that the engine makes in every container to mount something there; they are
    left out as far as they hold nothing. Raises `ImageError` where a file's name would mean a deletion.
    """
    links: Links = {}
    waiting = archive.children(upper, b".")
    while waiting:
        path = waiting.pop()
        above, name = os.path.split(path)
        try:
            parent = open_in_root(upper, above or b".", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # the container runs on
        try:
            if not _is_the_engines(upper, lowers, path, made):
                yield from _member(parent, name, path, links)
                waiting += [os.path.join(path, child) for child in archive.children(parent, name)]
        finally:
            os.close(parent)
    yield END


def _member(parent: int, name: bytes, path: bytes, links: Links) -> Iterator[bytes]:
    try:
        found = os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return
    if is_whiteout(found):
        yield _whiteout(os.path.join(os.path.dirname(path), WHITEOUT + name))
        return
    if name.startswith(WHITEOUT):
        raise ImageError(f"/{shown(path)}: in a layer, a name that begins with .wh. means a deletion; rename the file")
    yield from archive.member(parent, name, path, links, layer=True)
    if stat.S_ISDIR(found.st_mode) and is_opaque(parent, name):
        yield _whiteout(os.path.join(path, OPAQUE_WHITEOUT))


def _whiteout(path: bytes) -> bytes:
    entry = Entry(path)
    entry.mode = 0o600
    return header(entry)


def _is_the_engines(upper: int, lowers: Sequence[int], path: bytes, made: Collection[bytes]) -> bool:
    """Whether a path is there because something is mounted on it, or on all that it holds, and for no other reason."""
    if not any(each == path or each.startswith(path + b"/") for each in made):
        return False
    try:
        new = os.lstat(path, dir_fd=upper)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(new.st_mode):
        return path in made and stat.S_ISREG(new.st_mode) and new.st_size == 0
    inside = names_in(upper, path)
    if path in made:
        return not inside
    old, _ = shown_below(list(lowers), path)
    return (
        all(_is_the_engines(upper, lowers, os.path.join(path, name), made) for name in inside)
        and not is_opaque(upper, path)
        and (old is None or not differs(old, new))
    )
