"""Being told when files change: `inotify(7)`."""

from __future__ import annotations

import os

from cutaway.kernel.errors import KernelError
from cutaway.kernel.native import get_errno
from cutaway.kernel.syscalls import libc

IN_MODIFY = 0x2
IN_MOVED_FROM = 0x40
IN_CREATE = 0x100
IN_DELETE_SELF = 0x400

_IN_NONBLOCK, _IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC


def watch(path: str, events: int) -> int:
    """A non-blocking descriptor that becomes readable when one of `events` happens to `path` or to what is in it."""
    descriptor = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
    if descriptor < 0:
        raise KernelError(get_errno(), "inotify_init1", path)
    if libc.inotify_add_watch(descriptor, os.fsencode(path), events) < 0:
        number = get_errno()
        os.close(descriptor)
        raise KernelError(number, "inotify_add_watch", path)
    return int(descriptor)


def acknowledge(descriptor: int) -> None:
    """Takes note of all that has happened so far."""
    try:
        while os.read(descriptor, 1 << 16):
            pass
    except BlockingIOError:
        pass
