"""A command line as runc's parser takes it apart: `--name value`, `--name=value`, `-name`, `-n value`. `--` ends the
options; a word that is none does so only where any number of words may follow, which are then somebody else's."""

from __future__ import annotations

from cutaway.runtime.command.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAG, VALUE, LIST, NUMBER = "flag", "value", "list", "number"
"""Kinds of options: without a value, with one, with one and repeatable, with a number."""
ANY = 1 << 30
"""How many operands there may be where there is no limit."""


class Syntax:
    """What a verb takes: `options` by kind, as `{"bundle": VALUE, …}`; `short`: letters for some of them;
    `operands`: what its operands are called, and `least`, `most`: how many there may be."""

    __slots__ = ("least", "most", "operands", "options", "short")

    def __init__(
        self, options: dict[str, str], operands: str, least: int, most: int, short: dict[str, str] | None = None
    ) -> None:
        self.options, self.short, self.operands = options, short or {}, operands
        self.least, self.most = least, most


def parse(words: list[str], syntax: Syntax) -> tuple[dict[str, Any], list[str]]:
    """The options by name, those not given as False, "", [] or None; and the operands. Raises `Misuse`."""
    absent: dict[str, Any] = {FLAG: False, VALUE: "", LIST: [], NUMBER: None}
    found = {name: absent[kind] for name, kind in syntax.options.items()}
    waiting, operands = words[::-1], list[str]()
    while waiting:
        word = waiting.pop()
        if word == "--":
            break
        name, equals, value = word.lstrip("-").partition("=")
        name = syntax.short.get(name, name)
        kind = syntax.options.get(name)
        if not word.startswith("-") or word == "-" or (operands and kind is None):
            operands.append(word)
            if syntax.most == ANY:
                break
            continue
        if kind is None:
            raise Misuse(f"flag provided but not defined: -{name}")
        if kind == FLAG:
            found[name] = truth(name, value) if equals else True
            continue
        if not equals and not waiting:
            raise Misuse(f"flag needs an argument: -{name}")
        value = value if equals else waiting.pop()
        found[name] = [*found[name], value] if kind == LIST else _number(name, value) if kind == NUMBER else value
    return found, operands + waiting[::-1]


def truth(name: str, value: str) -> bool:
    """What the value of a flag says. Raises `Misuse`."""
    words = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
    if value.lower() not in words:
        raise Misuse(f'invalid boolean value "{value}" for -{name}: expected true or false')
    return words[value.lower()]


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise Misuse(f'invalid value "{value}" for flag -{name}: expected a number') from None
