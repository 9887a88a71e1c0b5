"""`--explain`: each step of a plan as it is done, as a tree for people or a JSON object a line for programs.

It is the plan itself that is shown: every step is one of its operations, which says what it is for and how one would do
it by hand. Everything goes to standard error, so that standard output stays the container's.
"""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
import threading
from contextlib import asynccontextmanager
from itertools import chain, repeat
from typing import TYPE_CHECKING

from cutaway.engine.options.option import Kind, Option
from cutaway.plan.plan import CLONE, INSIDE, PREPARATION, PROGRAM, TEARDOWN, watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.plan.operation import Operation
    from cutaway.plan.plan import Step

HEADINGS = {
    PREPARATION: "On the host: the engine prepares",
    CLONE: "A process is cloned",
    INSIDE: "Inside: the process becomes the container's",
    PROGRAM: "The program",
    TEARDOWN: "On the host: it is taken away",
}
MOST_LINES = 12
"""Of a command, on a terminal; the rest is said to be there."""
_PAUSE = 0.02  # seconds
_USUAL_WIDTH = 100
_LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_BOLD, _DIM, _GREEN, _RED = "1", "2", "32", "1;31"


def _form(text: str) -> str:
    if text not in ("tree", "json"):
        raise ValueError("it is tree or json")
    return text


EXPLAIN = Option(
    "explain",
    Kind("[=tree|json]", _form, alone="tree"),
    "Show each step as it is done: what, why, the same by hand, how long",
    completes="tree|json",
)


@asynccontextmanager
async def explained(session: Session, parsed: Parsed) -> AsyncIterator[None]:
    """What is done in the block is shown to the caller, if asked for."""
    form = parsed.options.get("explain")
    if not form:
        yield
        return
    session.explanation = explanation = Explanation(session, form)
    before = watching.set(explanation.note)
    try:
        yield
    finally:
        watching.reset(before)
        await explanation.end()


class Explanation:
    """Steps on their way to the caller. `note` may be called in any thread. Words are found when the event loop is
    free, and go out some milliseconds later, several steps at once: so nothing waits for them but the program, which
    is shown before it can say a word itself."""

    def __init__(self, session: Session, form: str) -> None:
        self._session, self._loop = session, asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._form: Form = Json() if form == "json" else Tree(session)
        self._steps: list[Step] = []
        self._text = ""
        self._finding = self._follows_program = False
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._ended = False

    def note(self, step: Step) -> None:
        if self._ended:
            return
        self._steps.append(step)
        if threading.get_ident() == self._thread:
            self._show_soon(step)
        else:
            self._loop.call_soon_threadsafe(self._show_soon, step)

    def _show_soon(self, step: Step) -> None:
        if step.phase == PROGRAM and step.nanoseconds is None:
            self._send()
            return
        if not self._finding:
            self._finding = True
            self._loop.call_soon(self._find_words)
        if self._timer is None:
            self._timer = self._loop.call_later(_PAUSE, self._send)

    def _find_words(self) -> None:
        self._finding = False
        steps, self._steps = self._steps, []
        self._follows_program = self._follows_program or any(step.phase == TEARDOWN for step in steps)
        self._text += "".join(map(self._form.render, steps))

    def _send(self) -> None:
        self._timer = None
        if self._sending is None or self._sending.done():
            self._sending = self._loop.create_task(self.flush())

    async def flush(self) -> None:
        """Sends what was noted so far."""
        while self._steps or self._text:
            self._find_words()
            text, self._text = self._text, ""
            if self._follows_program:
                await self._session.drain()
            await self._session.connection.err(text.encode("utf-8", "surrogateescape"))

    async def end(self) -> None:
        """From here on nothing more is shown."""
        if self._timer:
            self._timer.cancel()
        if self._sending:
            await self._sending
        await self.flush()
        self._ended = True


