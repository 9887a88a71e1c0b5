"""Descriptors of this process: closed by the range (`close_range(2)`), or looked at."""

from __future__ import annotations

import os
import stat

from cutaway.kernel.syscalls import call

HIGHEST = 0x7FFFFFFF
_USUAL_HIGHEST = (1 << 20) - 1  # `/proc/sys/fs/nr_open`, unless somebody has raised it
_CLOSE_RANGE_CLOEXEC = 1 << 2
_NULL = os.makedev(1, 3)


def close_range(first: int, last: int = HIGHEST) -> None:
    """Closes those from `first` to `last`, if there are any; one by one where the kernel, or a filter that this process
    is under, has no call for it."""
    if last < first:
        return
    try:
        call("close_range", first, last, 0)
    except OSError:
        os.closerange(first, min(last, _USUAL_HIGHEST) + 1)


def close_on_exec(first: int) -> None:
    """Has those from `first` on close when a program is executed. Raises `KernelError`."""
    call("close_range", first, HIGHEST, _CLOSE_RANGE_CLOEXEC, subject=f"from {first}")


def is_null(descriptor: int) -> bool:
    """Whether it is open, and the null device: by its numbers, as any file can be at /dev/null."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL
