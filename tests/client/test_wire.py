"""The engine's end of the wire does not trust the other one."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from cutaway.client import wire
from cutaway.engine.connection import Connection, Frame, decode_command


def received(send: Callable[[socket.socket], None]) -> Frame | None:
    """What the engine makes of what a client sends before it hangs up."""

    async def receive() -> Frame | None:
        theirs, ours = socket.socketpair()
        async with Connection(ours) as connection:
            with theirs:
                sending = asyncio.to_thread(send, theirs)
                receiving = asyncio.ensure_future(connection.receive())
                await sending
            return await receiving

    return asyncio.run(receive())


def test_a_frame_in_pieces_is_put_together() -> None:
    def send(client: socket.socket) -> None:
        for byte in wire.frame(wire.REQUEST, b"x" * 1000):
            client.sendall(bytes([byte]))

    assert received(send) == (wire.REQUEST, b"x" * 1000, ())


def test_descriptors_come_with_their_frame_and_end_with_the_connection() -> None:
    reading, writing = os.pipe()

    async def exchange() -> None:
        theirs, ours = socket.socketpair()
        with theirs:
            async with Connection(ours) as connection:
                wire.send(theirs, wire.REQUEST, b"without")
                wire.send(theirs, wire.REQUEST, b"with", [writing, writing])
                assert await connection.receive() == (wire.REQUEST, b"without", ())
                frame = await connection.receive()
                assert frame and frame.body == b"with" and len(frame.descriptors) == 2
                released = connection.release(frame.descriptors[0])
            os.close(writing)
            os.write(released, b"still open")
            os.close(released)

    asyncio.run(exchange())
    assert os.read(reading, 100) == b"still open"
    assert os.read(reading, 100) == b"", "the second copy is closed"
    os.close(reading)


def test_the_end_of_the_stream_is_no_frame() -> None:
    assert received(lambda _: None) is None


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xffC",
        (wire.MAX_BODY + 1).to_bytes(4, "big") + b"C",
        b"\0\0\0",
        b"\0\0\0\x05Cabc",
    ],
)
def test_what_is_not_a_frame_is_refused(sent: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        received(lambda client: client.sendall(sent))


def test_more_descriptors_than_allowed_are_refused_and_none_is_kept() -> None:
    with open(os.devnull) as null:
        many = [null.fileno()] * (wire.MAX_DESCRIPTORS + 1)
        with pytest.raises(wire.ProtocolError, match="more than 8 descriptors"):
            received(lambda client: wire.send(client, wire.COMMAND, b"", many))


COMMAND = wire.command(b"/tmp", [b"ps", b"-a"], {b"A": b"1=2", b"B": b""})


def test_a_command_line_survives_the_way() -> None:
    command = decode_command(Frame(wire.COMMAND, COMMAND, (3, 4, 5)))
    assert command == ("/tmp", ["ps", "-a"], {"A": "1=2", "B": ""}, (3, 4, 5))


@pytest.mark.parametrize(
    ("body", "descriptors"),
    [
        (b"", (3, 4, 5)),
        (b"99\0/tmp\x001\0ps", (3, 4, 5)),
        (b"1\0/tmp\0many\0ps", (3, 4, 5)),
        (b"1\0/tmp", (3, 4, 5)),
        (COMMAND, ()),
        (COMMAND, (3, 4, 5, 6)),
    ],
)
def test_what_is_not_a_command_line_is_refused(body: bytes, descriptors: tuple[int, ...]) -> None:
    with pytest.raises(wire.ProtocolError):
        decode_command(Frame(wire.COMMAND, body, descriptors))


def test_a_client_that_does_not_read_holds_up_only_itself() -> None:
    """`send` waits for it, and the loop goes on meanwhile."""

    async def exchange() -> int:
        theirs, ours = socket.socketpair()
        async with Connection(ours) as connection:
            with theirs:
                writing: Awaitable[None] = asyncio.ensure_future(connection.out(b"x" * (8 << 20)))
                turns = 0
                for _ in range(100):
                    await asyncio.sleep(0)
                    turns += 1
                assert not asyncio.ensure_future(writing).done()
                reader = asyncio.to_thread(read_all, theirs, 8 << 20)
                await asyncio.gather(writing, reader)
                return turns

    assert asyncio.run(exchange()) == 100


def read_all(client: socket.socket, size: int) -> None:
    while size > 0:
        _, body, _ = wire.receive(client)
        size -= len(body)


def test_a_connection_that_is_closed_stops_nobody_else_listening() -> None:
    """Who waited for its client is told later, when its number is another socket's."""

    async def closed_while_waiting() -> bytes:
        ours, theirs = socket.socketpair()
        connection = Connection(ours)
        waiting = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        number = ours.fileno()
        connection.close()
        one, other = socket.socketpair()
        assert one.fileno() == number
        one.setblocking(False)
        hearing = asyncio.create_task(asyncio.get_running_loop().sock_recv(one, 5))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        other.send(b"heard")
        heard = await asyncio.wait_for(hearing, 5)
        for each in (theirs, one, other):
            each.close()
        return heard

    assert asyncio.run(closed_while_waiting()) == b"heard"
