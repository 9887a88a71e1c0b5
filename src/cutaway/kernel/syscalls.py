"""System calls without a C extension: one thin function, `call`, over libc's `syscall(2)`.

The C library has no wrappers for half of what containers need (`clone3`, `openat2`, `move_mount`, …) and
gains them years after the kernel does, so everything goes by number. `syscalls(2)`, `syscall(2)`.
"""

from __future__ import annotations

import os

from cutaway.kernel.errors import KernelError
from cutaway.kernel.native import Library, c_long, get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Numbers from 424 on are the same on every architecture; the older ones are not (`syscalls(2)`).
_SHARED = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
_OF_MACHINE = {
    "x86_64": {
        "mount": 165, "umount2": 166, "pivot_root": 155, "unshare": 272, "setns": 308,
        "capget": 125, "capset": 126, "prctl": 157, "seccomp": 317, "keyctl": 250, "bpf": 321,
        "execveat": 322, "mknodat": 259, "personality": 135, "sethostname": 170, "setdomainname": 171,
        "ioprio_set": 251, "sched_setattr": 314, "set_mempolicy": 238, "memfd_create": 319, "getcwd": 79,
        "rt_sigaction": 13,
    },
    "aarch64": {
        "mount": 40, "umount2": 39, "pivot_root": 41, "unshare": 97, "setns": 268,
        "capget": 90, "capset": 91, "prctl": 167, "seccomp": 277, "keyctl": 219, "bpf": 280,
        "execveat": 281, "mknodat": 33, "personality": 92, "sethostname": 161, "setdomainname": 162,
        "ioprio_set": 30, "sched_setattr": 274, "set_mempolicy": 237, "memfd_create": 279, "getcwd": 17,
        "rt_sigaction": 134,
    },
}  # fmt: skip

NUMBERS = _SHARED | _OF_MACHINE.get(os.uname().machine, {})

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100

libc = Library()
"""Releases the interpreter lock during a call, so a slow umount holds up no other thread."""
libc.syscall.restype = c_long


def call(name: str, *arguments: object, subject: str | Callable[[], str] = "") -> int:
    """Makes one system call and returns its result; raises `KernelError` where it returns -1.

    An `int` is passed as a machine word, `str` and `bytes` as a pointer to a C string, `None` as a null pointer, what
    `native` has (numbers, arrays, memory) as it is. `subject` says in an error what the call was made on; a function is
    asked only then.
    """
    words = [_word(argument) for argument in arguments]
    result = int(libc.syscall(c_long(NUMBERS[name]), *words))
    if result == -1:
        raise KernelError(get_errno(), name, subject if isinstance(subject, str) else subject())
    return result


def _word(argument: object) -> object:
    if isinstance(argument, int):
        return c_long(argument)
    if isinstance(argument, str):
        return os.fsencode(argument)
    return argument
