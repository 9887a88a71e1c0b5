"""What both drawings are made of: walls, gauges, namespaces as cells, layers as strata."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cutaway.xray import units

if TYPE_CHECKING:
    from cutaway.xray.drawing.canvas import Canvas
    from cutaway.xray.model import Container, Namespace, Root

WIDTH = 1280
"""Of every drawing: a slide's, and a laptop's."""
WALL = 8
_THINNEST, _THICKEST = 17.0, 34.0
_STRATA = 4
"""Kinds of earth that layers look like in turn."""
_CELL_GAP = 3.0
_NEARLY_ALL = 0.9
_SHORT_KINDS = {"cgroup": "cgrp"}


def accent(engine: str) -> str:
    """The class that has an engine's colour."""
    return "of-" + "".join(letter for letter in engine.lower() if letter.isalpha())


def gauge(
    canvas: Canvas, x: float, y: float, width: float, label: str, value: str, part: float | None, style: str
) -> None:
    """A label, a value, and below them a bar that is full by `part`; an empty one for None."""
    canvas.text(x, y + 11, label, "muted", 11, room=width * 0.24)
    canvas.text(x + width, y + 11, value, "ink", 11, room=width * 0.75, anchor="end")
    canvas.rect(x, y + 17, width, 5, "trough", radius=2.5)
    if part:
        shown = "hot" if part > _NEARLY_ALL and "pale" not in style else style
        canvas.rect(x, y + 17, max(width * part, 3), 5, shown, radius=2.5)


def cells(canvas: Canvas, x: float, y: float, width: float, namespaces: list[Namespace], style: str) -> None:
    """The namespaces in a row: full where it is the container's own, hollow where it shares the host's."""
    each_width = (width - _CELL_GAP * (len(namespaces) - 1)) / max(len(namespaces), 1)
    for at, each in enumerate(namespaces):
        left = x + at * (each_width + _CELL_GAP)
        state = "hollow" if not each.own else f"half {style}" if each.shared_with else f"full {style}"
        with_whom = f"shared with {', '.join(each.shared_with)}" if each.shared_with else "its own"
        canvas.rect(left, y, each_width, 20, state, radius=4, title=f"{each.kind} namespace: {with_whom}")
        name = _SHORT_KINDS.get(each.kind, each.kind)
        canvas.text(left + each_width / 2, y + 13.5, name, "cell bold" if each.own else "cell muted", 8.5,
                    room=each_width, anchor="middle")  # fmt: skip


def strata_height(root: Root | None, most: int) -> float:
    """How high `strata` will be."""
    return sum(height for height, *_ in _slabs(root, most))


def strata(canvas: Canvas, x: float, y: float, width: float, root: Root | None, most: int, style: str) -> None:
    """The root file system from the top down: what was written, then layer below layer."""
    for height, fill, left, right, title in _slabs(root, most):
        canvas.rect(x, y, width, height, f"{fill} {style}" if fill == "written" else fill, title=title)
        middle = y + height / 2 + 4
        canvas.text(x + 8, middle, left, "slab bold" if fill == "written" else "slab", 10.5, room=width * 0.58 - 12)
        canvas.text(x + width - 8, middle, right, "slab", 10.5, room=width * 0.42 - 8, anchor="end")
        y += height


def _slabs(root: Root | None, most: int) -> list[tuple[float, str, str, str, str]]:
    """Height, kind of earth, what is written left and right, and the whole, from the top down."""
    if root is None:
        return [(20, "stratum-0", "files not to be seen", "", "")]
    if not root.layers:
        what = {"host": "the host's own files", "directory": "one directory"}.get(root.kind, root.kind)
        return [(26, "stratum-1", what, "read-only" if root.read_only else "", root.source)]
    found = []
    if root.upper:
        counts = {kind: sum(each.kind == kind for each in root.changes) for kind in ("added", "changed", "deleted")}
        marks = f"+{counts['added']}  ~{counts['changed']}  −{counts['deleted']}"
        found.append((22.0, "written", f"written {units.size(root.size)}", marks, root.upper))
    shown = root.layers if len(root.layers) <= most else root.layers[: most - 1]
    for at, layer in enumerate(shown):
        shared = f" · ×{layer.shared_with + 1}" if layer.shared_with else ""
        files = units.number(layer.files, "file") if layer.files is not None else ""
        found.append(
            (_thickness(layer.size), f"stratum-{at % _STRATA}", f"{units.size(layer.size)}{shared}", files, layer.path)
        )
    if rest := root.layers[len(shown) :]:
        size = units.size(sum(layer.size or 0 for layer in rest))
        found.append((_THINNEST, f"stratum-{len(shown) % _STRATA}", f"{len(rest)} more layers", size, ""))
    return found


def _thickness(size: int | None) -> float:
    """Thicker by the order of magnitude: from a few bytes to gigabytes."""
    return min(_THINNEST + 2.2 * math.log10(1 + (size or 0) / 1e4), _THICKEST)


def memory_gauge(
    canvas: Canvas, x: float, y: float, width: float, container: Container, total: int, style: str
) -> None:
    """Memory used, of what it may use."""
    found = container.cgroup
    if found is None or not found.own:
        gauge(canvas, x, y, width, "memory", "counted with others", None, style)
        return
    limit = found.memory.limit
    value = (
        f"{units.size(found.memory.usage)} of {units.size(limit)}"
        if limit
        else f"{units.size(found.memory.usage)}, no limit"
    )
    gauge(canvas, x, y, width, "memory", value, units.share(found.memory.usage, limit or total), style)


def cpu_gauge(canvas: Canvas, x: float, y: float, width: float, container: Container, cpus: int, style: str) -> None:
    """How much of the machine's CPUs it may use, and what it has used."""
    found = container.cgroup
    if found is None or not found.own:
        gauge(canvas, x, y, width, "CPU", "counted with others", None, style)
        return
    limit = f"up to {units.cpus(found.cpu.limit)}" if found.cpu.limit else "no limit"
    part = units.share(found.cpu.limit, cpus) if found.cpu.limit else None
    gauge(canvas, x, y, width, "CPU", f"{units.seconds(found.cpu.time)}, {limit}", part, f"{style} pale")


def tasks_gauge(canvas: Canvas, x: float, y: float, width: float, container: Container, style: str) -> None:
    """Tasks there are, of those there may be."""
    found = container.cgroup
    if found is None or not found.own:
        gauge(canvas, x, y, width, "tasks", "counted with others", None, style)
        return
    limit = found.tasks.limit
    value = f"{found.tasks.current} of {limit}" if limit else f"{found.tasks.current}, no limit"
    gauge(canvas, x, y, width, "tasks", value, units.share(found.tasks.current, limit) if limit else None, style)
