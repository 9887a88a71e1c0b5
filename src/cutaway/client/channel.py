"""Connections to the engine as programs use them: one request at a time on each, then its answer.

Nothing here blocks, and nothing knows an event loop: where a descriptor is not ready, `ready` is awaited. The two
flavours of the client bring one each: `blocking.ready` waits in `poll(2)` and never suspends, `aio.ready` has the event
loop wait. Hanging up in the middle of a request takes it back: the engine ends what it began.
"""

from __future__ import annotations

import _socket
import json
import os

from cutaway.client import dial, errors, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from typing import Any

    Ready = Callable[[Collection[int], Collection[int]], Awaitable[Collection[int]]]
    """Waits until one of the first descriptors can be read or one of the second written; returns those that can."""

_CHUNK = 1 << 16


class Channel:
    """One connection. Busy from the moment a request is sent until its answer is there."""

    def __init__(self, socket: _socket.socket, ready: Ready) -> None:
        socket.setblocking(False)
        self._socket, self._ready = socket, ready
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._busy = False

    def fileno(self) -> int:
        return self._socket.fileno()

    async def ask(self, method: str, parameters: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Sends a request. The descriptors stay the caller's to close. Raises `EngineLost`."""
        body = json.dumps({"method": method, **parameters}, default=os.fsdecode).encode()
        self._busy = True
        message, rights = memoryview(wire.frame(wire.REQUEST, body)), wire.rights(descriptors)
        while message:
            try:
                message = message[self._socket.sendmsg([message], rights, _socket.MSG_NOSIGNAL) :]
                rights = []
            except BlockingIOError:
                await self._ready((), (self.fileno(),))
            except OSError as problem:
                raise errors.EngineLost(f"lost the engine: {problem.strerror}") from None

    async def answer(self) -> Any:
        """What is answered to the request. Raises the `EngineError` that the engine answers instead, `EngineLost`."""
        kind, body, _ = await self.receive()
        return self.decode_answer(kind, body)

    def decode_answer(self, kind: bytes, body: bytes) -> Any:
        """The end of a request, from the frame that is its end."""
        if kind not in (wire.REPLY, wire.FAILURE):
            raise errors.EngineLost(f"the engine sent a frame of the unknown kind {kind!r}")
        self._busy = False
        answer = json.loads(body)
        if kind == wire.FAILURE:
            raise errors.from_engine(answer)
        return answer

    async def receive(self) -> tuple[bytes, bytes, list[int]]:
        """The next frame: its kind, its body, and its descriptors, now the caller's. Raises `EngineLost`."""
        await self._until_received(wire.HEADER_SIZE)
        end = wire.HEADER_SIZE + wire.body_size(bytes(self._received[: wire.HEADER_SIZE]))
        await self._until_received(end)
        kind, body = bytes(self._received[4 : wire.HEADER_SIZE]), bytes(self._received[wire.HEADER_SIZE : end])
        del self._received[:end]
        descriptors, self._descriptors = self._descriptors, []
        return kind, body, descriptors

    def has_frame(self) -> bool:
        """Whether a whole frame is there already, which no descriptor tells of any more."""
        size = len(self._received) - wire.HEADER_SIZE
        return size >= 0 and size >= wire.body_size(bytes(self._received[: wire.HEADER_SIZE]))

    async def _until_received(self, size: int) -> None:
        room = _socket.CMSG_SPACE(wire.MAX_DESCRIPTORS * 4)
        while len(self._received) < size:
            try:
                part, ancillary, _, _ = self._socket.recvmsg(_CHUNK, room, _socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await self._ready((self.fileno(),), ())
                continue
            except OSError as problem:
                raise errors.EngineLost(f"lost the engine: {problem.strerror}") from None
            if not part:
                raise errors.EngineLost("the engine went away before it answered")
            self._received += part
            self._descriptors += wire.unpack_rights(ancillary)

    def is_idle(self) -> bool:
        """Whether it can take a request: none is under way, and the engine has not gone away."""
        if self._busy:
            return False
        try:
            self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    async def hang_up(self) -> None:
        """Closes it, after the engine has ended what a request under way has begun."""
        try:
            self._socket.shutdown(_socket.SHUT_WR)
            while True:
                await self.receive()
        except (errors.EngineLost, OSError):  # it has hung up too
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Closes it at once; what a request under way has begun ends soon after."""
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


class Channels:
    """The connections of one engine object: those that are idle wait for the next request, if they are to be kept."""

    def __init__(self, ready: Ready, *, keep: bool) -> None:
        self.ready = ready
        self._keep = keep
        self._idle: list[Channel] = []

    async def take(self) -> Channel:
        """A connection to send one request on, and then to `give_back`. Raises `Unreachable`."""
        while channel := self._kept():
            if channel.is_idle():
                return channel
            channel.close()
        return Channel(await self._dialled(), self.ready)

    def _kept(self) -> Channel | None:
        try:
            return self._idle.pop()
        except IndexError:  # another thread may have been quicker
            return None

    async def give_back(self, channel: Channel) -> None:
        """Keeps it for the next request, or hangs up where its own has not come to its end."""
        if not channel.is_idle():
            await channel.hang_up()
        elif self._keep:
            self._idle.append(channel)
        else:
            channel.close()

    async def request(self, method: str, parameters: dict[str, Any], descriptors: Sequence[int] = ()) -> Any:
        """Sends a request and returns its answer. Raises `CutawayError`."""
        channel = await self.take()
        try:
            await channel.ask(method, parameters, descriptors)
            return await channel.answer()
        finally:
            await self.give_back(channel)

    def close(self) -> None:
        """Closes what is idle, and from now on keeps nothing."""
        self._keep = False
        while channel := self._kept():
            channel.close()

    async def _dialled(self) -> _socket.socket:
        """As `dial.connect`, waiting for an engine that has to be started in the way of this flavour."""
        try:
            directory = dial.runtime_dir(os.environb)
            connection = dial.try_connect(directory)
            if connection is None:
                answer = dial.start_engine(directory, os.environb)
                try:
                    connection = dial.connect_to_started(directory, await self._all_of(answer))
                finally:
                    os.close(answer)
            return connection
        except dial.Unreachable as problem:
            raise errors.Unreachable(str(problem)) from None

    async def _all_of(self, pipe: int) -> bytes:
        parts = []
        while await self.ready((pipe,), ()):
            part = os.read(pipe, _CHUNK)
            if not part:
                break
            parts.append(part)
        return b"".join(parts)
