"""Making files from a tar archive below one directory that nothing in the archive can leave.

Every parent directory is opened with `openat2(RESOLVE_IN_ROOT)` (links inside lead where they lead a process whose
root this is) and every last component is created relative to that descriptor, never followed. What exists under a
name is replaced. Directories get their owner, mode, attributes and times when all is in place, so that a directory
with a setgid bit, a default ACL or mode 0 does not change what is made below it.

In a layer, entries named `.wh.NAME` delete NAME of the layers below (OCI image-spec, `layer.md`, *Whiteouts*);
overlayfs says the same with a character device 0/0, and marks a directory that hides what is below with an attribute
(kernel documentation, `filesystems/overlayfs`).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from cutaway.image import sparse, trees
from cutaway.image.errors import BrokenArchive, ImageError
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
    shown,
)
from cutaway.kernel.openat2 import make_directories, open_in_root
from cutaway.kernel.overlay import OPAQUE, is_whiteout

WHITEOUT = b".wh."
_AUFS = b".wh..wh."
OPAQUE_WHITEOUT = b".wh..wh..opq"
OVERLAY = b"trusted.overlay."
_THIS_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NODES = {FIFO: stat.S_IFIFO, CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}
_OPEN_PARENTS = 128
_LATEST = 2**63 - 1  # nanoseconds, as far as utimensat(2) through a C long goes
_ID_LARGEST = 2**32 - 2  # the one above means "unchanged" to chown(2)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EPERM)  # user.* on a link or device; attributes of an absent security module


class Unpacker:
    """Makes the entries of one archive inside the directory `root` (a descriptor, which stays the caller's).

    `below`: the directory in there that the archive's names count from; links still lead to where `root` is `/`.
    `layer`: whiteouts are translated for overlayfs. `owner`: (uid, gid) of everything, instead of the archive's.
    `keep_kind`: refuse to replace a directory by something else, or the reverse, as `docker cp` does.
    `size` counts the bytes of files and of links, as Docker does, `entries` the members.
    """

    def __init__(
        self,
        root: int,
        below: str = "",
        *,
        layer: bool = False,
        owner: tuple[int, int] | None = None,
        keep_kind: bool = False,
    ) -> None:
        self._root, self._below = root, _parts(os.fsencode(below))
        self._layer, self._owner, self._keep_kind = layer, owner, keep_kind
        self._open: dict[bytes, int] = {}  # the parents used last, the latest at the end
        self._directories: dict[bytes, Entry] = {}
        self.size = self.entries = 0

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget_parents()

    def unpack(self, reader: Reader) -> None:
        """Makes every member of `reader`; raises `BrokenArchive`, or `ImageError` where the system refuses."""
        for entry in reader:
            try:
                self._add(entry, reader)
            except OSError as error:
                raise ImageError(f"cannot unpack {shown(entry.name)}: {error.strerror}") from error
            except (ValueError, OverflowError) as error:  # a NUL in a name, a number too large for a system call
                raise BrokenArchive(f"cannot unpack {shown(entry.name)}: {error}") from None
        for path, entry in reversed(self._directories.items()):
            self._finish_directory(path, entry)

    def _add(self, entry: Entry, reader: Reader) -> None:
        self.entries += 1
        self.size += len(entry.linkname) if entry.kind == SYMLINK else entry.size if entry.kind == REGULAR else 0
        self._check_owner(entry)
        parts = self._below + _parts(entry.name)
        if len(parts) == len(self._below):
            self._directories[b"/".join(parts)] = entry
            return
        path, name = b"/".join(parts[:-1]), parts[-1]
        if self._layer and name.startswith(WHITEOUT):
            self._whiteout(path, name)
        elif entry.kind == DIRECTORY:
            self._directory(path, name)
            self._directories[b"/".join(parts)] = entry
        else:
            self._file(path, name, entry, reader)

    def _check_owner(self, entry: Entry) -> None:
        if self._owner:
            entry.uid, entry.gid = self._owner
        if not (0 <= entry.uid <= _ID_LARGEST and 0 <= entry.gid <= _ID_LARGEST):
            raise BrokenArchive(f"{shown(entry.name)} has an owner out of range: {entry.uid}:{entry.gid}")

    def _parent(self, path: bytes) -> int:
        """A descriptor of the directory `path`, good until two others have been asked for."""
        if not path:
            return self._root
        descriptor = self._open.pop(path, -1)
        if descriptor < 0:
            descriptor = self._open_directory(path)
        self._open[path] = descriptor
        if len(self._open) > _OPEN_PARENTS:
            os.close(self._open.pop(next(iter(self._open))))
        return descriptor

    def _open_directory(self, path: bytes) -> int:
        try:
            return open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            os.close(make_directories(self._root, os.fsdecode(path)))
            return open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)

    def _forget_parents(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _file(self, path: bytes, name: bytes, entry: Entry, reader: Reader) -> None:
        try:
            self._make(path, name, entry, reader)
        except FileExistsError:
            self._clear(path, name, for_directory=False)
            self._make(path, name, entry, reader)

    def _make(self, path: bytes, name: bytes, entry: Entry, reader: Reader) -> None:
        if entry.kind == LINK:
            self._link(path, name, entry)
        elif entry.kind == REGULAR:
            _regular(self._parent(path), name, entry, reader)
        else:
            _special(self._parent(path), name, entry)

    def _link(self, path: bytes, name: bytes, entry: Entry) -> None:
        target = self._below + _parts(entry.linkname)
        if len(target) == len(self._below):
            raise BrokenArchive(f"{shown(entry.name)} is a hard link to no file")
        beside, parent = self._parent(b"/".join(target[:-1])), self._parent(path)
        try:
            os.link(target[-1], name, src_dir_fd=beside, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            missing = shown(entry.linkname)
            raise BrokenArchive(f"{shown(entry.name)} is a hard link to {missing}, which is not there") from None

    def _directory(self, path: bytes, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=self._parent(path))
        except FileExistsError:
            there = os.lstat(name, dir_fd=self._parent(path))
            if stat.S_ISDIR(there.st_mode):
                return
            self._clear(path, name, for_directory=True)
            os.mkdir(name, 0o700, dir_fd=self._parent(path))
            if self._layer and is_whiteout(there):  # what the layers below have there stays hidden
                _make_opaque(self._parent(path), name)

    def _clear(self, path: bytes, name: bytes, for_directory: bool) -> None:
        parent = self._parent(path)
        if self._keep_kind and stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode) != for_directory:
            old, new = ("non-directory", "directory") if for_directory else ("directory", "non-directory")
            raise ImageError(f"cannot overwrite {old} {shown(path + b'/' + name)} with {new}")
        trees.remove(parent, name)
        self._forget_parents()

    def _whiteout(self, path: bytes, name: bytes) -> None:
        hidden = name.removeprefix(WHITEOUT)
        if name == OPAQUE_WHITEOUT:
            os.setxattr(self._parent(path), OPAQUE, b"y")
        elif name.startswith(_AUFS):
            return  # bookkeeping of aufs, which means nothing elsewhere
        elif hidden in (b"", b".", b".."):
            raise BrokenArchive(f"{shown(path + b'/' + name)} is a whiteout of no file")
        else:
            self._hide(self._parent(path), hidden)

    def _hide(self, parent: int, name: bytes) -> None:
        """A whiteout means the layers below: what this layer has under the name stays, and stays alone."""
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                _make_opaque(parent, name)

    def _finish_directory(self, path: bytes, entry: Entry) -> None:
        try:
            directory = open_in_root(self._root, path or b".", _THIS_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return  # a later entry has replaced it
        try:
            _finish(directory, entry)
        except OSError as error:
            raise ImageError(f"cannot unpack {shown(entry.name)}: {error.strerror}") from error
        finally:
            os.close(directory)


def _parts(name: bytes) -> list[bytes]:
    """The components of a name; an absolute one counts from the root of the archive, as everywhere."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise BrokenArchive(f"{shown(name)} leads out of the archive with '..'")
    return parts


def _regular(parent: int, name: bytes, entry: Entry, reader: Reader) -> None:
    file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600, dir_fd=parent)
    try:
        _write(file, entry, reader)
        _finish(file, entry)
    finally:
        os.close(file)


