"""What is said to systemd, in bytes as the D-Bus specification has them and in busctl's words; what systemd makes of it
is seen in tests/conformance/test_systemd.py."""

from __future__ import annotations

import struct
import sys

import pytest

from cutaway.plan.dbus import METHOD_CALL, SIGNAL, Message, message, types
from cutaway.plan.systemd import SetUnitProperties, StartUnit

PATH, INTERFACE, MEMBER, SIGNATURE = 1, 2, 3, 8
ORDER = "<" if sys.byteorder == "little" else ">"


def parsed(content: bytes) -> Message:
    (body,) = struct.unpack_from(f"{ORDER}I", content, 4)
    return Message(content, len(content) - body)


def test_a_message_is_as_the_specification_has_it() -> None:
    said = message(METHOD_CALL, 7, {PATH: "/", MEMBER: "Do"}, "yt", (1, 2))
    fields = b"\x01\x01o\0" + struct.pack(f"{ORDER}I", 1) + b"/\0" + bytes(6)
    fields += b"\x03\x01s\0" + struct.pack(f"{ORDER}I", 2) + b"Do\0" + bytes(5)
    fields += b"\x08\x01g\0\x02yt\0"
    start = (
        (b"l" if sys.byteorder == "little" else b"B") + b"\x01\0\x01" + struct.pack(f"{ORDER}III", 16, 7, len(fields))
    )
    assert said == start + fields + bytes(-len(fields) % 8) + b"\x01" + bytes(7) + struct.pack(f"{ORDER}Q", 2)


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("", []),
        ("uoss", [3, "/job/3", "a.scope", "done"]),
        ("a(ss)", [[["/dev/char/1:3", "rwm"], ["char-*", "m"]]]),
        ("ayaut", [[1, 2, 255], [4000000000], (1 << 64) - 1]),
        ("yas(bi)", [1, ["é", ""], [1, -5]]),
        ("a(ss)s", [[], "after"]),
    ],
)
def test_what_is_said_is_heard(signature: str, values: list[object]) -> None:
    heard = parsed(message(SIGNAL, 1, {PATH: "/a", INTERFACE: "b.c", MEMBER: "Told"}, signature, values))
    assert (heard.kind, heard.member, heard.body) == (SIGNAL, "Told", values)


def test_a_signature_is_taken_apart() -> None:
    assert types("ssa(sv)a(sa(sv))") == ["s", "s", "a(sv)", "a(sa(sv))"]
    with pytest.raises(ValueError, match="parenthesis"):
        types("a(s")


def test_operations_are_command_lines_of_busctl() -> None:
    start = StartUnit("a-b.scope", [["Slice", "s", "x.slice"], ["Delegate", "b", True], ["DeviceAllow", "a(ss)", []]])
    assert start.shell().endswith(
        "StartTransientUnit 'ssa(sv)a(sa(sv))' a-b.scope replace "
        "4 Slice s x.slice Delegate b true DeviceAllow 'a(ss)' 0 PIDs au 1 \"$PID\" 0"
    )
    limit = SetUnitProperties("a-b.scope", [["TasksMax", "t", 7]], [["TasksMax", "t", 9]])
    assert limit.shell().endswith("SetUnitProperties 'sba(sv)' a-b.scope true 1 TasksMax t 7")
    assert limit.shell_undo().endswith("a-b.scope true 1 TasksMax t 9")
