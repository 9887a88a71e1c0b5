"""Namespaces: each isolates one kind of global resource for the processes inside. `namespaces(7)`.

A process gets new ones when it is cloned or by unsharing, and joins existing ones through a descriptor of
`/proc/PID/ns/*` or of another process (`pidfd`).
"""

from __future__ import annotations

import ctypes
import os
import struct

from cutaway.kernel.syscalls import NUMBERS, KernelError, call

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

CLONE_FS = 0x00000200
"""Not a namespace, but unshared with one: the root and working directories and the umask. `clone(2)`"""
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x200000000

FLAGS = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "mnt": CLONE_NEWNS,
    "time": CLONE_NEWTIME,
}
"""The name under `/proc/PID/ns` and the flag that makes a new one, in an order that is safe to join in."""

_SIGCHLD = 17
_holding_the_lock = ctypes.PyDLL(None, use_errno=True)
_python = ctypes.pythonapi


def unshare(flags: int) -> None:
    """Moves the calling thread into new namespaces. `unshare(2)`"""
    call("unshare", flags, subject=_names(flags))


def setns(descriptor: int, flags: int = 0) -> None:
    """Joins the namespace that `descriptor` is of, or those in `flags` of the process it is a pidfd of. `setns(2)`"""
    call("setns", descriptor, flags, subject=_names(flags))


def clone(flags: int = 0, cgroup: int = -1) -> tuple[int, int]:
    """Forks into new namespaces: `(pid, pidfd)` in the parent, `(0, -1)` in the child. `clone3(2)`

    `cgroup`: a descriptor of the cgroup v2 directory the child is born in. The process must have one thread: a child
    has only the thread that cloned it, and would wait for ever for what another one held.
    """
    pidfd = ctypes.c_int(-1)
    into = CLONE_INTO_CGROUP if cgroup >= 0 else 0
    arguments = struct.pack(
        "11Q",
        flags | CLONE_PIDFD | into,
        ctypes.addressof(pidfd),
        0, 0,  # child_tid, parent_tid
        _SIGCHLD,
        0, 0, 0,  # stack, stack_size, tls
        0, 0,  # set_tid, set_tid_size
        max(cgroup, 0),
    )  # fmt: skip
    _python.PyOS_BeforeFork()
    pid = _holding_the_lock.syscall(NUMBERS["clone3"], arguments, len(arguments))
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        return 0, -1
    number = ctypes.get_errno()
    _python.PyOS_AfterFork_Parent()
    if pid == -1:
        raise KernelError(number, "clone3", _names(flags))
    return pid, pidfd.value


def identity(kind: str, pid: int | str = "self") -> int:
    """The inode number that names the namespace of `kind` (a key of `FLAGS`) which process `pid` is in."""
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def _names(flags: int) -> str:
    return "|".join(name for name, flag in FLAGS.items() if flags & flag)
