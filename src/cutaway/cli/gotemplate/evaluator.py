"""Carrying out a template: a walk over its tree with a dot, variables and functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway.cli.gotemplate import values
from cutaway.cli.gotemplate.functions import FUNCTIONS, FunctionError
from cutaway.cli.gotemplate.lexer import TemplateError
from cutaway.cli.gotemplate.nodes import (
    Action,
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
    Pipeline,
    Range,
    Text,
    Variable,
    With,
)
from cutaway.cli.gotemplate.values import is_true

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cutaway.cli.gotemplate.nodes import Block, Node, Operand
    from cutaway.cli.gotemplate.parser import Template

MAX_DEPTH = 200
"""How deep templates may include each other, so that one that includes itself ends."""
_LOGIC = frozenset({"and", "or", "not"})
NAMES = frozenset(FUNCTIONS) | _LOGIC


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Scope(NamedTuple):
    """What a node sees: the dot, and the variables by name, innermost last."""

    dot: Any
    variables: tuple[dict[str, Any], ...]

    def inner(self, dot: Any, **variables: Any) -> _Scope:
        return _Scope(dot, (*self.variables, variables))

    def holder(self, name: str) -> dict[str, Any]:
        return next(frame for frame in reversed(self.variables) if name in frame)


class Evaluator:
    """One carrying out of a template. Raises `TemplateError`."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._out: list[str] = []
        self._depth = 0

    def run(self, value: Any) -> str:
        self._block(self._template.main, _Scope(value, ({"$": value},)))
        return "".join(self._out)

    def _fail(self, node: Operand | Command | Include, reason: str, text: str = "") -> TemplateError:
        before = self._template.source[: node.start]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n") - 1
        shown = text or getattr(node, "text", "")
        return TemplateError(f'template: :{line}:{column}: executing "" at <{shown}>: {reason}')

    def _block(self, block: Block, scope: _Scope) -> None:
        scope = scope.inner(scope.dot)
        for node in block:
            self._node(node, scope)

    def _node(self, node: Node, scope: _Scope) -> None:
        match node:
            case Text(text):
                self._out.append(text)
            case Action(pipeline):
                value = self._pipeline(pipeline, scope)
                if not pipeline.variables:
                    self._out.append(values.NO_VALUE if value is None else values.plain(value))
            case If(pipeline, then, otherwise):
                scope = scope.inner(scope.dot)
                self._block(then if is_true(self._pipeline(pipeline, scope)) else otherwise, scope)
            case With(pipeline, then, otherwise):
                scope = scope.inner(scope.dot)
                value = self._pipeline(pipeline, scope)
                self._block(then, scope._replace(dot=value)) if is_true(value) else self._block(otherwise, scope)
            case Range():
                self._range(node, scope)
            case Include():
                self._include(node, scope)
            case Break():
                raise _Break
            case Continue():
                raise _Continue

    def _range(self, node: Range, scope: _Scope) -> None:
        pairs = list(self._pairs(node.pipeline, self._value(node.pipeline, scope)))
        if not pairs:
            return self._block(node.otherwise, scope)
        for key, element in pairs:
            inner = scope.inner(element)
            self._set_loop_variables(node.pipeline, inner, key, element)
            try:
                self._block(node.then, inner)
            except _Break:
                break
            except _Continue:
                continue
        return None

    def _pairs(self, node: Pipeline, value: Any) -> Iterable[tuple[Any, Any]]:
        if isinstance(value, dict):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, list | tuple):
            return enumerate(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return enumerate(range(value))
        if isinstance(value, values.NILS):
            return []
        raise self._fail(node, f"range can't iterate over {values.plain(value)}")

    def _set_loop_variables(self, pipeline: Pipeline, scope: _Scope, key: Any, element: Any) -> None:
        names = pipeline.variables
        for name, value in zip(names, (element,) if len(names) == 1 else (key, element), strict=False):
            (scope.variables[-1] if pipeline.declares else scope.holder(name))[name] = value

    def _include(self, node: Include, scope: _Scope) -> None:
        block = self._template.defined.get(node.name)
        if block is None:
            raise self._fail(node, f'template "{node.name}" not defined', f'{{{{template "{node.name}"}}}}')
        dot = self._pipeline(node.pipeline, scope) if node.pipeline else None
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fail(node, "exceeded maximum template depth", f'{{{{template "{node.name}"}}}}')
        self._block(block, _Scope(dot, ({"$": dot},)))
        self._depth -= 1

    def _pipeline(self, pipeline: Pipeline, scope: _Scope) -> Any:
        """Its value, which its variable is set to."""
        value = self._value(pipeline, scope)
        for name in pipeline.variables:
            (scope.variables[-1] if pipeline.declares else scope.holder(name))[name] = value
        return value

    def _value(self, pipeline: Pipeline, scope: _Scope) -> Any:
        first, *others = pipeline.commands
        value = self._command(first, scope, ())
        for command in others:
            value = self._command(command, scope, (value,))
        return value

    def _command(self, command: Command, scope: _Scope, piped: tuple[Any, ...]) -> Any:
        first, *arguments = command.operands
        if isinstance(first, Function):
            return self._call(first, command, arguments, scope, piped)
        if isinstance(first, Nil):
            raise self._fail(first, "nil is not a command")
        value = self._operand(first, scope)
        if callable(value):
            return value(*(self._operand(argument, scope) for argument in arguments), *piped)
        if arguments or piped:
            raise self._fail(first, f"can't give argument to non-function {first.text}")
        return value

    def _call(
        self, function: Function, command: Command, arguments: list[Operand], scope: _Scope, piped: tuple[Any, ...]
    ) -> Any:
        if function.name in _LOGIC:
            return self._logic(function, arguments, scope, piped)
        known = FUNCTIONS[function.name]
        given = [*(self._operand(argument, scope) for argument in arguments), *piped]
        self._check_count(function, len(given), known.least, known.most)
        if known.texts and (wrong := next((value for value in given if not isinstance(value, str)), None)) is not None:
            raise self._fail(command, f"wrong type for value; expected string; got {values.type_name(wrong)}")
        try:
            return known.do(*given)
        except FunctionError as problem:
            raise self._fail(command, f"error calling {function.name}: {problem}") from None
        except (TypeError, ValueError, AttributeError):
            raise self._fail(command, f"wrong type for an argument of {function.name}") from None

    def _check_count(self, function: Function, count: int, least: int, most: int | None) -> None:
        if count < least or (most is not None and count > most):
            wanted = least if most == least else f"at least {least}"
            raise self._fail(function, f"wrong number of args for {function.name}: want {wanted} got {count}")

    def _logic(self, function: Function, arguments: list[Operand], scope: _Scope, piped: tuple[Any, ...]) -> Any:
        """`and` gives the first argument that is false, or the last; `or` the first that is true, or the last."""
        self._check_count(function, len(arguments) + len(piped), 1, 1 if function.name == "not" else None)
        value = None
        for argument in arguments:
            value = self._operand(argument, scope)
            if function.name != "not" and is_true(value) == (function.name == "or"):
                return value
        value = piped[0] if piped else value
        return not is_true(value) if function.name == "not" else value

    def _operand(self, operand: Operand, scope: _Scope) -> Any:
        match operand:
            case Literal(value):
                return value
            case Dot():
                return scope.dot
            case Nil():
                return None
            case Variable(name):
                return scope.holder(name)[name]
            case Pipeline():
                return self._pipeline(operand, scope)
            case Function():
                return self._call(operand, Command((operand,), operand.start, operand.text), [], scope, ())
            case Field(of, names):
                return self._fields(operand, scope.dot if of is None else self._operand(of, scope), names)

    def _fields(self, node: Field, value: Any, names: tuple[str, ...]) -> Any:
        try:
            for name in names:
                value = values.field(value, name)
        except values.Missing as problem:
            raise self._fail(node, str(problem)) from None
        return value
