"""Process events: the kernel tells who subscribes of every process that ends, and how it ended.

So one learns the exit status of a process that is not one's child, before somebody else reaps it, on kernels whose
pidfds do not keep it (before 6.15). Only root in the initial user, PID and network namespaces may subscribe.
`netlink(7)`, kernel's `Documentation/driver-api/connector.rst`, `<linux/cn_proc.h>`.
"""

from __future__ import annotations

import errno
import os
import struct
from _socket import AF_NETLINK, SO_RCVBUF, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOL_SOCKET, socket

from cutaway.kernel.native import addressof, memory_of

NETLINK_CONNECTOR = 11
NLMSG_DONE = 3
CN_IDX_PROC = CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN, PROC_CN_MCAST_IGNORE = 1, 2
PROC_EVENT_NONE, PROC_EVENT_EXIT = 0, 0x80000000
SO_ATTACH_FILTER = 26

_HEADER = struct.Struct("=IHHII IIIIHH")
"""`struct nlmsghdr`, then `struct cn_msg`."""
_EVENT = struct.Struct("=IIQ")
"""`struct proc_event` up to its union: what, on which CPU, when."""
_EXIT = struct.Struct("=iiII")
"""Of its union, what an exit has: thread, process, exit status, signal to the parent."""
_MESSAGE = 4096
_BUFFER = 1 << 20
"""Bytes of events that may wait: some 5,000 exits."""


class ProcessEvents:
    """A subscription to the ends of all processes; `fileno` is readable when there are some, and never blocks.

    `lost` counts how often so many ended at once that some could not be kept. Raises `PermissionError` where the kernel
    does not let the caller subscribe, another `OSError` where there are no process events at all.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._socket = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR)
        try:
            self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, _BUFFER)
            self._socket.bind((0, CN_IDX_PROC))
            self._tell(PROC_CN_MCAST_LISTEN)
            self._await_consent()
            _attach_filter(self._socket)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def exits(self) -> list[tuple[int, int]]:
        """The PID and the wait status (`os.waitstatus_to_exitcode`) of each process that has ended since the last call.

        A status is told when the process's first thread ends: if others are left, the process itself ends later.
        """
        return [ended for message in iter(self._receive, b"") for ended in _exit(message)]

    def close(self) -> None:
        """Ends the subscription."""
        self._tell(PROC_CN_MCAST_IGNORE)  # kernels before 6.6 would go on making events for nobody
        self._socket.close()

    def _tell(self, request: int) -> None:
        length = _HEADER.size + 4
        header = _HEADER.pack(length, NLMSG_DONE, 0, 0, os.getpid(), CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0)
        self._socket.send(header + struct.pack("=I", request))

    def _await_consent(self) -> None:
        """The answer is there when the request has been sent; none at all means no."""
        while message := self._receive():
            what, _, _ = _EVENT.unpack_from(message, _HEADER.size)
            if what == PROC_EVENT_NONE:
                number = struct.unpack_from("=I", message, _HEADER.size + _EVENT.size)[0]
                if number:
                    raise OSError(number, f"subscribe to process events: {os.strerror(number)}")
                return
        raise PermissionError(errno.EPERM, "subscribe to process events: only root in the initial namespaces may")

    def _receive(self) -> bytes:
        """The next message; empty where there is none."""
        while True:
            try:
                return self._socket.recv(_MESSAGE)
            except BlockingIOError:
                return b""
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1


def _exit(message: bytes) -> list[tuple[int, int]]:
    """The process that a message says has ended, if it says so."""
    what, _, _ = _EVENT.unpack_from(message, _HEADER.size)
    if what != PROC_EVENT_EXIT:
        return []
    thread, process, status, _ = _EXIT.unpack_from(message, _HEADER.size + _EVENT.size)
    return [(process, status)] if thread == process else []


def _attach_filter(receiver: socket) -> None:
    """Has the kernel keep nothing for us but exits: most events are forks, executions and other threads' ends."""
    what = _HEADER.size
    keep_exits = b"".join([
        _filter_step(0x20, value=what),  # load the word at `what`, as if it were in network order
        _filter_step(0x15, value=int.from_bytes(struct.pack("=I", PROC_EVENT_EXIT), "big"), otherwise=1),
        _filter_step(0x06, value=_MESSAGE),  # keep up to so many bytes
        _filter_step(0x06, value=0),  # drop
    ])  # fmt: skip
    instructions = memory_of(keep_exits)
    program = struct.pack("@HP", len(keep_exits) // 8, addressof(instructions))
    receiver.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, program)


def _filter_step(code: int, value: int, otherwise: int = 0) -> bytes:
    """One instruction of a socket filter, `struct sock_filter`; a failed test skips `otherwise` instructions."""
    return struct.pack("=HBBI", code, 0, otherwise, value)
