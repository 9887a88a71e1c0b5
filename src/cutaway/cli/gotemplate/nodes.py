"""A template as a tree. Every node knows where it starts, for the messages about it."""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """`.A.B`, of the dot, or of an operand in parentheses or a variable."""

    of: Operand | None
    names: tuple[str, ...]
    start: int
    text: str


class Variable(NamedTuple):
    name: str
    start: int
    text: str


class Dot(NamedTuple):
    start: int
    text: str = "."


class Nil(NamedTuple):
    start: int
    text: str = "nil"


class Literal(NamedTuple):
    value: str | int | float | bool
    start: int
    text: str


class Function(NamedTuple):
    name: str
    start: int
    text: str


class Pipeline(NamedTuple):
    """Commands from left to right, each result the last argument of the next. `variables` are set to the result (in a
    `range`: to index and element), newly made if `declares`."""

    commands: tuple[Command, ...]
    start: int
    text: str
    variables: tuple[str, ...] = ()
    declares: bool = False


class Command(NamedTuple):
    """An operand alone, or a function or method and its arguments."""

    operands: tuple[Operand, ...]
    start: int
    text: str


Operand = Field | Variable | Dot | Nil | Literal | Function | Pipeline


class Text(NamedTuple):
    text: str


class Action(NamedTuple):
    pipeline: Pipeline


class If(NamedTuple):
    pipeline: Pipeline
    then: Block
    otherwise: Block


class With(NamedTuple):
    pipeline: Pipeline
    then: Block
    otherwise: Block


class Range(NamedTuple):
    pipeline: Pipeline
    then: Block
    otherwise: Block


class Break(NamedTuple):
    pass


class Continue(NamedTuple):
    pass


class Include(NamedTuple):
    """`{{template "name" pipeline}}`."""

    name: str
    pipeline: Pipeline | None
    start: int


Node = Text | Action | If | With | Range | Break | Continue | Include
Block = tuple[Node, ...]
