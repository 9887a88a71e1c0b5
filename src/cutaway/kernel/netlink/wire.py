"""Netlink's wire format: a datagram holds messages; a message, a header and attributes; an attribute, a length, a type
and a value padded to four bytes. `netlink(7)`.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from cutaway.kernel.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
SO_SNDBUFFORCE = 32

NLM_F_REQUEST = 0x1
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_ACK_TLVS = 0x200
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR_ATTR_MSG = 1

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=i")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_LARGEST_DATAGRAM = 1 << 16
_SMALLEST_SEND_BUFFER = 1 << 16


class Message:
    """One request. `kind` and `call` are its number and name (`16`, `"RTM_NEWLINK"`), `body` the family's header with
    the attributes, `subject` says in an error what it was about."""

    __slots__ = ("body", "call", "flags", "kind", "subject")

    def __init__(self, call: str, kind: int, body: bytes, flags: int = 0, subject: str = "") -> None:
        self.call, self.kind, self.body, self.flags, self.subject = call, kind, body, flags, subject

    def pack(self, sequence: int, flags: int = 0) -> bytes:
        """The message as bytes; `flags` are added to its own."""
        flags |= self.flags | NLM_F_REQUEST
        return _padded(_HEADER.pack(_HEADER.size + len(self.body), self.kind, flags, sequence, 0) + self.body)

    def error(self, number: int, reason: str = "") -> KernelError:
        """The error that this request met; `reason` is the kernel's own explanation, often empty."""
        error = KernelError(number, self.call, self.subject)
        if reason:
            error.strerror = f"{error.strerror}: {reason}"
        return error


class NetlinkSocket:
    """A socket of one netlink family. It belongs to the network namespace it was opened in, wherever it is used later.

    `fileno`: a descriptor of such a socket, which is taken over instead of opening one.
    """

    def __init__(self, family: int, fileno: int = -1) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        if fileno >= 0:
            self._socket = _socket.socket(_socket.AF_NETLINK, kind, family, fileno)
            return
        self._socket = _socket.socket(_socket.AF_NETLINK, kind, family)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor, for `select` and event loops."""
        return self._socket.fileno()

    def detach(self) -> int:
        """Gives the descriptor away, to be handed to another socket's `fileno`."""
        return self._socket.detach()

    def close(self) -> None:
        """Closes the descriptor; safe to call twice."""
        self._socket.close()

    def transact(self, *messages: Message) -> None:
        """Sends messages in one datagram; the kernel carries them out in order, and goes on after one that it refuses.

        Raises `KernelError` for the first that was refused.
        """
        if not messages:
            return
        self._send(b"".join(message.pack(sequence) for sequence, message in enumerate(messages)))
        for sequence, number, reason in sorted(self._refusals()):
            raise messages[sequence].error(number, reason)

    def ask(self, message: Message) -> bytes:
        """The body of the one answer to a request; raises `KernelError`."""
        self._send(message.pack(1))
        for flags, kind, _, body in messages_in(self._socket.recv(_LARGEST_DATAGRAM)):
            if kind == NLMSG_ERROR:
                raise message.error(*_refusal(body, flags))
            return body
        raise message.error(errno.ENODATA, "the kernel gave no answer")

    def dump(self, message: Message) -> list[bytes]:
        """The bodies of all answers to a request for a list, taken again where the list changed underway."""
        while True:
            bodies, interrupted = self._dump_once(message)
            if not interrupted:
                return bodies

    def _dump_once(self, message: Message) -> tuple[list[bytes], bool]:
        self._send(message.pack(1, NLM_F_DUMP))
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for flags, kind, _, body in messages_in(self._socket.recv(_LARGEST_DATAGRAM)):
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if kind == NLMSG_ERROR:
                    raise message.error(*_refusal(body, flags))
                if kind == NLMSG_DONE:
                    return bodies, interrupted
                bodies.append(body)

    def join(self, group: int) -> None:
        """From now on receives what the kernel tells this multicast group."""
        self._socket.bind((0, 0))  # without a port of its own, a socket is passed over
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def pending(self) -> Iterator[tuple[int, bytes]]:
        """What has arrived and was not read yet, each message as (kind, body)."""
        return ((kind, body) for _, kind, _, body in self._arrived())

    def _send(self, datagram: bytes) -> None:
        if len(datagram) > _SMALLEST_SEND_BUFFER:
            self._socket.setsockopt(_socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(datagram))
        self._socket.send(datagram)

    def _refusals(self) -> Iterator[tuple[int, int, str]]:
        """What the kernel refused, as (sequence, error number, reason). No acknowledgement is asked for: requests are
        carried out, and every error queued, before `send` returns."""
        for flags, kind, sequence, body in self._arrived():
            if kind == NLMSG_ERROR:
                yield sequence, *_refusal(body, flags)

    def _arrived(self) -> Iterator[tuple[int, int, int, bytes]]:
        while True:
            try:
                yield from messages_in(self._socket.recv(_LARGEST_DATAGRAM, _socket.MSG_DONTWAIT))
            except BlockingIOError:
                return


def messages_in(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of a datagram, each as (flags, kind, sequence, body)."""
    start = 0
    while start + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, start)
        yield flags, kind, sequence, datagram[start + _HEADER.size : start + length]
        start += max(_align(length), _HEADER.size)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _padded(_ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value)


def nest(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes_in(body: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes of a body from `start` on, each as (kind, value), without the flags in its kind."""
    while start + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, start)
        yield kind & NLA_TYPE_MASK, body[start + _ATTRIBUTE.size : start + length]
        start += max(_align(length), _ATTRIBUTE.size)


def text(value: bytes) -> str:
    """A string attribute's value, which ends with a zero byte."""
    return os.fsdecode(value.rstrip(b"\0"))


def _refusal(body: bytes, flags: int) -> tuple[int, str]:
    (number,) = _NUMBER.unpack_from(body)
    explained = dict(attributes_in(body, _NUMBER.size + _HEADER.size)) if flags & NLM_F_ACK_TLVS else {}
    return -number, text(explained.get(NLMSGERR_ATTR_MSG, b""))


def _align(length: int) -> int:
    return (length + 3) & ~3


def _padded(value: bytes) -> bytes:
    return value + _PADDING[len(value) % 4]
