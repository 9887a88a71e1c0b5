"""A container's terminal: who gets its other end. With `--console-socket` whoever listens there, as an engine's shim;
in the foreground this process, which passes on what is typed and shown."""

from __future__ import annotations

import _socket
import os

from cutaway.runtime.command.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Terminal:
    """`detached`: this process does not stay. `socket`: the path of a console socket, if there is one."""

    def __init__(self, socket: str, *, detached: bool) -> None:
        self._socket, self._detached = socket, detached
        self._ours: _socket.socket | None = None

    def check(self, process: dict[str, Any]) -> None:
        """Raises `Failure` where a terminal is asked for and nobody takes its other end, or the other way around."""
        wanted = bool(process.get("terminal"))
        if wanted and self._detached and not self._socket:
            raise Failure("cannot allocate tty if cutaway-oci will detach without setting console socket")
        if self._socket and not (wanted and self._detached):
            raise Failure("cannot use console socket if cutaway-oci will not detach or allocate tty")
        self._wanted = wanted

    def descriptors(self) -> dict[str, int]:
        """What `OpenTerminal` needs: where to send its other end."""
        if not self._wanted:
            return {}
        return {"console": self._connected() if self._socket else self._paired()}

    def receive(self) -> int:
        """The terminal's other end, in the foreground; -1 where there is no terminal."""
        if self._ours is None:
            return -1
        _, ancillary, _, _ = self._ours.recvmsg(1 << 12, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        return int.from_bytes(ancillary[0][2][:4], "little")

    def _connected(self) -> int:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            connection.connect(self._socket)
        except OSError as error:
            raise Failure(f"connecting to the console socket {self._socket}: {error.strerror}") from None
        return connection.detach()

    def _paired(self) -> int:
        self._ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        os.set_inheritable(theirs.fileno(), False)
        return theirs.detach()
