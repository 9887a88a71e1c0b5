"""What a lesson looks like: to a reader (`Reading`), played by itself (`Playing`), or unseen (`Silence`)."""

from __future__ import annotations

import math
import os
import re
import shutil
import textwrap
from typing import TYPE_CHECKING

from cutaway.lessons import predictions
from cutaway.lessons.interruption import Interrupted
from cutaway.lessons.lesson import HOST

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from cutaway.lessons.interruption import Interruption
    from cutaway.lessons.lesson import Ask, Guess, Lesson

    Answer = TypeVar("Answer")

STDIN, STDOUT = 0, 1
MAX_WIDTH, MAX_LINES = 80, 14
"""Columns that text fills at most; lines of a command's output that are shown, so that all stays in sight."""
BOLD, DIM, ITALIC, RED, GREEN, YELLOW, CYAN = "1", "2", "3", "31", "32", "33", "36"
_TRIES = 3
_PER_LETTER, _PER_COMMAND, _PER_WORD, _PER_QUESTION = 0.03, 0.5, 0.25, 3.0  # seconds
_CODE, _TERM = re.compile("`([^`]+)`"), re.compile(r"\*(\w[^*]*\w)\*")


class Screen:
    """Writes a lesson down. What waits for a reader, or makes up for one, is in the classes below."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._is_terminal = os.isatty(STDOUT)
        self._colours = self._is_terminal and "NO_COLOR" not in os.environ
        self._width = min(shutil.get_terminal_size().columns, MAX_WIDTH) if self._is_terminal else MAX_WIDTH

    def title(self, lesson: Lesson) -> None:
        line = "─" * (self._width - len(lesson.topic) - 6)
        self.write(f"\n─── {self._in(BOLD, lesson.topic)} {line}\n    {self._in(BOLD, lesson.title)}\n")

    def say(self, text: str) -> None:
        for paragraph in text.split("\n\n"):
            self.write(f"\n{self._wrapped(paragraph)}\n")
        self.after_text(text)

    def command(self, at: str, command: str, *, wait: bool = True) -> None:
        """Shows a command as it is typed, and returns when it is to run: at once, unless it is to `wait`."""
        prompt = "# " if at == HOST else f"{at} # "
        self.write(f"\n  {self._in(GREEN if at == HOST else YELLOW, prompt)}")
        shown = command.replace("\n", f"\n  {' ' * len(prompt)}")
        if wait:
            self.type(shown)
        else:
            self.write(f"{self._in(BOLD, shown)}\n")

    def output(self, text: str) -> None:
        lines = [_cut(_printable(line), self._width - 5) for line in text.splitlines()]
        if len(lines) > MAX_LINES:
            hidden = len(lines) - MAX_LINES + 1
            lines[MAX_LINES - 1 :] = [self._in(DIM, f"(and {hidden} lines more)")]
        self.write("".join(f"  {self._in(DIM, '│')} {line}\n" for line in lines))

    def ask(self, ask: Ask) -> str | None:
        """The letter that is predicted; None for no prediction."""
        self._question(ask.question)
        for letter, choice in zip(predictions.LETTERS, predictions.choices(ask), strict=False):
            self.write(f"{self._wrapped(choice, f'      {letter}) ')}\n")
        self.after_question()
        return None

    def guess(self, guess: Guess) -> float | None:
        """The number that is predicted; None for no prediction."""
        self._question(guess.question)
        self.after_question()
        return None

    def _question(self, question: str) -> None:
        self.write(f"\n{self._wrapped(question, self._in(CYAN, '  ? '), 4)}\n")

    def verdict(self, text: str) -> None:
        self.write(f"\n{self._wrapped(text, self._in(CYAN, '  → '), 4)}\n")
        self.after_text(text)

    def claim(self, text: str, *, true: bool) -> None:
        mark = self._in(GREEN, "✓") if true else self._in(RED, "✗")
        self.write(f"{self._wrapped(text, f'  {mark} ', 4)}\n")

    def write(self, text: str) -> None:
        """Raises `Interrupted` where nobody is left to see it."""
        rest = memoryview(text.encode("utf-8", "replace"))
        try:
            while rest:
                rest = rest[os.write(STDOUT, rest) :]
        except OSError:
            raise Interrupted from None

    def _wrapped(self, text: str, start: str = "  ", indent: int = 0) -> str:
        """Lines of the screen's width, the first after `start`, the others indented as far (`indent`: where `start` has
        colours, which take no room)."""
        indent = indent or len(start)
        lines = textwrap.wrap(" ".join(text.split()), self._width - indent - 1, break_on_hyphens=False) or [""]
        return start + self._marked_up(f"\n{' ' * indent}".join(lines))

    def _marked_up(self, text: str) -> str:
        """`code` and *terms* in colours, where there are any."""
        if not self._colours:
            return text
        return _TERM.sub(lambda term: self._in(ITALIC, term[1]), _CODE.sub(lambda code: self._in(BOLD, code[1]), text))

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[m" if self._colours else text

    def type(self, command: str) -> None:
        """Shows the command behind its prompt, and returns when it is to run."""
        raise NotImplementedError

    def after_text(self, text: str) -> None:
        """When there is something to read."""

    def after_question(self) -> None:
        """When there is something to think about."""


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _printable(line: str) -> str:
    """A line that does nothing to a terminal."""
    return "".join(letter if letter.isprintable() else "·" for letter in line.expandtabs())


class Reading(Screen):
    """Waits for a reader, who runs each command with Enter and leaves with q."""

    _explained = False

    def type(self, command: str) -> None:
        self.write(f"{self._in(BOLD, command)}{self._hint()}")
        while line := self._line():
            if line.strip() == "":
                return
            self.write(f"    {self._in(DIM, 'Enter runs the command as it stands; q leaves.')} ")

    def _hint(self) -> str:
        if self._explained:
            return " "
        self._explained = True
        return self._in(DIM, "   ⏎ runs it, q leaves ")

    def ask(self, ask: Ask) -> str | None:
        super().ask(ask)
        return self._answer(lambda text: predictions.letter_of(text, ask), "a letter")

    def guess(self, guess: Guess) -> float | None:
        super().guess(guess)
        return self._answer(predictions.number_of, "a number")

    def _answer(self, read: Callable[[str], Answer | None], wanted: str) -> Answer | None:
        """What the reader answers, as `read` understands it; None for no prediction."""
        self.write(f"    {self._in(DIM, f'{wanted}; ⏎ just shows')} > ")
        for _ in range(_TRIES):
            line = self._line()
            if not line.strip():
                return None
            if (answer := read(line)) is not None:
                return answer
            self.write(f"    {self._in(DIM, f'{wanted}, please, or just ⏎')} > ")
        return None

    def _line(self) -> str:
        """What is typed up to Enter. Raises `Interrupted` for a signal, for q, and at the end of input."""
        line = b""
        while not line.endswith(b"\n"):
            self._interruption.wait(STDIN, math.inf)
            part = os.read(STDIN, 1024)
            if not part:
                raise Interrupted
            line += part
        if line.strip().lower() in (b"q", b"quit"):
            raise Interrupted
        return line.decode("utf-8", "replace")

    def choose(self, question: str) -> str:
        """What is typed at a question. Raises `Interrupted` as `_line`."""
        self.write(f"{question} ")
        return self._line().strip()


class Playing(Screen):
    """Types by itself, and leaves the time to read where a terminal shows it."""

    def type(self, command: str) -> None:
        for letter in command:
            self.write(self._in(BOLD, letter) if letter != "\n" else letter)
            self._pause(_PER_LETTER)
        self._pause(_PER_COMMAND)
        self.write("\n")

    def after_question(self) -> None:
        self._pause(_PER_QUESTION)

    def after_text(self, text: str) -> None:
        self._pause(len(text.split()) * _PER_WORD)

    def _pause(self, seconds: float) -> None:
        self._interruption.wait(-1, seconds if self._is_terminal else 0)


class Silence(Screen):
    """Shows nothing."""

    def write(self, text: str) -> None:
        pass

    def type(self, command: str) -> None:
        pass
