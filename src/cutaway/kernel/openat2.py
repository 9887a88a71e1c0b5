"""Opening a path below a directory that cannot be left, whatever its links say: `openat2(2)`.

A path inside a container's root is written by the container. Resolving it by name on the host follows its symbolic
links to the host's files; `RESOLVE_IN_ROOT` makes the kernel treat the directory as `/` for this one look-up.
"""

from __future__ import annotations

import os
import struct
from time import monotonic

from cutaway.kernel.syscalls import call

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
_PATIENCE = 0.1
"""Seconds for which a path with `..` in it is tried again: while anything is mounted or renamed anywhere, the kernel
cannot be sure that it stays below, and says EAGAIN; to take a mount namespace down takes milliseconds."""


def openat2(directory: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Opens `path` relative to the descriptor `directory`; returns a descriptor that closes on exec.

    Raises `KernelError`: `ELOOP` for a magic link under `RESOLVE_NO_MAGICLINKS`, `EXDEV` where the path would leave.
    """
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    begun = monotonic()
    while True:
        try:
            return call("openat2", directory, path, how, len(how), subject=os.fsdecode(path))
        except BlockingIOError:
            if monotonic() - begun > _PATIENCE:
                raise
            os.sched_yield()


def open_in_root(root: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Opens `path` as a process whose root directory is the descriptor `root` would; never leaves it."""
    return openat2(root, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_directly(root: int, path: str, flags: int) -> int:
    """The same for a path without any symbolic link in it: else raises `KernelError`, ELOOP."""
    return openat2(root, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)


def make_directories(root: int, path: str, mode: int = 0o755) -> int:
    """Makes `path` and the directories above it inside `root` as far as missing; returns an `O_PATH` descriptor of it.

    Each part is resolved inside the root, so a link on the way leads to where it leads for the container.
    """
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return _walk(root, path, mode)


def _walk(root: int, path: str, mode: int) -> int:
    here = os.dup(root)
    done = ""
    for part in (part for part in path.split("/") if part not in ("", ".")):
        done += "/" + part
        os.close(here)
        here = _directory(root, done, mode)
    return here


def _directory(root: int, path: str, mode: int) -> int:
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        parent, _, name = path.rpartition("/")
    above = open_in_root(root, parent or "/", os.O_PATH | os.O_DIRECTORY)
    try:
        os.mkdir(name, mode, dir_fd=above)
    except FileExistsError:  # a link that leads nowhere yet, or another process was quicker
        if target := _link_target(above, parent, name):
            return make_directories(root, target, mode)
    finally:
        os.close(above)
    return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)


def make_file(root: int, path: str) -> int:
    """Makes an empty file at `path` inside `root` unless something is there; returns an `O_PATH` descriptor of it.

    Where a link is there that leads nowhere yet, the file is made where it leads, inside `root`. Raises `KernelError`;
    ELOOP for links that lead to each other.
    """
    try:
        return open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        parent, _, name = path.rstrip("/").rpartition("/")
    above = make_directories(root, parent)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=above))
    except FileExistsError:
        if target := _link_target(above, parent, name):
            return make_file(root, target)
    finally:
        os.close(above)
    return open_in_root(root, path, os.O_PATH)


def _link_target(directory: int, path: str, name: str) -> str:
    """Where the link `name` in `directory`, which is at `path`, leads; empty where it is no link."""
    try:
        target = os.readlink(name, dir_fd=directory)
    except OSError:
        return ""
    return target if target.startswith("/") else f"{path}/{target}"
