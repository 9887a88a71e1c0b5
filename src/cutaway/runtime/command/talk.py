"""Between the process of a container that is to execute its program and whoever lets it: short messages over a socket.

Where it fails it says so in one message and ends. The socket closes, by `execve`, when it has not failed.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import marshal
import os

from cutaway.runtime.command.failure import Failure

GO, MOUNTED, READY = b"go", b"mounted", b"ready"
_FAILED, _NOT_EXECUTED = b"!", b"?"
_MOST_BYTES = 1 << 16


class NotExecuted(Failure):
    """All was done but the program cannot be executed."""


class Process:
    """A process: its `pid`, a `pidfd`, and the socket over which it is spoken to."""

    def __init__(self, pid: int, pidfd: int, report: _socket.socket) -> None:
        self.pid, self.pidfd, self._report = pid, pidfd, report

    def go(self) -> None:
        """Lets it go on."""
        tell(self._report, GO)

    def expect(self, message: bytes) -> None:
        """Waits until it says `message`. Raises `Failure` with what it says instead."""
        if hear(self._report) != message:
            raise Failure(f"the process ended before it was {message.decode()}")

    def expect_execution(self) -> None:
        """Waits until it executes its program. Raises `NotExecuted` where that fails, `Failure` what comes before."""
        hear(self._report)

    def end(self) -> None:
        """Ends it, if it has not ended yet, and reaps it."""
        try:
            _signal.pidfd_send_signal(self.pidfd, _signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def tell(report: _socket.socket, message: bytes) -> None:
    """Says `message`. Where nobody is left to hear it, `hear` finds out."""
    try:
        os.write(report.fileno(), message)  # not `send`, which a filter may forbid
    except OSError:
        pass


def hear(report: _socket.socket) -> bytes:
    """The next message, empty where the other end has closed. Raises the `Failure` that it is of."""
    try:
        message: bytes = report.recv(_MOST_BYTES)
    except ConnectionResetError:
        return b""
    if message[:1] in (_FAILED, _NOT_EXECUTED):
        raise (Failure if message[:1] == _FAILED else NotExecuted)(marshal.loads(message[1:]))
    return message


def tell_failure(report: _socket.socket, sentence: str, *, executing: bool = False) -> None:
    """Says how it failed, `executing` the program or before; `hear` raises it on the other side."""
    tell(report, (_NOT_EXECUTED if executing else _FAILED) + marshal.dumps(sentence[: _MOST_BYTES // 8]))
