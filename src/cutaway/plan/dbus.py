"""D-Bus, as much of it as it takes to ask systemd for something: a connection without a bus between, calls, signals.

Messages are in this host's byte order; both sides are on it. <https://dbus.freedesktop.org/doc/dbus-specification.html>
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
import sys

from cutaway.kernel.procfs import outer_uid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_KINDS = {_PATH: "o", _INTERFACE: "s", _MEMBER: "s", _ERROR_NAME: "s", _REPLY_SERIAL: "u", _DESTINATION: "s",
          _SIGNATURE: "g"}  # fmt: skip
_LITTLE = sys.byteorder == "little"
_ORDER = "<" if _LITTLE else ">"
_FIXED = {"y": "B", "b": "I", "i": "i", "u": "I", "x": "q", "t": "Q"}
_ALIGNMENTS = {"y": 1, "b": 4, "i": 4, "u": 4, "x": 8, "t": 8, "s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8}
_HEADER = "(yyyyuua(yv))"
_START = 16
"""Bytes that say how long a message is."""
_MOST = 1 << 27
"""Bytes that a message may have."""


class DBusError(OSError):
    """What the other side refused. `name`: its name for that, `org.freedesktop.DBus.Error.InvalidArgs`."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(errno.EREMOTEIO, sentence)
        self.name = name

    def __str__(self) -> str:
        return str(self.strerror)


class Message:
    """A message as it came, of which `header` bytes are before the body: its `kind`, and its `fields` by number."""

    def __init__(self, content: bytes, header: int) -> None:
        (_, self.kind, *_, fields), _ = _get(content, 0, _HEADER)
        self.fields: dict[int, Any] = dict(fields)
        self._content, self._header = content, header

    @property
    def body(self) -> list[Any]:
        """What it says; only to be asked of a message whose types are among those of this module."""
        values: list[Any] = _get(self._content, self._header, f"({self.fields.get(_SIGNATURE, '')})")[0]
        return values

    @property
    def member(self) -> str:
        """What a signal is called."""
        return str(self.fields.get(_MEMBER, ""))


