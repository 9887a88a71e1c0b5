"""A canvas: shapes at their places, and how wide text is, so that nothing overlaps whatever things are called."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

_WIDE, _NARROW = frozenset("mwMW@%—…→↔"), frozenset("iljtfr.,:;'|!()[] ·")
_FACTORS = {"": 1.0, "bold": 1.13}
MONOSPACED = 0.61
"""The width of every letter of a monospaced font, in ems."""


class Shape(NamedTuple):
    """One mark: `kind` is "rect", "text", "line", "path", "start" or "end" (of a group); `style` its classes."""

    kind: str
    style: str = ""
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0
    text: str = ""
    size: float = 0
    anchor: str = ""
    title: str = ""


class Canvas:
    """What is drawn, in order, and how large it is."""

    def __init__(self, width: float) -> None:
        self.width, self.height = width, 0.0
        self.shapes: list[Shape] = []

    def rect(
        self, x: float, y: float, width: float, height: float, style: str, *, radius: float = 0, title: str = ""
    ) -> None:
        """A rectangle with rounded corners; `title` shows where one points at it."""
        self.shapes.append(Shape("rect", style, x, y, max(width, 0), max(height, 0), size=radius, title=title))

    def line(self, x: float, y: float, to_x: float, to_y: float, style: str) -> None:
        """A straight line."""
        self.shapes.append(Shape("line", style, x, y, to_x, to_y))

    def path(self, commands: str, style: str) -> None:
        """Any path, in SVG's words, of numbers that were computed here."""
        self.shapes.append(Shape("path", style, text=commands))

    def frame(self, x: float, y: float, width: float, height: float, thickness: float, style: str) -> None:
        """A wall that has been cut through: hatched, between an outer and an inner outline."""
        outer = _rounded(x, y, width, height, thickness)
        inner = _rounded(x + thickness, y + thickness, width - 2 * thickness, height - 2 * thickness, thickness / 2)
        self.path(f"{outer} {inner}", style)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        style: str,
        size: float,
        *,
        room: float,
        anchor: str = "start",
        title: str = "",
    ) -> None:
        """A line of text on the baseline `y`, cut to the `room` there is."""
        shown = fit(text, room, size, style)
        self.shapes.append(
            Shape(
                "text",
                style,
                x,
                y,
                text=shown,
                size=size,
                anchor=anchor,
                title=title or (text if shown != text else ""),
            )
        )

    def start(self, style: str, title: str = "") -> None:
        """From here to `end`, shapes are a group."""
        self.shapes.append(Shape("start", style, title=title))

    def end(self) -> None:
        self.shapes.append(Shape("end"))


def width_of(text: str, size: float, style: str = "") -> float:
    """How wide a text is at most, in the widest of the fonts that may be there."""
    if "mono" in style:
        return size * MONOSPACED * sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)
    ems = sum(map(_ems, text))
    return size * ems * _FACTORS["bold" if "bold" in style else ""]


def _ems(letter: str) -> float:
    """As DejaVu Sans has it, the widest of those that are usual."""
    if letter in _NARROW:
        return 0.4
    if letter in _WIDE or not letter.isascii():
        return 1.0
    return 0.69 if letter.isupper() else 0.64


def fit(text: str, room: float, size: float, style: str = "") -> str:
    """As much of the text as there is room for, with an ellipsis where that is not all."""
    if width_of(text, size, style) <= room:
        return text
    while text and width_of(f"{text}…", size, style) > room:
        text = text[:-1]
    return f"{text}…" if text else ""


def wrapped(text: str, room: float, size: float, most: int) -> list[str]:
    """The text in at most so many lines, the last of which is cut."""
    lines: list[str] = []
    waiting = text.split()
    while waiting and len(lines) < most:
        line = waiting.pop(0)
        while waiting and (len(lines) == most - 1 or width_of(f"{line} {waiting[0]}", size) <= room):
            line += f" {waiting.pop(0)}"
        lines.append(fit(line, room, size))
    return lines


def _rounded(x: float, y: float, width: float, height: float, radius: float) -> str:
    across, down, r = width - 2 * radius, height - 2 * radius, radius
    corners = (
        f"a{r} {r} 0 0 1 {r} {r}",
        f"a{r} {r} 0 0 1 -{r} {r}",
        f"a{r} {r} 0 0 1 -{r} -{r}",
        f"a{r} {r} 0 0 1 {r} -{r}",
    )
    return f"M{x + r} {y}h{across}{corners[0]}v{down}{corners[1]}h-{across}{corners[2]}v-{down}{corners[3]}z"
