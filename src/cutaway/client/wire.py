"""The language of `engine.sock`: frames over a stream socket, in both directions (`unix(7)`).

A frame is a length (4 bytes, big-endian, of the body alone), a kind (1 byte) and a body. Descriptors ride on a frame's
first byte as `SCM_RIGHTS`, so they arrive together with its header when frames are read one by one.

From a client to the engine:

    C  a command line: see `command`. Descriptors: the caller's 0, 1 and 2
    R  a request of a program: JSON {"method": …, parameters by name}; `engine.requests` says which, and with which
       descriptors. One at a time: hanging up takes the one under way back
    S  a signal for the container or exec that is attached: its number as text
    D  the caller has detached; what was attached runs on

From the engine to a client:

    1  bytes for standard output
    2  bytes for standard error
    A  attach: see `Attachment`. Descriptors: what the letters of the body name
    W  what the attached streams hold is to be written out before anything else: the container has ended
    X  the end: the exit code as text
    J  the reply to a request, JSON
    F  the failure of a request, JSON {"error": the class's name, "message": …}

This module imports nothing that costs time: the command `cutaway` starts with it.
"""

from __future__ import annotations

import _socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

VERSION = b"1"

COMMAND, REQUEST, SIGNAL, DETACHED = b"C", b"R", b"S", b"D"
STDOUT, STDERR, ATTACH, DRAIN, EXIT, REPLY, FAILURE = b"1", b"2", b"A", b"W", b"X", b"J", b"F"

HEADER_SIZE = 5
MAX_BODY = 16 << 20
"""Bytes; more than any command line can hold (`execve(2)` allows 6 MiB). Larger content goes in several frames."""
MAX_DESCRIPTORS = 8
_ANCILLARY_SIZE = _socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)


class ProtocolError(Exception):
    """The other side sent what is not a frame, or nothing where a frame was to come."""


def frame(kind: bytes, body: bytes = b"") -> bytes:
    """One frame as bytes. Raises `ProtocolError` for a body of more than `MAX_BODY` bytes."""
    if len(body) > MAX_BODY:
        raise ProtocolError(f"{len(body)} bytes do not fit in one frame of at most {MAX_BODY}")
    return len(body).to_bytes(4, "big") + kind + body


def body_size(header: bytes) -> int:
    """The length of the body that follows a header; raises `ProtocolError` where it is more than `MAX_BODY`."""
    size = int.from_bytes(header[:4], "big")
    if size > MAX_BODY:
        raise ProtocolError(f"a frame of {size} bytes, where at most {MAX_BODY} are allowed")
    return size


def rights(descriptors: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary message that carries descriptors (`cmsg(3)`), for `sendmsg`."""
    if not descriptors:
        return []
    packed = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in descriptors)
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]


def unpack_rights(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came with `recvmsg`, now owned by the caller."""
    found: list[int] = []
    for level, kind, packed in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            whole = len(packed) - len(packed) % 4
            found += [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, whole, 4)]
    return found


def send(socket: _socket.socket, kind: bytes, body: bytes = b"", descriptors: Sequence[int] = ()) -> None:
    """Sends one frame on a blocking socket."""
    message = frame(kind, body)
    sent = socket.sendmsg([message], rights(descriptors))
    if sent < len(message):
        socket.sendall(message[sent:])


def receive(socket: _socket.socket) -> tuple[bytes, bytes, list[int]]:
    """The next frame on a blocking socket: kind, body, descriptors. Raises `ProtocolError` at the end of the stream."""
    header, ancillary, _, _ = socket.recvmsg(HEADER_SIZE, _ANCILLARY_SIZE, _socket.MSG_CMSG_CLOEXEC)
    descriptors = unpack_rights(ancillary)
    header += _exactly(socket, HEADER_SIZE - len(header))
    return header[4:], _exactly(socket, body_size(header)), descriptors


def _exactly(socket: _socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = socket.recv(min(size, 1 << 16))
        if not part:
            raise ProtocolError("the engine ended the connection")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def command(cwd: bytes, arguments: Sequence[bytes], environment: Mapping[bytes, bytes]) -> bytes:
    """The body of a `C` frame: version, directory, number of arguments, arguments, environment; between NUL bytes."""
    variables = [name + b"=" + value for name, value in environment.items()]
    return b"\0".join([VERSION, cwd, b"%d" % len(arguments), *arguments, *variables])


class Attachment:
    """The body of an `A` frame: letters, a space, the key sequence that detaches, as the bytes a terminal sends.

    Each of the first letters stands for a descriptor that comes with the frame, in their order:

        i  write here what the caller's standard input holds; closing it is the end of input
        o  read here what goes to standard output
        e  read here what goes to standard error
        t  the terminal: input is written here, the window's size set here

    and `s` says that signals are to be passed on.
    """

    def __init__(self, letters: str, detach_keys: bytes, descriptors: Sequence[int]) -> None:
        self.letters, self.detach_keys = letters, detach_keys
        self.descriptors = dict(zip((letter for letter in letters if letter in "ioet"), descriptors, strict=True))

    @classmethod
    def decode(cls, body: bytes, descriptors: Sequence[int]) -> Attachment:
        letters, _, detach_keys = body.partition(b" ")
        return cls(letters.decode(), detach_keys, descriptors)

    def encode(self) -> bytes:
        return self.letters.encode() + b" " + self.detach_keys

    @property
    def proxies_signals(self) -> bool:
        return "s" in self.letters
