"""A process's switches: whether it may gain privileges, be traced, outlive its parent. `prctl(2)`

Every switch belongs to the calling thread (dumpable: to its memory), is inherited by children unless said otherwise
here, and cannot be thrown for another process.
"""

from __future__ import annotations

from cutaway.kernel.errors import KernelError
from cutaway.kernel.native import c_int, c_void_p, get_errno
from cutaway.kernel.syscalls import libc

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_GET_SECUREBITS = 27
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47

SECBIT_NOROOT = 1 << 0
SECBIT_NO_SETUID_FIXUP = 1 << 2
SECBIT_KEEP_CAPS = 1 << 4
SECBIT_NO_CAP_AMBIENT_RAISE = 1 << 6


_prctl = libc.prctl
_prctl.argtypes = (c_int, *[c_void_p] * 4)


def prctl(option: int, *arguments: int | bytes, subject: str = "") -> int:
    """`prctl(2)` with the arguments not given as zero, which the newer options insist on."""
    result = int(_prctl(option, *arguments, *(0,) * (4 - len(arguments))))
    if result == -1:
        raise KernelError(get_errno(), "prctl", subject)
    return result


def set_no_new_privs() -> None:
    """From here on no `execve` grants anything (setuid bits, file capabilities); cannot be taken back."""
    prctl(PR_SET_NO_NEW_PRIVS, 1, subject="PR_SET_NO_NEW_PRIVS")


def no_new_privs() -> bool:
    return prctl(PR_GET_NO_NEW_PRIVS) == 1


def set_dumpable(dumpable: bool) -> None:
    """Whether others may trace this process, dump it, and look into its `/proc` entry; `execve` sets it again."""
    prctl(PR_SET_DUMPABLE, int(dumpable), subject="PR_SET_DUMPABLE")


def dumpable() -> bool:
    return prctl(PR_GET_DUMPABLE) == 1


def set_parent_death_signal(signal: int) -> None:
    """The signal this process gets when the thread that made it ends; 0 for none. Children do not inherit it."""
    prctl(PR_SET_PDEATHSIG, signal, subject="PR_SET_PDEATHSIG")


def set_child_subreaper(reaps: bool) -> None:
    """Whether orphans among the descendants become this process's children instead of PID 1's."""
    prctl(PR_SET_CHILD_SUBREAPER, int(reaps), subject="PR_SET_CHILD_SUBREAPER")


def set_name(name: str) -> None:
    """The thread's name as `ps -o comm` shows it, cut after 15 bytes."""
    prctl(PR_SET_NAME, name.encode(), subject="PR_SET_NAME")


def set_keepcaps(keep: bool) -> None:
    """Whether the permitted capabilities survive the step from user 0 to another; `execve` forgets it."""
    prctl(PR_SET_KEEPCAPS, int(keep), subject="PR_SET_KEEPCAPS")


def set_securebits(bits: int) -> None:
    """The `SECBIT_*` switches that take user 0's special treatment away; needs CAP_SETPCAP."""
    prctl(PR_SET_SECUREBITS, bits, subject="PR_SET_SECUREBITS")


def securebits() -> int:
    return prctl(PR_GET_SECUREBITS)