class Connection:
    """To the socket at `path`, as the user who runs this. An answer may take `patience` seconds: `TimeoutError`."""

    def __init__(self, path: str, patience: float) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(patience)
        self._serial = 0
        self._signals: list[Message] = []
        try:
            self._socket.connect(path)
            self._authenticate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def call(self, to: str, path: str, member: str, signature: str = "", *arguments: Any) -> list[Any]:
        """What the method `member`, `org.freedesktop.systemd1.Manager.StopUnit`, of the object at `path` returns.

        Raises `DBusError`, `OSError`.
        """
        self._serial += 1
        interface, _, method = member.rpartition(".")
        fields = {_PATH: path, _INTERFACE: interface, _MEMBER: method, _DESTINATION: to}
        self._socket.sendall(message(METHOD_CALL, self._serial, fields, signature, arguments))
        while (answer := self._receive()).fields.get(_REPLY_SERIAL) != self._serial:
            if answer.kind == SIGNAL:
                self._signals.append(answer)
        if answer.kind == ERROR:
            raise DBusError(answer.fields[_ERROR_NAME], str((answer.body or [answer.fields[_ERROR_NAME]])[0]))
        return answer.body

    def signals(self) -> Iterator[Message]:
        """The signals, those that came before an answer first."""
        while True:
            while self._signals:
                yield self._signals.pop(0)
            received = self._receive()
            if received.kind == SIGNAL:
                yield received

    def _authenticate(self) -> None:
        """By the credentials that the kernel tells the other side. `BEGIN` goes with them: systemd does not look at a
        message that it reads together with that word before another comes."""
        user = str(outer_uid()).encode().hex().encode()
        self._socket.sendall(b"\0AUTH EXTERNAL " + user + b"\r\nBEGIN\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            answer += self._read(1)
        if not answer.startswith(b"OK "):
            raise PermissionError(errno.EACCES, f"D-Bus refuses user {os.geteuid()}: {answer.decode().strip()}")

    def _receive(self) -> Message:
        start = self._read(_START)
        body, _, fields = struct.unpack(f"{_ORDER}III", start[4:])
        header = _START + fields + -fields % 8
        if header + body > _MOST:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return Message(start + self._read(header + body - _START), header)

    def _read(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            part = self._socket.recv(count - len(content))
            if not part:
                raise ConnectionResetError(errno.ECONNRESET, "the other side of D-Bus closed the connection")
            content += part
        return content


def message(kind: int, serial: int, fields: dict[int, Any], signature: str = "", body: Any = ()) -> bytes:
    """A message's bytes."""
    content = bytearray()
    _put(content, f"({signature})", body)
    shown = [[number, [_KINDS[number], value]] for number, value in fields.items()]
    shown += [[_SIGNATURE, ["g", signature]]] if signature else []
    whole = bytearray()
    _put(whole, _HEADER, [ord("l" if _LITTLE else "B"), kind, 0, 1, len(content), serial, shown])
    return bytes(whole + bytes(-len(whole) % 8) + content)


def types(signature: str) -> list[str]:
    """The complete types that a signature is a sequence of: `"sa(sv)"` is `["s", "a(sv)"]`."""
    found = []
    while signature:
        end = _end_of_type(signature)
        found.append(signature[:end])
        signature = signature[end:]
    return found


def _end_of_type(signature: str) -> int:
    if signature[0] == "a":
        return 1 + _end_of_type(signature[1:])
    if signature[0] != "(":
        return 1
    depth = 0
    for place, letter in enumerate(signature):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"D-Bus signature {signature!r}: a parenthesis is not closed")


def _put(content: bytearray, kind: str, value: Any) -> None:
    """Appends a value of one complete type."""
    content += bytes(-len(content) % _ALIGNMENTS[kind[0]])
    if kind in _FIXED:
        content += struct.pack(_ORDER + _FIXED[kind], value)
    elif kind in "sog":
        content += struct.pack(_ORDER + ("B" if kind == "g" else "I"), len(value.encode())) + value.encode() + b"\0"
    elif kind == "v":
        _put(content, "g", value[0])
        _put(content, *value)
    elif kind[0] == "(":
        for each, part in zip(types(kind[1:-1]), value, strict=True):
            _put(content, each, part)
    else:
        _put_array(content, kind[1:], value)


def _put_array(content: bytearray, kind: str, values: Any) -> None:
    """Its length is that of the elements, without what aligns the first."""
    place = len(content)
    content += bytes(4)
    content += bytes(-len(content) % _ALIGNMENTS[kind[0]])
    first = len(content)
    for value in values:
        _put(content, kind, value)
    content[place : place + 4] = struct.pack(f"{_ORDER}I", len(content) - first)


def _get(content: bytes, place: int, kind: str) -> tuple[Any, int]:
    """A value of one complete type at `place`, and where it ends."""
    place += -place % _ALIGNMENTS[kind[0]]
    if kind in _FIXED:
        form = _ORDER + _FIXED[kind]
        (value,) = struct.unpack_from(form, content, place)
        return value, place + struct.calcsize(form)
    if kind in "sog":
        length, place = _get(content, place, "y" if kind == "g" else "u")
        return content[place : place + length].decode(), place + length + 1
    if kind == "v":
        signature, place = _get(content, place, "g")
        return _get(content, place, signature)
    values = []
    if kind[0] == "(":
        for each in types(kind[1:-1]):
            value, place = _get(content, place, each)
            values.append(value)
        return values, place
    length, place = _get(content, place, "u")
    place += -place % _ALIGNMENTS[kind[1]]
    end = place + length
    while place < end:
        value, place = _get(content, place, kind[1:])
        values.append(value)
    return values, place
