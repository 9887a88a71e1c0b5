"""What containers, and whoever made them, call things, in a form that does nothing to who reads it.

A host name, a command line, a file's name may hold anything but a zero: escapes that write to the terminal's title or
paint over other lines, marks that turn the direction of text around, bytes that are no text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, structs

if TYPE_CHECKING:
    from re import Pattern

Model = TypeVar("Model")

_NO_TEXT = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def text(model: Model) -> Model:
    r"""The same with all that is no text written as `\xNN`: what JSON can hold."""
    return _cleaned(model, _NO_TEXT)


def printable(model: Model) -> Model:
    r"""The same with control characters, too, written as `\xNN`: for terminals and pictures."""
    return _cleaned(model, _CONTROLS)


def _cleaned(value: Model, pattern: Pattern[str]) -> Model:
    found: object = value
    if isinstance(value, str):
        found = pattern.sub(_escaped, value)
    elif isinstance(value, list):
        found = [_cleaned(each, pattern) for each in value]
    elif isinstance(value, Struct):
        found = structs.replace(
            value, **{name: _cleaned(getattr(value, name), pattern) for name in value.__struct_fields__}
        )
    return found  # type: ignore[return-value]


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no text, as Python keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
