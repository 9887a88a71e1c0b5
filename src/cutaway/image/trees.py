"""Removing and measuring directory trees that a stranger made: any depth, any names, no recursion.

`shutil.rmtree` recurses and keeps a descriptor open at each level, so a layer a few thousand directories deep stops it.
Here every directory that is not empty moves up beside the one being removed, so that nothing is ever deep.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator


def disk_usage(path: str | bytes) -> int:
    """The bytes that what is at `path` takes on its file system, as `du(1)` counts: whole blocks, directories too, a
    file with several names once, holes and what is mounted below not at all; nothing where nothing is."""
    try:
        top = os.lstat(path)
    except FileNotFoundError:
        return 0
    blocks = {top.st_ino: top.st_blocks}
    waiting = [path] if stat.S_ISDIR(top.st_mode) else []
    while waiting:
        for found, directory in _statuses(waiting.pop()):
            if found.st_dev == top.st_dev:
                if directory and found.st_ino not in blocks:
                    waiting.append(directory)
                blocks[found.st_ino] = found.st_blocks
    return 512 * sum(blocks.values())


def _statuses(directory: str | bytes) -> Iterator[tuple[os.stat_result, str | bytes]]:
    """Of all that a directory holds, each with its path where it is a directory itself; what vanishes is left out."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    yield entry.stat(follow_symlinks=False), entry.path if entry.is_dir(follow_symlinks=False) else ""
                except FileNotFoundError:
                    continue
    except OSError:  # it is gone, or its path is too long for the kernel
        return


def remove(parent: int, name: str | bytes) -> None:
    """Removes whatever `name` is in the directory `parent` (a descriptor); nothing there is no error."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        _remove_directory(parent, os.fsencode(name))


def _remove_directory(parent: int, name: bytes) -> None:
    waiting, moved = [name], 0
    while waiting:
        directory = waiting.pop()
        below = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            for child in _emptied(below):
                moved += 1
                waiting.append(b".%s.%d" % (name[:200], moved))
                os.rename(child, waiting[-1], src_dir_fd=below, dst_dir_fd=parent)
        finally:
            os.close(below)
        os.rmdir(directory, dir_fd=parent)


def _emptied(directory: int) -> list[bytes]:
    """Removes all in `directory` but the subdirectories that are not empty; returns their names."""
    full = []
    with os.scandir(directory) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(name, dir_fd=directory)
            elif not _rmdir(name, directory):
                full.append(name)
    return full


def _rmdir(name: bytes, directory: int) -> bool:
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError:
        return False
    return True
