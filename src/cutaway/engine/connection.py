"""The engine's end of one client's connection: frames and descriptors over a stream socket, without blocking the loop.

`cutaway.client.wire` says what the frames are. A client is not trusted: sizes are bounded, a frame is read only when
asked for (so a client that floods waits in its own socket buffer), and descriptors that nobody took are closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from cutaway.client import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

OUTPUT_CHUNK = 1 << 20


class Credentials(NamedTuple):
    """Who is at the other end, as the kernel says (`SO_PEERCRED`, `unix(7)`)."""

    pid: int
    uid: int
    gid: int


class Frame(NamedTuple):
    """One frame received. `descriptors` belong to whoever takes them with `Connection.take`."""

    kind: bytes
    body: bytes
    descriptors: tuple[int, ...]


class Command(NamedTuple):
    """A command line as a `C` frame holds it, with the caller's descriptors 0, 1 and 2."""

    cwd: str
    arguments: list[str]
    environment: dict[str, str]
    descriptors: tuple[int, int, int]


class Disconnected(Exception):
    """The client has gone away."""


class Connection:
    """Owns the socket and every descriptor that came over it; closing it closes them."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self._socket = peer
        self._descriptors: set[int] = set()
        self._sending = asyncio.Lock()
        self.credentials = Credentials(*struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket and the descriptors that came over it and were not released."""
        if self._socket.fileno() >= 0:  # its number is the next one's at once, whom nobody may stop listening
            asyncio.get_running_loop().remove_reader(self._socket)
            asyncio.get_running_loop().remove_writer(self._socket)
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def stop_receiving(self) -> None:
        """Has `receive` find the end of the stream; what is still to be said can be sent."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:  # the client has gone away
            pass

    def release(self, descriptor: int) -> int:
        """The descriptor, now the caller's to close."""
        self._descriptors.remove(descriptor)
        return descriptor

    async def receive(self) -> Frame | None:
        """The next frame, None at the end of the stream. Raises `wire.ProtocolError` for what is not a frame."""
        descriptors: list[int] = []
        header = await self._exactly(wire.HEADER_SIZE, descriptors)
        if not header:
            return None
        body = await self._exactly(wire.body_size(header), descriptors)
        return Frame(header[4:], body, tuple(descriptors))

    async def _exactly(self, size: int, descriptors: list[int]) -> bytes:
        """`size` bytes; nothing where the stream ends before the first of a header."""
        received = bytearray()
        while len(received) < size:
            part, came = await self._receive_some(size - len(received))
            descriptors += came
            if not part:
                if received or size != wire.HEADER_SIZE:
                    raise wire.ProtocolError("the client left in the middle of a frame")
                break
            received += part
        return bytes(received)

    async def _receive_some(self, size: int) -> tuple[bytes, list[int]]:
        room = socket.CMSG_SPACE(wire.MAX_DESCRIPTORS * 4)
        while True:
            try:
                part, ancillary, flags, _ = self._socket.recvmsg(min(size, 1 << 16), room, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)
                continue
            except ConnectionResetError:
                return b"", []
            came = wire.unpack_rights(ancillary)
            self._descriptors.update(came)
            if flags & socket.MSG_CTRUNC:
                raise wire.ProtocolError(f"more than {wire.MAX_DESCRIPTORS} descriptors in one frame")
            return part, came

    async def send(self, kind: bytes, body: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Sends one frame, waiting while the client does not read. Raises `Disconnected`."""
        message = memoryview(wire.frame(kind, body))
        rights = wire.rights(descriptors)
        async with self._sending:
            while message:
                message = message[await self._send_some(message, rights) :]
                rights = []

    async def _send_some(self, message: memoryview, rights: list[tuple[int, int, bytes]]) -> int:
        while True:
            try:
                return self._socket.sendmsg([message], rights, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)
            except OSError as problem:
                raise Disconnected(str(problem)) from None

    async def _ready(self, watch: Callable[..., object], forget: Callable[[int], object]) -> None:
        ready = asyncio.Event()
        descriptor = self._socket.fileno()
        watch(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            if self._socket.fileno() == descriptor:  # else it was closed meanwhile
                forget(descriptor)

    async def out(self, body: bytes) -> None:
        """Writes to the client's standard output."""
        await self._output(wire.STDOUT, body)

    async def err(self, body: bytes) -> None:
        """Writes to the client's standard error."""
        await self._output(wire.STDERR, body)

    async def _output(self, kind: bytes, body: bytes) -> None:
        for start in range(0, len(body), OUTPUT_CHUNK):
            await self.send(kind, body[start : start + OUTPUT_CHUNK])

    async def attach(self, attachment: wire.Attachment) -> None:
        """Has the client connect its descriptors with those of the attachment, which stay the caller's to close."""
        await self.send(wire.ATTACH, attachment.encode(), list(attachment.descriptors.values()))

    async def exit(self, code: int) -> None:
        """Ends the client with an exit code."""
        await self.send(wire.EXIT, b"%d" % code)


def decode_command(frame: Frame) -> Command:
    """What a `C` frame says. Raises `wire.ProtocolError` where it is not one of this version."""
    version, *words = frame.body.split(b"\0")
    if frame.kind != wire.COMMAND or version != wire.VERSION:
        raise wire.ProtocolError("this command and the running engine are of different versions: restart the engine")
    if len(words) < 2 or not words[1].isdigit() or len(frame.descriptors) != 3:
        raise wire.ProtocolError("not a command line")
    text = [word.decode("utf-8", "surrogateescape") for word in words]
    end = 2 + int(text[1])
    variables = (variable.partition("=") for variable in text[end:])
    stdin, stdout, stderr = frame.descriptors
    return Command(text[0], text[2:end], {name: value for name, _, value in variables}, (stdin, stdout, stderr))
