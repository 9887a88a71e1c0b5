"""Lists: rows of named columns, shown as a table, as JSON, or by a template of the user's (`--format`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec

from cutaway.cli import gotemplate, table
from cutaway.cli.gotemplate import TemplateError
from cutaway.cli.gotemplate.lexer import FIELD, tokens
from cutaway.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Item = TypeVar("Item")
LEAST_COLUMN = 10


class Column(NamedTuple, Generic[Item]):
    """One thing that can be shown of each item: its header in a table, and its text."""

    header: str
    text: Callable[[Item], Any]


class Listing(Generic[Item]):
    """A kind of list. `default` names the columns of its table; `kind` is what error messages call an item."""

    def __init__(self, kind: str, default: Sequence[str], columns: dict[str, Column[Item]]) -> None:
        self._kind, self._default, self._columns = kind, default, columns

    def uses(self, format: str, column: str) -> bool:
        """Whether a format shows a column: one that is costly to find out is not asked for otherwise."""
        if format == "json":
            return True
        if format in ("", "table"):
            return column in self._default
        return any(token.kind == FIELD and token.text == f".{column}" for token in _tokens(_unescaped(format)))

    def render(self, items: Iterable[Item], format: str = "", *, also: Sequence[str] = ()) -> str:
        """All items as `format` says, a line each: empty or `table`, `table TEMPLATE`, `json`, or a template.

        `also` adds columns to the default table. Raises `InvalidArgument` for a template that cannot be.
        """
        if format == "json":
            return "".join(self._json(item) for item in items)
        if format in ("", "table"):
            format = "table " + "\t".join(f"{{{{.{name}}}}}" for name in (*self._default, *also))
        source = _unescaped(format)
        if not source.startswith("table"):
            return self._by_template(source, items)
        source = source.removeprefix("table").strip()
        return self._table(source, items)

    def _by_template(self, source: str, items: Iterable[Item]) -> str:
        template = _parsed(source)
        return "".join(self._rendered(template, self._row(item)) + "\n" for item in items)

    def _table(self, source: str, items: Iterable[Item]) -> str:
        template = _parsed(source)
        header: dict[str, Any] = {name: column.header for name, column in self._columns.items()}
        header["Label"] = lambda name: name
        rows = [self._rendered(template, row).split("\t") for row in (header, *map(self._row, items))]
        return table.render(rows, least=LEAST_COLUMN) + "\n"

    def _row(self, item: Item) -> dict[str, Any]:
        return _Row({name: column.text for name, column in self._columns.items()}, item)

    def _rendered(self, template: gotemplate.Template, row: dict[str, Any]) -> str:
        try:
            return gotemplate.render(template, row)
        except _UnknownColumn as problem:
            raise InvalidArgument(
                f'failed to execute template: template: :1: executing "" at <.{problem}>: '
                f"can't evaluate field {problem} in type {self._kind}; known are {', '.join(sorted(self._columns))}"
            ) from None
        except TemplateError as problem:
            raise InvalidArgument(f"failed to execute template: {problem}") from None

    def _json(self, item: Item) -> str:
        row = {name: column.text(item) for name, column in self._columns.items() if name != "Label"}
        return msgspec.json.encode(row, order="sorted").decode() + "\n"


class _UnknownColumn(Exception):
    pass


class _Row(dict[str, Any]):
    """What a template sees of an item: a column is worked out when it is asked for."""

    def __init__(self, columns: dict[str, Callable[[Any], Any]], item: Any) -> None:
        super().__init__(columns)
        self._item = item

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ARG002, the signature is the dict's
        if name not in self:
            raise _UnknownColumn(name)
        return self[name](self._item)


def _unescaped(format: str) -> str:
    """`\\t` and `\\n` as a shell passes them."""
    return format.replace("\\t", "\t").replace("\\n", "\n")


def _tokens(source: str) -> list[Any]:
    try:
        return list(tokens(source))
    except TemplateError:  # said when it is rendered
        return []


def _parsed(source: str) -> gotemplate.Template:
    try:
        return gotemplate.parse(source)
    except TemplateError as problem:
        raise InvalidArgument(f"failed to parse template: {problem}") from None
