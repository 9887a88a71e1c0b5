"""What a tmpfs with `tmpcopyup` begins with: the contents of the directory that it covers, copied by descriptors, so
that nothing of a path can be exchanged on the way."""

from __future__ import annotations

import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 30


def copy_tree(source: int, target: int) -> None:
    """Copies what is in the directory held as `source` into the one held as `target`, with owners, modes and times;
    sockets are left out, which nobody could connect to."""
    directory = os.open(".", _DIRECTORY, dir_fd=source)
    try:
        for name in os.listdir(directory):
            _copy(name, directory, target)
    finally:
        os.close(directory)


def _copy(name: str, source: int, target: int) -> None:
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISSOCK(found.st_mode):
        return
    if stat.S_ISDIR(found.st_mode):
        _copy_directory(name, source, target)
    elif stat.S_ISREG(found.st_mode):
        _copy_file(name, source, target)
    elif stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
    os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _copy_directory(name: str, source: int, target: int) -> None:
    os.mkdir(name, dir_fd=target)
    inner, copy = (os.open(name, _DIRECTORY, dir_fd=above) for above in (source, target))
    try:
        copy_tree(inner, copy)
    finally:
        os.close(inner)
        os.close(copy)


def _copy_file(name: str, source: int, target: int) -> None:
    original = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
    try:
        while os.sendfile(copy, original, None, _CHUNK):
            pass
    finally:
        os.close(original)
        os.close(copy)
