"""Messages between engine and spawner: one dictionary and some descriptors each, over a seqpacket unix socket.

Both ends are this program as root on a socket of mode 0600, so `marshal` serves: it costs no import. A message too
large for a packet travels as a sealed memory file.
"""

from __future__ import annotations

import _socket
import array
import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PACKET = 1 << 16
_MOST_DESCRIPTORS = 253  # SCM_MAX_FD
_IN_A_FILE, _MARSHALLED = b"\0", b"\1"


def send(socket: _socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Sends `message`; the descriptors stay open here. Raises `OSError`: `BlockingIOError` where the peer is behind."""
    body = _MARSHALLED + marshal.dumps(message)
    if len(body) <= PACKET:
        _send(socket, body, descriptors)
        return
    file = os.memfd_create("message", os.MFD_CLOEXEC)
    try:
        os.write(file, body)
        _send(socket, _IN_A_FILE, [file, *descriptors])
    finally:
        os.close(file)


def receive(socket: _socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message and its descriptors, which close on exec; `None` where the peer has closed.

    What an operation sends along with a descriptor is no message of ours, and comes as an empty one.
    """
    room = _socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
    body, ancillary, _flags, _address = socket.recvmsg(PACKET, room, _socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for _level, _kind, words in ancillary:
        descriptors.frombytes(words[: len(words) // 4 * 4])
    if not body:
        return None, list(descriptors)
    received = list(descriptors)
    if body == _IN_A_FILE:
        file = received.pop(0)
        body = os.pread(file, os.fstat(file).st_size, 0)
        os.close(file)
    return (marshal.loads(body[1:]) if body[:1] == _MARSHALLED else {}), received


def _send(socket: _socket.socket, body: bytes, descriptors: Sequence[int]) -> None:
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    socket.sendmsg([body], rights, _socket.MSG_NOSIGNAL)