class Form:
    """How steps are shown. The words for one that is about to be done are kept until it is done."""

    def __init__(self) -> None:
        self._ahead: dict[int, tuple[Operation, str]] = {}

    def render(self, step: Step) -> str:
        """What is shown of a step; nothing where it is too early for that."""
        known = self._ahead.pop(id(step.operation)) if id(step.operation) in self._ahead else None
        words = known[1] if known else self.describe(step)
        if step.nanoseconds is None:
            self._ahead[id(step.operation)] = step.operation, words
        return self.show(step, words)

    def describe(self, step: Step) -> str:
        """What is said of a step, whenever it is done."""
        raise NotImplementedError

    def show(self, step: Step, words: str) -> str:
        raise NotImplementedError


class Json(Form):
    """Each step as docs/explain.md has it, on a line of its own."""

    def show(self, step: Step, words: str) -> str:
        if step.nanoseconds is None:
            return ""
        error = json.dumps(step.error or None, ensure_ascii=False)
        return f'{{"phase": "{step.phase}", {words}, "nanoseconds": {step.nanoseconds}, "error": {error}}}\n'

    def describe(self, step: Step) -> str:
        operation = step.operation
        words = {
            "operation": type(operation).__name__,
            "undo": step.undone,
            "object": operation.subject(),
            "why": operation.why(),
            "manual": operation.manual,
            "shell": operation.shell_undo() if step.undone else operation.shell(),
        }
        return json.dumps(words, ensure_ascii=False)[1:-1]


class Tree(Form):
    """Steps under the phases that they are of, coloured and cut to the terminal's width where there is one."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session, self._terminal = session, session.is_terminal(2)
        self._colours = self._terminal and not session.caller.environment.get("NO_COLOR")
        self._width = session.width() if self._terminal else 0
        self._phase = ""

    def show(self, step: Step, words: str) -> str:
        shown = ""
        if (step.nanoseconds is None) == (step.phase == PROGRAM):  # that one is shown before it can say a word itself
            shown = f"{self._heading(step)}{self._title(step)}\n{words}"
        if step.error:
            shown += f"│    {self._paint(_RED, f'failed: {step.error}')}\n"
        return shown.replace("\n", "\r\n") if self._terminal and self._session.has_raw_terminal else shown

    def describe(self, step: Step) -> str:
        operation = step.operation
        reason = ("Needed no more: " if step.undone else "") + f"{operation.why()} {operation.manual}"
        lines = self._reason(reason) + self._command(operation.shell_undo() if step.undone else operation.shell())
        return "".join(f"│    {line}\n" for line in lines)

    def _heading(self, step: Step) -> str:
        if step.phase == self._phase:
            return ""
        self._phase = step.phase
        return self._paint(_BOLD, HEADINGS[step.phase]) + "\n"

    def _title(self, step: Step) -> str:
        name = f"{'undo ' if step.undone else ''}{type(step.operation).__name__}"
        took = "" if step.nanoseconds is None else f"{step.nanoseconds / 1e6:.2f} ms"
        subject = self._cut(_LONG_ID.sub(r"\1…", step.operation.subject()), len(name) + len(took) + 6)
        room = (self._width or _USUAL_WIDTH) - len(name) - len(subject) - len(took) - 5
        painted = self._paint(_RED if step.error else _GREEN, name)
        return f"├─ {painted} {subject}{' ' * room} {self._paint(_DIM, took)}".rstrip()

    def _reason(self, text: str) -> list[str]:
        room = self._width - 6 if self._width else len(text)
        return [text] if len(text) <= room else textwrap.wrap(text, room, break_on_hyphens=False)

    def _command(self, text: str) -> list[str]:
        lines = text.splitlines()
        shown = lines[:MOST_LINES] if self._terminal else lines
        signs = chain("$", repeat(" "))
        said = [f"{sign} {self._cut(line, 8)}" for sign, line in zip(signs, shown, strict=False)]
        if len(lines) > len(shown):
            said.append(f"  … {len(lines) - len(shown)} more lines")
        return [self._paint(_DIM, line) for line in said]

    def _cut(self, text: str, taken: int) -> str:
        """What of a line there is room for."""
        room = self._width - taken if self._width else len(text)
        return text if len(text) <= room else text[: max(room - 1, 0)] + "…"

    def _paint(self, colour: str, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours else text
