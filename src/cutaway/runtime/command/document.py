"""JSON without the package `json`, whose imports take as long as starting Python: on its own scanner and encoder in C.

<https://www.rfc-editor.org/rfc/rfc8259>
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def parse(text: str) -> Any:
    """The value that `text` is. Raises `ValueError`, which says what is wrong and where."""
    try:
        value, end = _scan(text, len(text) - len(text.lstrip(_SPACE)))
    except StopIteration as error:
        raise ValueError(f"a JSON value is expected at character {error.value}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except SystemError:  # it is wrong, and to say how the scanner needs the package
        from json import loads

        return loads(text)
    if text[end:].strip(_SPACE):
        raise ValueError(f"there is more after its end, at character {end}")
    return value


def read(path: str) -> Any:
    """The value that the file at `path` holds. Raises `OSError`, `ValueError`."""
    with open(path, "rb") as file:
        return parse(file.read().decode())


def text_of(value: Any) -> str:
    """`value` on one line, as Go's encoder writes it."""
    return "".join(_encode(value, 0))


def indented(value: Any, step: str = "  ", margin: str = "\n") -> str:
    """`value` on many lines, for people."""
    inner = margin + step
    if isinstance(value, dict) and value:
        pairs = (f"{text_of(key)}: {indented(each, step, inner)}" for key, each in value.items())
        return "{" + ",".join(inner + pair for pair in pairs) + margin + "}"
    if isinstance(value, list) and value:
        return "[" + ",".join(inner + indented(each, step, inner) for each in value) + margin + "]"
    return text_of(value)


class _Reading:
    """What the scanner asks of a `json.JSONDecoder`."""

    strict, object_hook, object_pairs_hook = True, None, None
    parse_float, parse_int = float, int

    def parse_constant(self, word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON value")


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"JSON has no {type(value).__name__}")


_SPACE = " \t\n\r"
_scan: Any = make_scanner(_Reading())  # type: ignore[arg-type]
_encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)
