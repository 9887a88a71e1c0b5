"""Moving bytes between the caller's descriptors and a container's: one `poll(2)` loop, until the exit code comes."""

from __future__ import annotations

import posix
import select

from cutaway.client import wire
from cutaway.client.command import show, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

CHUNK = 1 << 16
"""Bytes moved at once: what a pipe holds (`pipe(7)`)."""


class DetachKeys:
    """Watches typed bytes for the key sequence that detaches; an empty sequence is never found."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence, self._held = sequence, b""

    def feed(self, part: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the sequence came after it. A beginning of the sequence is held back
        until the next byte tells."""
        seen = self._held + part
        if self._sequence and self._sequence in seen:
            return seen.partition(self._sequence)[0], True
        longest = max((n for n in range(len(self._sequence)) if seen.endswith(self._sequence[:n])), default=0)
        self._held = self._sequence[:longest]
        return seen[: len(seen) - longest], False


class Pump:
    """One attachment's loop, run once."""

    def __init__(self, connection: _socket.socket, attachment: wire.Attachment) -> None:
        given = attachment.descriptors
        self._connection = connection
        self._outputs = {given[letter]: target for letter, target in (("o", 1), ("e", 2)) if letter in given}
        self._sink = given.get("i")
        self._keys = DetachKeys(attachment.detach_keys)
        self._pending = b""
        self._exit_code: int | None = None
        self._poll = select.poll()

    def run(self) -> int:
        """Returns the exit code; 0 after detaching. Raises `wire.ProtocolError` where the engine goes away."""
        for descriptor in (self._connection.fileno(), *self._outputs):
            self._poll.register(descriptor, select.POLLIN)
        if self._sink is not None:
            posix.set_blocking(self._sink, False)
            self._poll.register(0, select.POLLIN)
        try:
            while self._exit_code is None:
                for descriptor, _ in self._poll.poll():
                    self._serve(descriptor)
            return self._exit_code
        finally:
            self._drain()

    def _serve(self, descriptor: int) -> None:
        if descriptor == self._connection.fileno():
            kind, body, _ = wire.receive(self._connection)
            if kind == wire.DRAIN:
                self._drain()
            else:
                self._exit_code = show(kind, body)
        elif descriptor in self._outputs:
            try:
                self._copy_output(descriptor)
            except BlockingIOError:  # it has just been drained
                pass
        elif descriptor == 0:
            self._read_input()
        elif descriptor == self._sink:
            self._write_input(self._sink)

    def _copy_output(self, descriptor: int) -> bool:
        """Copies what is there; at its end false, and the descriptor is no longer watched."""
        part = posix.read(descriptor, CHUNK)
        if part:
            write_all(self._outputs[descriptor], part)
        else:
            self._poll.unregister(descriptor)
            del self._outputs[descriptor]
        return bool(part)

    def _drain(self) -> None:
        """The last output: all of it is in the pipes before the engine says so, or sends the exit code."""
        for descriptor in list(self._outputs):
            posix.set_blocking(descriptor, False)
            try:
                while self._copy_output(descriptor):
                    pass
            except BlockingIOError:
                pass

    def _read_input(self) -> None:
        self._poll.unregister(0)
        try:
            part = posix.read(0, CHUNK)
        except BlockingIOError:  # someone has made it non-blocking and was quicker
            self._poll.register(0, select.POLLIN)
            return
        except OSError:  # the caller's terminal is gone
            part = b""
        self._pending, detached = self._keys.feed(part)
        if self._sink is not None and part:
            self._write_input(self._sink)
        if detached:
            self._detach()
        elif not part:
            self._close_sink()

    def _write_input(self, sink: int) -> None:
        """Passes on what is pending, then waits for room, or for more to pass on."""
        try:
            self._pending = self._pending[posix.write(sink, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it any more
            self._close_sink()
            return
        if self._pending:
            self._poll.register(sink, select.POLLOUT)
        else:
            self._forget(sink)
            self._poll.register(0, select.POLLIN)

    def _close_sink(self) -> None:
        if self._sink is not None:
            self._forget(self._sink)
            posix.close(self._sink)
            self._sink = None

    def _forget(self, descriptor: int) -> None:
        try:
            self._poll.unregister(descriptor)
        except KeyError:  # it was not being watched
            pass

    def _detach(self) -> None:
        wire.send(self._connection, wire.DETACHED)
        self._exit_code = 0
