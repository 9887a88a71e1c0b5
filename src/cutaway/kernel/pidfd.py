"""A descriptor that names one process for good, where a PID may be given to another: `pidfd_open(2)`."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from cutaway.kernel.syscalls import call

_INFO = struct.Struct("QQ11Ii")  # struct pidfd_info, first version
_PROCESS_GROUP = 1 << 2  # PIDFD_SIGNAL_PROCESS_GROUP
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11


def pidfd_open(pid: int) -> int:
    """A descriptor of process `pid`; raises `ProcessLookupError`."""
    return os.pidfd_open(pid)


def send_signal(pidfd: int, signal: int, *, group: bool = False) -> None:
    """Signals the process, or all of its process group; raises `ProcessLookupError` where it has ended.

    Of a group before Linux 6.9 the process alone. `pidfd_send_signal(2)`
    """
    try:
        call("pidfd_send_signal", pidfd, signal, None, _PROCESS_GROUP if group else 0, subject=str(signal))
    except OSError as error:
        if not group or error.errno != errno.EINVAL:
            raise
        call("pidfd_send_signal", pidfd, signal, None, 0, subject=str(signal))


def duplicate(pidfd: int, descriptor: int) -> int:
    """A duplicate of the other process's `descriptor`. `pidfd_getfd(2)`"""
    return call("pidfd_getfd", pidfd, descriptor, 0, subject=str(descriptor))


def exit_status(pidfd: int) -> int | None:
    """The wait status (`os.waitstatus_to_exitcode`) of a process that has ended and was reaped, by whomever.

    None where it still runs, or where the kernel (before 6.15) does not tell. `PIDFD_GET_INFO` in `ioctl_pidfd(2)`.
    """
    buffer = bytearray(_INFO.size)
    _INFO.pack_into(buffer, 0, _PIDFD_INFO_EXIT, 0, *([0] * 11), 0)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(buffer)
    return int(status) if mask & _PIDFD_INFO_EXIT else None


def keeps_exit_status() -> bool:
    """Whether this kernel is one whose pidfds tell `exit_status`: tried on a child, so for processes of one thread."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    try:
        return exit_status(pidfd) is not None
    finally:
        os.close(pidfd)
