"""Output of containers on its way: from a pipe or terminal to the log and to whoever is attached.

Nobody is ever waited for here: where an attached reader does not keep up, its source is left unread until it does, so
it is the container that waits, as it would on a pipe of its own.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable

    from cutaway.spawner.logs import Log

_CHUNK = 1 << 16
_MOST_LEFT = 1 << 21
"""Bytes: twice the largest pipe that a container may make of its output's. More comes only from who is not of it."""


class Source:
    """One stream of one container: `stream` is 1 (stdout, or a terminal) or 2 (stderr). Owns its descriptors.

    `poll` and `handlers`: the loop's; a source registers itself there, and its readers while they are behind.
    """

    def __init__(
        self,
        descriptor: int,
        stream: int,
        log: Log | None,
        poll: select.epoll,
        handlers: dict[int, Callable[[], object]],
    ) -> None:
        self.descriptor, self.stream, self._log = descriptor, stream, log
        self._poll, self._handlers = poll, handlers
        self._readers: dict[int, bytes] = {}  # descriptor → what it has not taken yet
        os.set_blocking(descriptor, False)
        self._watch(descriptor, _READABLE, self.copy)

    @property
    def open(self) -> bool:
        """Whether more may come."""
        return self.descriptor >= 0

    def add_reader(self, descriptor: int) -> None:
        """Copies what comes from now on to `descriptor` also, which is owned from here on."""
        if not self.open:
            os.close(descriptor)
            return
        os.set_blocking(descriptor, False)
        self._readers[descriptor] = b""

    def copy(self) -> bool:
        """Passes on one chunk; False where none is there now, or will be."""
        try:
            chunk = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last process on the terminal is gone
            chunk = b""
        if not chunk:
            self._end()
            return False
        if self._log:
            self._keep(chunk)
        for reader in list(self._readers):
            self._write(reader, chunk)
        self._pace()
        return True

    def finish(self) -> None:
        """Passes on what is left of a process that has ended: when this returns, it is in the log and in the pipes of
        readers, which are made larger for those that are behind."""
        for _ in range(_MOST_LEFT // _CHUNK):
            if not self.open or not self.copy():
                break
        if self.open:
            self._end()
        for reader, rest in list(self._readers.items()):
            self._enlarge(reader, len(rest))

    def _keep(self, chunk: bytes) -> None:
        try:
            assert self._log
            self._log.write(self.stream, chunk)
        except OSError as error:  # a full disk must not stop the container
            print(f"log: {error}", flush=True)

    def _enlarge(self, reader: int, more: int) -> None:
        try:
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ) + more)
        except OSError:  # as large as pipes may be: the reader gets it piece by piece
            return
        self._continue(reader)

    def _write(self, reader: int, chunk: bytes) -> None:
        chunk = self._readers[reader] + chunk
        try:
            taken = os.write(reader, chunk)
        except BlockingIOError:
            taken = 0
        except OSError:  # EPIPE: it went away
            self._drop(reader)
            return
        self._readers[reader] = chunk[taken:]
        if taken < len(chunk):
            self._watch(reader, _WRITABLE, lambda: self._continue(reader))
        else:
            self._unwatch(reader)

    def _continue(self, reader: int) -> None:
        self._write(reader, b"")
        if not self.open:
            self._drop_idle()
        self._pace()

    def _pace(self) -> None:
        """Reads while no reader is behind. Then it is not watched at all: a hang-up would be told even of no events."""
        if self.open and not any(self._readers.values()):
            self._watch(self.descriptor, _READABLE, self.copy)
        else:
            self._unwatch(self.descriptor)

    def _drop(self, reader: int) -> None:
        del self._readers[reader]
        self._unwatch(reader)
        os.close(reader)

    def _end(self) -> None:
        self._unwatch(self.descriptor)
        os.close(self.descriptor)
        self.descriptor = -1
        self._drop_idle()

    def _drop_idle(self) -> None:
        for reader, rest in list(self._readers.items()):
            if not rest:
                self._drop(reader)

    def _watch(self, descriptor: int, events: int, handler: Callable[[], object]) -> None:
        if descriptor not in self._handlers:
            self._handlers[descriptor] = handler
            self._poll.register(descriptor, events)

    def _unwatch(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None):
            self._poll.unregister(descriptor)


_READABLE = 0x001  # EPOLLIN
_WRITABLE = 0x004  # EPOLLOUT
