"""A template's text as tokens: what stands between actions, and the words inside `{{` and `}}`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

TEXT, OPEN, CLOSE, FIELD, VARIABLE, DOT, WORD, NUMBER, STRING, CHARACTER, SPACE, SYMBOL, END = (
    "text", "open", "close", "field", "variable", "dot", "word", "number", "string", "character", "space", "symbol",
    "end",
)  # fmt: skip

_TOKENS = re.compile(
    r"""(?P<space>\s+)
      | (?P<field>\.[^\W\d]\w*)
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))
      | (?P<dot>\.)
      | (?P<variable>\$\w*)
      | (?P<word>[^\W\d]\w*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
      | (?P<character>'(?:[^'\\\n]|\\.)+')
      | (?P<symbol>:=|[=|(),])""",
    re.VERBOSE,
)
_CLOSE = re.compile(r"(?:\s+-)?\}\}")
_COMMENT = re.compile(r"\s*/\*.*?\*/", re.DOTALL)
_UNTERMINATED = {
    '"': "unterminated quoted string",
    "`": "unterminated raw quoted string",
    "'": "unterminated character constant",
}


class TemplateError(Exception):
    """A template that cannot be read or carried out; the text is Go's."""


class Token(NamedTuple):
    """`start` counts characters from the template's beginning."""

    kind: str
    text: str
    start: int


def error_at(source: str, start: int, reason: str) -> TemplateError:
    """An error in reading, with the line it is on."""
    line = source.count("\n", 0, start) + 1
    return TemplateError(f"template: :{line}: {reason}")


def tokens(source: str) -> Iterator[Token]:
    """All tokens, the last one `END`. Raises `TemplateError`."""
    at, trim_next = 0, False
    while at < len(source):
        start = source.find("{{", at)
        text = source[at:] if start < 0 else source[at:start]
        text = text.lstrip() if trim_next else text
        if start < 0:
            yield Token(TEXT, text, at)
            break
        trims = source.startswith("-", start + 2) and source[start + 3 : start + 4].isspace()
        yield Token(TEXT, text.rstrip() if trims else text, at)
        inside = start + (3 if trims else 2)
        if comment := _COMMENT.match(source, inside):
            end = _CLOSE.match(source, comment.end())
            if not end:
                raise error_at(source, start, "comment ends before closing delimiter")
        else:
            yield Token(OPEN, "{{", start)
            end = yield from _action(source, inside)
            yield Token(CLOSE, "}}", end.start())
        at, trim_next = end.end(), len(end[0]) > 2
    yield Token(END, "", len(source))


def _action(source: str, at: int) -> Generator[Token, None, re.Match[str]]:
    """The tokens of one action; returns the match of what closes it."""
    depth = 0
    while not (end := _CLOSE.match(source, at)):
        match = _TOKENS.match(source, at)
        if not match:
            raise error_at(source, at, _complaint(source, at))
        token = Token(match.lastgroup or "", match[0], at)
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == SYMBOL else 0
        if depth < 0:
            raise error_at(source, at, "unexpected right paren")
        yield token
        at = match.end()
    if depth:
        raise error_at(source, at, "unclosed left paren")
    return end


def _complaint(source: str, at: int) -> str:
    if at >= len(source):
        return "unclosed action"
    return _UNTERMINATED.get(source[at], f"bad character U+{ord(source[at]):04X} '{source[at]}'")
