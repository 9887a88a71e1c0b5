"""Go's `printf`: the verbs that templates use. <https://pkg.go.dev/fmt>"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from cutaway.cli.gotemplate.values import NILS, plain, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

_VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d+)?(?:\.(?P<precision>\d*))?(?P<verb>.)", re.DOTALL)


def sprintf(template: str, arguments: tuple[Any, ...]) -> str:
    """Go's `Sprintf`: a wrong argument is no error but shows in the text, `%!d(string=a)`."""
    left = list(arguments)

    def substitute(match: re.Match[str]) -> str:
        if match["verb"] == "%":
            return "%"
        if not left:
            return f"%!{match['verb']}(MISSING)"
        return _padded(_format(match, left.pop(0)), match)

    text = _VERB.sub(substitute, template)
    if left:
        extra = ", ".join(f"{type_name(each)}={plain(each)}" for each in left)
        text += f"%!(EXTRA {extra})"
    return text


def sprint(arguments: tuple[Any, ...]) -> str:
    """Go's `Sprint`: a space between two values of which neither is text."""
    text = ""
    for at, value in enumerate(arguments):
        between = at > 0 and not isinstance(value, str) and not isinstance(arguments[at - 1], str)
        text += (" " if between else "") + plain(value)
    return text


def sprintln(arguments: tuple[Any, ...]) -> str:
    return " ".join(plain(value) for value in arguments) + "\n"


def quoted(text: str) -> str:
    """As a Go string constant."""
    return json.dumps(text, ensure_ascii=False)


def _format(match: re.Match[str], value: Any) -> str:
    verb, flags = match["verb"], match["flags"]
    precision = int(match["precision"] or 0) if match["precision"] is not None else None
    if verb == "v":
        return quoted(value) if "#" in flags and isinstance(value, str) else _signed(plain(value), value, flags)
    if verb == "T":
        return type_name(value)
    for kinds, verbs in _BY_KIND:
        if isinstance(value, kinds) and verb in verbs and (isinstance(value, bool) == (verbs is _OF_BOOL)):
            return _signed(verbs[verb](value, precision), value, flags)
    if isinstance(value, list | tuple) and not isinstance(value, NILS):
        return "[" + " ".join(_format(match, each) for each in value) + "]"
    return f"%!{verb}({type_name(value)}={plain(value)})"


_OF_BOOL: dict[str, Callable[[Any, int | None], str]] = {"t": lambda value, _: plain(value)}
_OF_INT: dict[str, Callable[[Any, int | None], str]] = {
    "d": lambda value, _: str(value),
    "b": lambda value, _: f"{value:b}",
    "o": lambda value, _: f"{value:o}",
    "x": lambda value, _: f"{value:x}",
    "X": lambda value, _: f"{value:X}",
    "c": lambda value, _: chr(value),
    "q": lambda value, _: f"'{chr(value)}'",
    "U": lambda value, _: f"U+{value:04X}",
}
_OF_FLOAT: dict[str, Callable[[Any, int | None], str]] = {
    "f": lambda value, precision: f"{value:.{6 if precision is None else precision}f}",
    "e": lambda value, precision: f"{value:.{6 if precision is None else precision}e}",
    "g": lambda value, precision: plain(value) if precision is None else f"{value:.{precision}g}",
}
_OF_TEXT: dict[str, Callable[[Any, int | None], str]] = {
    "s": lambda value, precision: value[:precision],
    "q": lambda value, precision: quoted(value[:precision]),
    "x": lambda value, _: value.encode().hex(),
    "X": lambda value, _: value.encode().hex().upper(),
}
_BY_KIND = ((bool, _OF_BOOL), (int, _OF_INT), (float, _OF_FLOAT), (str, _OF_TEXT))


def _signed(text: str, value: Any, flags: str) -> str:
    """With `+` or a space before a number that has no sign."""
    if isinstance(value, int | float) and not isinstance(value, bool) and not text.startswith("-"):
        return "+" + text if "+" in flags else " " + text if " " in flags else text
    return text


def _padded(text: str, match: re.Match[str]) -> str:
    width, flags = int(match["width"] or 0), match["flags"]
    if "-" in flags:
        return text.ljust(width)
    return text.zfill(width) if "0" in flags and match["verb"] not in "sqvT" else text.rjust(width)
