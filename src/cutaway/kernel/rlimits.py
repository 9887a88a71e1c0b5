"""How much of a resource one process may use: a soft limit that binds, a hard one that bounds it. `prlimit(2)`"""

from __future__ import annotations

import errno
import os

from cutaway.kernel.errors import KernelError
from cutaway.kernel.native import c_uint64, get_errno
from cutaway.kernel.syscalls import libc

NAMES = (
    "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
    "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
)  # fmt: skip
"""By number, as `asm-generic/resource.h` has them (x86 and ARM alike)."""
NUMBERS = {name: number for number, name in enumerate(NAMES)}

_Limits = c_uint64 * 2
RLIM_INFINITY = (1 << 64) - 1


class HardLimitError(PermissionError):
    """A hard limit was to be raised by someone who may only lower it."""

    def __init__(self, name: str, wanted: int, allowed: int) -> None:
        super().__init__(errno.EPERM, os.strerror(errno.EPERM), name)
        self.wanted, self.allowed = wanted, allowed

    def __str__(self) -> str:
        return (
            f"prlimit({self.filename}, hard={_shown(self.wanted)}): EPERM: {self.strerror}: raising a hard limit needs "
            f"CAP_SYS_RESOURCE, which is not to be had here; ask for {_shown(self.allowed)} at most"
        )


def _shown(limit: int) -> str:
    return "unlimited" if limit == RLIM_INFINITY else str(limit)


def get(name: str, pid: int = 0) -> tuple[int, int]:
    """Soft and hard limit of a process, 0 for the calling one; `RLIM_INFINITY` where there is none."""
    limits = _Limits()
    _prlimit(pid, name, None, limits)
    return limits[0], limits[1]


def set(name: str, soft: int, hard: int, pid: int = 0) -> None:
    """Sets both limits of a process; -1 is `RLIM_INFINITY`.

    Raises `HardLimitError` where only CAP_SYS_RESOURCE could, `KernelError` (EINVAL) for a soft limit above the hard
    one, `ValueError` for a name that is none.
    """
    soft, hard = soft & RLIM_INFINITY, hard & RLIM_INFINITY
    try:
        _prlimit(pid, name, _Limits(soft, hard), None)
    except PermissionError:
        _, allowed = get(name, pid)
        if hard <= allowed:
            raise
        raise HardLimitError(name, hard, allowed) from None


def raise_soft(name: str) -> None:
    """Raises the soft limit of the calling process to its hard one."""
    _, hard = get(name)
    set(name, hard, hard)


def _prlimit(pid: int, name: str, new: object, old: object) -> None:
    if name not in NUMBERS:
        raise ValueError(f"{name} is not a resource limit; getrlimit(2) lists them")
    if libc.prlimit(pid, NUMBERS[name], new, old) == -1:
        raise KernelError(get_errno(), "prlimit", name)
