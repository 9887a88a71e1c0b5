"""Text in columns, padded with spaces, as Docker prints it."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def render(rows: Sequence[Sequence[str]], *, gap: int = 3, least: int = 0) -> str:
    """Lines of cells: a column is `gap` wider than its widest cell, at least `least`; the last is not padded."""
    widths: list[int] = []
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            if column == len(widths):
                widths.append(least)
            widths[column] = max(widths[column], columns_of(cell) + gap)
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell + " " * (width - columns_of(cell)) for cell, width in zip(row[:-1], widths, strict=False)]
    return "".join([*padded, *row[-1:]])


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes; wide characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
