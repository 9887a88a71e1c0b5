"""Reading a command line as Docker does (as Go's pflag): `-it`, `-p80:80`, `--name=x`, `--rm=false`, `--`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway.engine.errors import InvalidArgument
from cutaway.engine.options.option import BOOL, Option, by_name, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class UsageError(Exception):
    """What was typed is not how the verb is used."""

    exit_code = 125


class WrongNumber(UsageError):
    """Too few arguments, or too many; Docker has another exit code for it."""

    exit_code = 1


class HelpWanted(Exception):
    """`--help` was among the options."""


class Parsed(NamedTuple):
    """Options by name with their values, only those that were given; and the arguments between and after them."""

    options: dict[str, Any]
    arguments: list[str]


HELP = Option("help", BOOL, "Print usage")


def parse(words: Sequence[str], table: Iterable[Option], *, interspersed: bool = True) -> Parsed:
    """Takes options and arguments apart. Options end at `--`, and at the first argument unless `interspersed`.

    Raises `UsageError`, or `HelpWanted` where `--help` comes first.
    """
    return _Parser([*table, HELP], interspersed).parse(words)


class _Parser:
    def __init__(self, table: Iterable[Option], interspersed: bool) -> None:
        self._long = by_name(table)
        self._short = {option.short: option for option in self._long.values() if option.short}
        self._interspersed = interspersed
        self._rest: list[str] = []
        self._options: dict[str, Any] = {}

    def parse(self, words: Sequence[str]) -> Parsed:
        arguments: list[str] = []
        self._rest = list(words)
        while self._rest:
            word = self._rest.pop(0)
            if word == "--":
                break
            if word.startswith("--"):
                self._read_long(word)
            elif word.startswith("-") and word != "-":
                self._read_short(word)
            else:
                arguments.append(word)
                if not self._interspersed:
                    break
        return Parsed(self._options, arguments + self._rest)

    def _read_long(self, word: str) -> None:
        name, separator, value = word[2:].partition("=")
        option = self._long.get(name)
        if option is None:
            raise UsageError(f"unknown flag: --{name}{suggestion(name, self._long, '--')}")
        if separator:
            self._set(option, value)
        elif option.kind.alone:
            self._set(option, option.kind.alone)
        else:
            self._set(option, self._next(f"flag needs an argument: --{name}"))

    def _read_short(self, word: str) -> None:
        """One word of short options: all but the last are without a value."""
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self._short.get(letter)
            if option is None:
                raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
            if not option.kind.alone:
                value = letters.removeprefix("=") or self._next(f"flag needs an argument: '{letter}' in {word}")
                return self._set(option, value)
            if letters.startswith("="):
                return self._set(option, letters[1:])
            self._set(option, option.kind.alone)
        return None

    def _next(self, complaint: str) -> str:
        if not self._rest:
            raise UsageError(complaint)
        return self._rest.pop(0)

    def _set(self, option: Option, text: str) -> None:
        try:
            value = option.read(text)
        except InvalidArgument as problem:
            raise UsageError(str(problem)) from None
        if option is HELP and value:
            raise HelpWanted
        if option.kind.repeats:
            self._options.setdefault(option.name, []).extend(value)
        else:
            self._options[option.name] = value
