"""What a container changed: its upper directory against the layers below, as `docker diff` lists it.

overlayfs keeps in the upper directory whatever was written, a character device 0/0 for what was deleted, and marks a
directory `opaque` that hides all below it (kernel documentation, `filesystems/overlayfs`). As in Docker, a directory
has changed when something in it has, or its mode or owner; its time alone says nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from cutaway.kernel.openat2 import open_in_root
from cutaway.kernel.overlay import OPAQUE, is_whiteout

CHANGED, ADDED, DELETED = "C", "A", "D"

Change = tuple[str, str]
"""The kind of change and the absolute path, as the container sees it."""


def changes(upper: int, lowers: Sequence[int]) -> list[Change]:
    """The changes, sorted by path. `upper` and `lowers` (topmost first) are descriptors of directories."""
    found: dict[bytes, str] = {}
    waiting = [(b"", list(lowers), False)]
    while waiting:
        path, below, opaque = waiting.pop()
        opaque = opaque or is_opaque(upper, path)
        names = names_in(upper, path)
        if opaque:
            found |= dict.fromkeys(_hidden(path, names, below), DELETED)
        for name in names:
            child = os.path.join(path, name)
            kind, beneath = _change(upper, child, below)
            if kind:
                found[child] = kind
            if beneath is not None:
                waiting.append((child, beneath, opaque))
    for path in list(found):
        _mark_parents(found, path)
    return [(kind, "/" + path.decode(errors="replace")) for path, kind in sorted(found.items())]


def _change(upper: int, path: bytes, below: list[int]) -> tuple[str, list[int] | None]:
    """What happened to a path, if anything, and, for a directory to look into, the lowers that have it too."""
    try:
        new = os.lstat(path, dir_fd=upper)
    except FileNotFoundError:
        return "", None  # the container runs on
    old, beneath = shown_below(below, path)
    if is_whiteout(new):
        return (DELETED if old else ""), None
    if not stat.S_ISDIR(new.st_mode):
        return (CHANGED if old else ADDED), None
    if old is None:
        return ADDED, []
    return (CHANGED if differs(old, new) else ""), beneath


def shown_below(below: list[int], path: bytes) -> tuple[os.stat_result | None, list[int]]:
    """What the lowers show at `path` in a directory they share, and those that have a directory there, merged."""
    shown: os.stat_result | None = None
    merged: list[int] = []
    for lower in below:
        try:
            found = os.lstat(path, dir_fd=lower)
        except FileNotFoundError:
            continue
        if is_whiteout(found):
            break
        shown = shown or found
        if not stat.S_ISDIR(found.st_mode):
            break
        merged.append(lower)
        if is_opaque(lower, path):
            break
    return shown, merged


def _hidden(path: bytes, names: list[bytes], below: list[int]) -> Iterator[bytes]:
    """What an opaque directory hides of the lowers and has nothing of its own for."""
    for name in {name for lower in below for name in names_in(lower, path)}.difference(names):
        child = os.path.join(path, name)
        if shown_below(below, child)[0]:
            yield child


def _mark_parents(found: dict[bytes, str], path: bytes) -> None:
    parent = os.path.dirname(path)
    while parent and parent not in found:
        found[parent] = CHANGED
        parent = os.path.dirname(parent)


def names_in(root: int, path: bytes) -> list[bytes]:
    try:
        directory = open_in_root(root, path or b".", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return []
    try:
        return [os.fsencode(name) for name in os.listdir(directory)]
    finally:
        os.close(directory)


def is_opaque(root: int, path: bytes) -> bool:
    try:
        return os.getxattr(b"/proc/self/fd/%d/%s" % (root, path), OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False  # it has no such attribute


def differs(old: os.stat_result, new: os.stat_result) -> bool:
    return any(getattr(old, field) != getattr(new, field) for field in ("st_mode", "st_uid", "st_gid"))