def _write(file: int, entry: Entry, reader: Reader) -> None:
    if entry.segments is None:
        _copy(reader.contents(), file)
    for offset, length in entry.segments or ():
        os.lseek(file, offset, os.SEEK_SET)
        _copy(reader.contents(length), file)
    if entry.segments is not None or entry.size >= sparse.LONG:
        os.ftruncate(file, entry.size)


def _copy(pieces: Iterator[memoryview], file: int) -> None:
    for piece in pieces:
        sparse.write(file, piece)


def _special(parent: int, name: bytes, entry: Entry) -> None:
    if entry.kind == SYMLINK:
        os.symlink(entry.linkname, name, dir_fd=parent)
    elif entry.kind in _NODES:
        os.mknod(name, _NODES[entry.kind], os.makedev(*entry.device), dir_fd=parent)
    else:
        raise BrokenArchive(f"{shown(entry.name)} is of a kind that is not known: {entry.kind!r}")
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    if entry.kind != SYMLINK:
        _set_mode(parent, name, entry.mode)
    for xattr, value in entry.xattrs.items():
        _set_xattr(b"/proc/self/fd/%d/%s" % (parent, name), xattr, value)
    os.utime(name, ns=_times(entry), dir_fd=parent, follow_symlinks=False)


def _set_mode(parent: int, name: bytes, mode: int) -> None:
    """Of a node, which must not be opened and, should a container have put a link there, not be followed either."""
    node = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{node}", mode)
    finally:
        os.close(node)


def _finish(file: int, entry: Entry) -> None:
    """Owner, mode, attributes, times of an open file, in the order in which none undoes another."""
    os.fchown(file, entry.uid, entry.gid)
    os.fchmod(file, entry.mode)
    for xattr, value in entry.xattrs.items():
        _set_xattr(file, xattr, value)
    os.utime(file, ns=_times(entry))


def _set_xattr(file: int | bytes, xattr: bytes, value: bytes) -> None:
    """Attributes by which overlayfs would be steered are escaped, so that it shows them instead of obeying them."""
    if xattr.startswith(OVERLAY):
        xattr = OVERLAY + b"overlay." + xattr.removeprefix(OVERLAY)
    try:
        os.setxattr(file, xattr, value, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _times(entry: Entry) -> tuple[int, int]:
    mtime = min(max(entry.mtime, 0), _LATEST)
    return mtime, mtime


def _make_opaque(parent: int, name: bytes) -> None:
    directory = os.open(name, _THIS_DIRECTORY, dir_fd=parent)
    try:
        os.setxattr(directory, OPAQUE, b"y")
    finally:
        os.close(directory)
