"""Removing and measuring directory trees that a stranger made: of any depth, with any names.

`shutil.rmtree` recurses and keeps a descriptor open at each level, so a layer a few thousand directories deep stops it.
Here a directory that is deeper than others ever are moves up beside the one being removed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

_DEEPEST = 40  # levels, each with a descriptor
_PART = 3  # levels down, where what is removed at once begins: /usr/share/doc is a part of an image
_AT_ONCE = 8


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
        _Removal(parent, os.fsencode(name), _DEEPEST).run()


def remove_all(directory: str, names: Iterable[str]) -> None:
    """Removes these trees and files from a directory, several parts at once: the disk may be slow to free each file
    (where it is told at once what is free, `discard` in `ext4(5)`, 1 ms and more), but frees many as quickly."""
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            parts = [part for name in names for part in _taken_apart(parent, os.fsencode(name))]
            for _ in pool.map(partial(remove, parent), parts):
                pass
    finally:
        os.close(parent)


def _taken_apart(parent: int, name: bytes) -> list[bytes]:
    """Removes the top of a tree; returns the parts of it that are left, each by itself in the directory `parent`."""
    removal = _Removal(parent, name, _PART)
    try:
        removal.step()
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return [name]
    return removal.waiting


class _Removal:
    """The removal of a tree from the directory `top`. Directories more than `deepest` levels down in it move up, beside
    the tree, and are `waiting`."""

    def __init__(self, top: int, name: bytes, deepest: int) -> None:
        self._top, self._name, self._deepest = top, name, deepest
        self.waiting, self._moved = [name], 0

    def run(self) -> None:
        while self.waiting:
            self.step()

    def step(self) -> None:
        self._remove(self._top, self.waiting.pop(), 1)

    def _remove(self, parent: int, name: bytes, depth: int) -> None:
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    child = os.fsencode(entry.name)
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(child, dir_fd=directory)
                    elif depth < self._deepest:
                        self._remove(directory, child, depth + 1)
                    else:
                        self._move_up(directory, child)
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=parent)

    def _move_up(self, directory: int, name: bytes) -> None:
        self._moved += 1
        self.waiting.append(b".%s.%d" % (self._name[:200], self._moved))
        os.rename(name, self.waiting[-1], src_dir_fd=directory, dst_dir_fd=self._top)
