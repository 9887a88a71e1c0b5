"""A container's own name server, 127.0.0.11: it knows the neighbours' names, and asks the host's resolvers for others.

The sockets are opened in the container's network namespace and served by the engine's event loop. What arrives at them
comes from the container and is trusted in nothing: queries are bounded in size and number, and those that are passed on
go out under a new random ID from a new port, so that nobody inside can guess what an answer must look like.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import TYPE_CHECKING, cast

from cutaway.kernel.netlink.namespace import network_namespace
from cutaway.network.names import Zone, answer, failure
from cutaway.plan.firewall import NAME_SERVER, NAME_SERVER_PORT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Ask = Callable[[bytes, str], Awaitable[bytes]]

AT_ONCE = 64
"""How many questions of one container are passed on at a time; more are dropped, as on any network."""
CONNECTIONS = 16
PATIENCE = 2.0
"""Seconds until the next resolver is asked."""
IDLE = 10.0
"""Seconds until a connection without a question is closed."""
ROUNDS = 2
DNS_PORT = 53

_ID = slice(0, 2)
_HEADER = 12
_TYPE_AND_CLASS = 4
_IS_ANSWER = 0x80
_LARGEST = 65535


class Resolver(asyncio.DatagramProtocol):
    """Answers one container.

    `zones`: its networks', which the engine adds and takes away as it is connected and disconnected. `upstreams`: the
    addresses of the resolvers to ask, none for a container that may not reach the outside.
    """

    def __init__(self, zones: list[Zone], upstreams: Sequence[str]) -> None:
        self.zones, self.upstreams = zones, tuple(upstreams)
        self._passed_on: set[asyncio.Task[None]] = set()
        self._connected: set[asyncio.StreamWriter] = set()

    async def start(self, netns: int) -> None:
        """Answers from now on in the network namespace of that descriptor, whose loopback must be up; `RedirectNames`
        sends the container's questions there. Raises `OSError`."""
        with network_namespace(netns):
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            streams = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            for opened in (datagrams, streams):
                opened.bind((NAME_SERVER, NAME_SERVER_PORT))
        except OSError:
            datagrams.close()
            streams.close()
            raise
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, sock=datagrams)
        self._server = await asyncio.start_server(self._converse, sock=streams)

    def stop(self) -> None:
        """Closes the sockets; questions under way get no answer."""
        self._datagrams.close()
        self._server.close()
        for writer in self._connected:
            writer.close()
        for task in self._passed_on:
            task.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._datagrams = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, query: bytes, origin: tuple[str, int]) -> None:
        try:
            reply = answer(query, self.zones)
        except ValueError:
            return
        if reply is not None:
            self._datagrams.sendto(reply, origin)
        elif len(self._passed_on) < AT_ONCE:
            task = asyncio.create_task(self._pass_on(query, origin))
            self._passed_on.add(task)
            task.add_done_callback(self._passed_on.discard)

    async def _pass_on(self, query: bytes, origin: tuple[str, int]) -> None:
        self._datagrams.sendto(await self._ask_upstreams(query, _ask_by_datagram), origin)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected.add(writer)
        try:
            while len(self._connected) <= CONNECTIONS:
                async with asyncio.timeout(IDLE):
                    query = await _read(reader)
                reply = answer(query, self.zones) or await self._ask_upstreams(query, _ask_by_stream)
                async with asyncio.timeout(IDLE):
                    await _write(writer, reply)
        except (OSError, EOFError, ValueError):  # also of timeouts; it has gone, or talks nonsense
            pass
        finally:
            self._connected.discard(writer)
            writer.close()

    async def _ask_upstreams(self, query: bytes, ask: Ask) -> bytes:
        for upstream in self.upstreams * ROUNDS:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await ask(query, upstream)
            except (OSError, EOFError):
                continue
        return failure(query)


async def _ask_by_datagram(query: bytes, upstream: str) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(_family(upstream), socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        await loop.sock_connect(asking, (upstream, DNS_PORT))
        question = _disguised(query)
        await loop.sock_sendall(asking, question)
        while not _answers(reply := await loop.sock_recv(asking, _LARGEST), question):
            pass
        return query[_ID] + reply[_ID.stop :]


async def _ask_by_stream(query: bytes, upstream: str) -> bytes:
    reader, writer = await asyncio.open_connection(upstream, DNS_PORT)
    try:
        question = _disguised(query)
        await _write(writer, question)
        while not _answers(reply := await _read(reader), question):
            pass
        return query[_ID] + reply[_ID.stop :]
    finally:
        writer.close()


def _disguised(query: bytes) -> bytes:
    return secrets.token_bytes(_ID.stop) + query[_ID.stop :]


def _answers(reply: bytes, question: bytes) -> bool:
    """Whether it is an answer, to this question."""
    if len(reply) < _HEADER or reply[_ID] != question[_ID] or not reply[_ID.stop] & _IS_ANSWER:
        return False
    asked = question[_HEADER : question.index(0, _HEADER) + 1 + _TYPE_AND_CLASS]
    return reply[_HEADER : _HEADER + len(asked)].lower() == asked.lower()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def _read(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


async def _write(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(len(message).to_bytes(2, "big") + message)
    await writer.drain()
