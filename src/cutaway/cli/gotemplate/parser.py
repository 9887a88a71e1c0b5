"""From tokens to a tree, by recursive descent. <https://pkg.go.dev/text/template>"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from cutaway.cli.gotemplate import lexer
from cutaway.cli.gotemplate.lexer import TemplateError, Token
from cutaway.cli.gotemplate.nodes import (
    Action,
    Block,
    Break,
    Command,
    Continue,
    Dot,
    Field,
    Function,
    If,
    Include,
    Literal,
    Nil,
    Node,
    Operand,
    Pipeline,
    Range,
    Text,
    Variable,
    With,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container

_BRANCHES: dict[str, Callable[[Pipeline, Block, Block], Node]] = {"if": If, "with": With, "range": Range}
_CONSTANTS = {"true": True, "false": False}


class Template(NamedTuple):
    """What was read: the main block, and those made with `{{define}}` and `{{block}}`."""

    source: str
    main: Block
    defined: dict[str, Block]


def parse(source: str, functions: Container[str]) -> Template:
    """Reads a template that may call `functions`. Raises `TemplateError`."""
    parser = _Parser(source, functions)
    main, ended_by = parser.block(top=True)
    assert not ended_by
    return Template(source, main, parser.defined)


class _Parser:
    def __init__(self, source: str, functions: Container[str]) -> None:
        self._source, self._functions = source, functions
        self._tokens = list(lexer.tokens(source))
        self._at = 0
        self._variables = ["$"]
        self._loops = 0
        self.defined: dict[str, Block] = {}

    # Tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._token
        self._at += 1
        return token

    def _skip_space(self) -> None:
        while self._token.kind == lexer.SPACE:
            self._at += 1

    def _error(self, reason: str) -> TemplateError:
        return lexer.error_at(self._source, min(self._token.start, len(self._source)), reason)

    def _expect(self, kind: str, where: str) -> Token:
        self._skip_space()
        if self._token.kind != kind:
            raise self._unexpected(where)
        return self._next()

    def _unexpected(self, where: str) -> TemplateError:
        if self._token.kind == lexer.END:
            return self._error("unexpected EOF")
        shown = "}}" if self._token.kind == lexer.CLOSE else self._token.text
        return self._error(f'unexpected "{shown}" in {where}')

    def _text_since(self, start: int) -> str:
        return self._source[start : self._tokens[self._at - 1].start + len(self._tokens[self._at - 1].text)].strip()

    # Blocks

    def block(self, *, top: bool = False) -> tuple[Block, str]:
        """Nodes up to an `end` or `else`, and which of the two it was; at the top, to the template's end."""
        nodes: list[Node] = []
        while True:
            token = self._next()
            if token.kind == lexer.END:
                self._at -= 1
                if not top:
                    raise self._error("unexpected EOF")
                return tuple(nodes), ""
            if token.kind == lexer.TEXT:
                nodes.append(Text(token.text))
                continue
            self._skip_space()
            word = self._token.text if self._token.kind == lexer.WORD else ""
            if word in ("end", "else"):
                if top:
                    raise self._error(f"unexpected {{{{{word}}}}}")
                self._next()
                return tuple(nodes), word
            node = self._action(word)
            if node is not None:
                nodes.append(node)

    def _action(self, word: str) -> Node | None:
        if word in _BRANCHES:
            self._next()
            return self._branch(word)
        if word == "template":
            return self._include()
        if word == "define":
            self._define()
            return None
        if word == "block":
            return self._block_action()
        if word in ("break", "continue"):
            return self._jump(word)
        pipeline = self._pipeline("command", lexer.CLOSE)
        return Action(pipeline)

    def _branch(self, word: str) -> Node:
        known = len(self._variables)
        pipeline = self._pipeline(word, lexer.CLOSE)
        self._loops += word == "range"
        then, ended_by = self.block()
        self._loops -= word == "range"
        otherwise: Block = ()
        if ended_by == "else":
            self._skip_space()
            if self._token.kind == lexer.WORD and self._token.text == word and word != "range":
                self._next()
                otherwise = (self._branch(word),)
                del self._variables[known:]
                return _BRANCHES[word](pipeline, then, otherwise)
            self._expect(lexer.CLOSE, "else")
            otherwise, ended_by = self.block()
            if ended_by != "end":
                raise self._error("expected end; found {{else}}")
        self._expect(lexer.CLOSE, "end")
        del self._variables[known:]
        return _BRANCHES[word](pipeline, then, otherwise)

    def _include(self) -> Include:
        start = self._next().start
        name = self._name("template clause")
        self._skip_space()
        pipeline = None if self._token.kind == lexer.CLOSE else self._pipeline("template clause", lexer.CLOSE)
        if pipeline is None:
            self._next()
        return Include(name, pipeline, start)

    def _define(self) -> None:
        self._next()
        name = self._name("define clause")
        self._expect(lexer.CLOSE, "define clause")
        self.defined[name] = self._own_block("define clause")

    def _block_action(self) -> Include:
        start = self._next().start
        name = self._name("block clause")
        pipeline = self._pipeline("block clause", lexer.CLOSE)
        self.defined[name] = self._own_block("block clause")
        return Include(name, pipeline, start)

    def _own_block(self, where: str) -> Block:
        """A block that sees no variables of the place where it stands."""
        outer, self._variables = self._variables, ["$"]
        block, ended_by = self.block()
        self._variables = outer
        if ended_by != "end":
            raise self._error(f"unexpected {{{{else}}}} in {where}")
        self._expect(lexer.CLOSE, "end")
        return block

    def _name(self, where: str) -> str:
        token = self._expect(lexer.STRING, where)
        return _unquoted(token.text)

    def _jump(self, word: str) -> Node:
        if not self._loops:
            raise self._error(f"{{{{{word}}}}} outside {{{{range}}}}")
        self._next()
        self._expect(lexer.CLOSE, word)
        return Break() if word == "break" else Continue()

    # Pipelines

    def _pipeline(self, where: str, end: str) -> Pipeline:
        self._skip_space()
        start = self._token.start
        variables, declares = self._declaration(where)
        commands = []
        while True:
            self._skip_space()
            if self._token.kind == end or (end == ")" and self._token.text == ")"):
                break
            commands.append(self._command(where))
            self._skip_space()
            if self._token.text == "|" and self._token.kind == lexer.SYMBOL:
                self._next()
        if not commands:
            raise self._error(f"missing value for {where}")
        text = self._text_since(start)
        self._next()
        if declares:
            self._variables += variables
        return Pipeline(tuple(commands), start, text, variables, declares)

    def _declaration(self, where: str) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$x =`, and for `range` `$i, $x :=`; nothing where it is only a use of a variable."""
        before = self._at
        names = []
        while self._token.kind == lexer.VARIABLE:
            names.append(self._next().text)
            self._skip_space()
            if self._token.text != "," or where != "range" or len(names) == 2:
                break
            self._next()
            self._skip_space()
        if names and self._token.kind == lexer.SYMBOL and self._token.text in (":=", "="):
            declares = self._next().text == ":="
            if not declares:
                for name in names:
                    self._check_variable(name)
            return tuple(names), declares
        self._at = before
        return (), False

    def _command(self, where: str) -> Command:
        start = self._token.start
        operands: list[Operand] = []
        while (operand := self._operand()) is not None:
            operands.append(operand)
            if self._token.kind != lexer.SPACE:
                break
            self._skip_space()
        if not operands:
            raise self._unexpected(where)
        ended = self._token.kind == lexer.CLOSE or self._token.text in ("|", ")")
        if not ended:
            raise self._unexpected(where if self._token.kind != lexer.SYMBOL else "operand")
        return Command(tuple(operands), start, self._text_since(start))

    def _operand(self) -> Operand | None:
        """One operand with the fields behind it; None where there is none."""
        start = self._token.start
        operand = self._term()
        if self._token.kind != lexer.FIELD or operand is None:
            return operand
        second = self._token.start
        names = []
        while self._token.kind == lexer.FIELD:
            names.append(self._next().text[1:])
        text = self._text_since(start)
        if isinstance(operand, Field) and operand.of is None:
            return Field(None, operand.names + tuple(names), second, text)
        if isinstance(operand, Field | Variable | Pipeline):
            return Field(operand, tuple(names), second, text)
        raise self._error(f"unexpected . after term {operand.text!r}".replace("'", '"'))

    def _term(self) -> Operand | None:
        token = self._token
        if token.text == "(" and token.kind == lexer.SYMBOL:
            self._next()
            return self._pipeline("parenthesized pipeline", ")")
        operand = self._simple_term(token)
        if operand is not None:
            self._next()
        return operand

    def _simple_term(self, token: Token) -> Operand | None:
        match token.kind:
            case lexer.FIELD:
                return Field(None, (token.text[1:],), token.start, token.text)
            case lexer.DOT:
                return Dot(token.start)
            case lexer.VARIABLE:
                return Variable(self._check_variable(token.text), token.start, token.text)
            case lexer.WORD:
                return self._word(token)
            case lexer.NUMBER:
                return Literal(self._number(token.text), token.start, token.text)
            case lexer.STRING:
                return Literal(_unquoted(token.text), token.start, token.text)
            case lexer.CHARACTER:
                return Literal(ord(_unquoted(token.text)), token.start, token.text)
        return None

    def _word(self, token: Token) -> Operand:
        if token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text], token.start, token.text)
        if token.text == "nil":
            return Nil(token.start)
        if token.text not in self._functions:
            raise self._error(f'function "{token.text}" not defined')
        return Function(token.text, token.start, token.text)

    def _check_variable(self, name: str) -> str:
        if name not in self._variables:
            raise self._error(f'undefined variable "{name}"')
        return name

    def _number(self, text: str) -> int | float:
        try:
            return int(text.replace("_", ""), 0)
        except ValueError:
            pass
        try:
            return float(text.replace("_", ""))
        except ValueError:
            raise self._error(f'bad number syntax: "{text}"') from None


def _unquoted(text: str) -> str:
    """A Go string or character constant; its escapes are a part of Python's."""
    return text[1:-1] if text.startswith("`") else str(ast.literal_eval(text))
