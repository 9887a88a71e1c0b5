"""The functions that a template may call: Go's own, and those that Docker adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cutaway.cli.gotemplate.printf import sprint, sprintf, sprintln
from cutaway.cli.gotemplate.values import NILS, plain, to_json, type_name

if TYPE_CHECKING:
    from collections.abc import Callable


class FunctionError(Exception):
    """What a function cannot do; the text is Go's."""


def index(value: Any, *keys: Any) -> Any:
    """`index m "key" 0`: `m["key"][0]`. A key that is not there gives nothing, or "" in a map of texts."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "" if all(isinstance(each, str) for each in value.values()) else None)
        elif isinstance(value, str | list | tuple):
            value = _element(value, key)
        elif isinstance(value, NILS):
            raise FunctionError("index of untyped nil")
        else:
            raise FunctionError(f"can't index item of type {type_name(value)}")
    return value


def _element(value: str | list[Any] | tuple[Any, ...], key: Any) -> Any:
    if not isinstance(key, int) or isinstance(key, bool):
        raise FunctionError(f"cannot index slice/array with type {type_name(key)}")
    held = value.encode() if isinstance(value, str) else value
    if not 0 <= key < len(held):
        raise FunctionError(f"index out of range: {key}")
    return held[key]


def slice_(value: Any, *bounds: int) -> Any:
    """`slice s 0 12`: a part of a text or list."""
    if not isinstance(value, str | list | tuple):
        raise FunctionError(f"can't slice item of type {type_name(value)}")
    first, last = (*bounds, *((0, len(value))[len(bounds) :]))[:2]
    for bound in bounds:
        if not 0 <= bound <= len(value):
            raise FunctionError(f"index out of range: {bound}")
    if first > last:
        raise FunctionError(f"invalid slice index: {first} > {last}")
    return value[first:last]


def length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | tuple | dict):
        return len(value)
    raise FunctionError("len of nil pointer" if isinstance(value, NILS) else f"len of type {type_name(value)}")


def join(values: Any, separator: str = "") -> str:
    if not isinstance(values, list | tuple):
        raise FunctionError(f"wrong type for value; expected []string; got {type_name(values)}")
    return separator.join(plain(value) for value in values)


def pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def equal(first: Any, *others: Any) -> bool:
    """Whether the first is one of the others."""
    if not others:
        raise FunctionError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, NILS) or isinstance(second, NILS):
        return isinstance(first, NILS) and isinstance(second, NILS)
    _check_kinds(first, second)
    return bool(first == second)


def less(first: Any, second: Any) -> bool:
    if isinstance(first, bool) or not isinstance(first, int | float | str):
        raise FunctionError("invalid type for comparison")
    _check_kinds(first, second)
    return bool(first < second)


def _check_kinds(first: Any, second: Any) -> None:
    if type(first) is not type(second):
        raise FunctionError("incompatible types for comparison")


class Function:
    """A function and how many arguments it takes: `least`, or up to `most`, or any number (None). `texts`: all of them
    must be texts."""

    def __init__(self, do: Callable[..., Any], least: int, most: int | None = 0, *, texts: bool = False) -> None:
        self.do, self.least, self.texts = do, least, texts
        self.most = None if most is None else max(least, most)


FUNCTIONS = {
    "index": Function(index, 1, None),
    "slice": Function(slice_, 1, 3),
    "len": Function(length, 1),
    "print": Function(lambda *values: sprint(values), 0, None),
    "println": Function(lambda *values: sprintln(values), 0, None),
    "printf": Function(lambda template, *values: sprintf(template, values), 1, None),
    "eq": Function(equal, 1, None),
    "ne": Function(lambda first, second: not _same(first, second), 2),
    "lt": Function(less, 2),
    "le": Function(lambda first, second: less(first, second) or _same(first, second), 2),
    "gt": Function(lambda first, second: less(second, first), 2),
    "ge": Function(lambda first, second: not less(first, second), 2),
    "json": Function(to_json, 1),
    "join": Function(join, 1, 2),
    "split": Function(lambda text, separator: text.split(separator) if separator else list(text), 2, texts=True),
    "upper": Function(str.upper, 1, texts=True),
    "lower": Function(str.lower, 1, texts=True),
    "title": Function(lambda text: " ".join(w[:1].upper() + w[1:] for w in text.split(" ")), 1, texts=True),
    "truncate": Function(lambda text, most: text[:most], 2),
    "pad": Function(pad, 3),
}
"""`and`, `or` and `not` are the evaluator's: they do not need all their arguments."""
