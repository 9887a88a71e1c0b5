"""Bars on a terminal, one for each layer, drawn over and over by `rich`; only `progress` imports this, when needed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cutaway.engine.interface import Step

_OVER = ("Download complete", "Pull complete", "Already exists", "Pushed", "Layer already exists")


class Bars:
    """What to write to a terminal; `window` tells its rows and columns, which may change meanwhile."""

    def __init__(self, window: Callable[[], tuple[int, int]], environment: Mapping[str, str]) -> None:
        self._window, self._text = window, io.StringIO()
        self._console = _Terminal(file=self._text, force_terminal=True, _environ=environment)
        self._progress = Progress(
            TextColumn("{task.fields[layer]}: {task.description}"),
            BarColumn(None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def add(self, step: Step) -> None:
        """Has the next drawing show this."""
        if step.id not in self._tasks and not step.total:
            return self._console.print(f"{step.id}: {step.status}", markup=False, highlight=False, soft_wrap=True)
        if step.id not in self._tasks:
            self._tasks[step.id] = self._progress.add_task("", layer=step.id)
        done = step.total if step.status in _OVER else step.done or None
        self._progress.update(self._tasks[step.id], description=step.status, total=step.total, completed=done)
        return None

    def drawn(self) -> str:
        """What to write now."""
        rows, columns = self._window()
        self._console.size = self._console.size._replace(width=columns or 80, height=rows or 25)
        self._progress.refresh()
        return self._taken()

    def finished(self) -> str:
        """What to write last, with which the cursor is below it all."""
        text = self.drawn()
        self._progress.stop()
        return text + self._taken()

    def _taken(self) -> str:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text


class _Terminal(Console):
    """One whose cursor stays visible: a caller who is interrupted in the middle would be left without it."""

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002
        return False
