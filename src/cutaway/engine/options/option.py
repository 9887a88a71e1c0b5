"""What an option is: a name, a kind of value, a sentence. Declared once; parsed, shown and completed from that."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway.engine.errors import InvalidArgument
from cutaway.engine.options import values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Kind(NamedTuple):
    """How a value is written. `metavar` is what help calls it; `repeats`: each use of the option adds one value;
    `alone`: what the option means without a value, which then has to follow an equals sign."""

    metavar: str
    parse: Callable[[str], object]
    repeats: bool = False
    alone: str = ""


def _text(text: str) -> str:
    return text


BOOL = Kind("", values.boolean, alone="true")
STRING = Kind("string", _text)
LIST = Kind("list", _text, repeats=True)
INT = Kind("int", values.integer)
UINT16 = Kind("uint16", values.natural)
BYTES = Kind("bytes", values.size)
BYTES_OR_UNLIMITED = Kind("bytes", values.size_or_unlimited)
DECIMAL = Kind("decimal", values.nano_cpus)
PAIRS = Kind("map", values.pair, repeats=True)


def list_of(parse: Callable[[str], object], metavar: str = "list") -> Kind:
    return Kind(metavar, parse, repeats=True)


class Option(NamedTuple):
    """`completes` names what a shell offers for the value: `"container"`, `"image"`, `"network"`, `"volume"`, `"file"`,
    `"directory"`, or words between `|`. `alias` is an older name that works too and is not shown."""

    name: str
    kind: Kind
    help: str
    short: str = ""
    default: str = ""
    completes: str = ""
    alias: str = ""

    @property
    def flag(self) -> str:
        """How error messages call it: `"-m, --memory"`."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"

    def read(self, given: object) -> Any:
        """The value that a text, or a plain Python value, stands for; for an option that repeats, a list of them."""
        if not self.kind.repeats:
            return self._parse(given)
        return [self._parse(each) for each in _each(given)]

    def _parse(self, given: object) -> object:
        text = str(given)
        try:
            return self.kind.parse(text)
        except ValueError as problem:
            raise InvalidArgument(f'invalid argument "{text}" for "{self.flag}" flag: {problem}') from None


def _each(given: object) -> Iterable[object]:
    if isinstance(given, dict):
        return [f"{name}={value}" for name, value in given.items()]
    return given if isinstance(given, (list, tuple)) else [given]


def read(table: Iterable[Option], given: Mapping[str, object]) -> dict[str, Any]:
    """Options by their Python names (`memory_swap`) or their own, with texts or plain values, as their values.

    None is not given. Raises `InvalidArgument` for an unknown name or a wrong value.
    """
    known = by_name(table)
    meant: dict[str, Any] = {}
    for name, value in given.items():
        option = known.get(name.replace("_", "-"))
        if option is None:
            raise InvalidArgument(f"unknown option {name}{suggestion(name.replace('_', '-'), known)}")
        if value is not None:
            meant[option.name] = option.read(value)
    return meant


def by_name(table: Iterable[Option]) -> dict[str, Option]:
    """Options by their names and aliases."""
    options = list(table)
    return {option.alias: option for option in options if option.alias} | {option.name: option for option in options}


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`"; did you mean NAME?"` where one of the known words is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{near[0]}?" if near else ""
