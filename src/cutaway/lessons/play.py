"""Performing a lesson: its steps on real terminals, its claims checked, and all of it taken back however it ends."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from cutaway.kernel import prctl, procfs
from cutaway.lessons import lesson as steps
from cutaway.lessons import predictions
from cutaway.lessons.interruption import Interrupted
from cutaway.lessons.processes import kill_descendants
from cutaway.lessons.terminals import Ended, Result, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from cutaway.lessons.interruption import Interruption
    from cutaway.lessons.lesson import Lesson, Step
    from cutaway.lessons.screens import Screen
    from cutaway.lessons.setting import Setting

_PATIENCE, _MOMENT = 3.0, 0.01  # seconds


class Untrue(Exception):
    """A claim that does not hold: the text says which, and what was seen instead."""


class Undo(NamedTuple):
    """A command that takes something back, and where it is typed; no command: leaving that terminal."""

    at: str
    command: str


def perform(lesson: Lesson, setting: Setting, screen: Screen, interruption: Interruption) -> int:
    """Plays the lesson and takes everything back; returns how many claims were checked.

    Raises `Untrue` where one is not true, and `Interrupted` where it ended early. What the lesson's commands leave
    running becomes this process's children (`PR_SET_CHILD_SUBREAPER`) and is ended.
    """
    directory = os.path.realpath(tempfile.mkdtemp(prefix="cutaway-learn-"))
    prctl.set_child_subreaper(True)
    try:
        return _Performance(lesson, setting, screen, interruption, directory).run()
    finally:
        kill_descendants(os.getpid())
        prctl.set_child_subreaper(False)
        _remove(directory)


def _remove(directory: str) -> None:
    """Unless something is mounted in it still, which must not be emptied: `/dev`, say."""
    if not any(mount.target.startswith(f"{directory}/") for mount in procfs.mounts()):
        shutil.rmtree(directory, ignore_errors=True)


class _Performance:
    def __init__(
        self, lesson: Lesson, setting: Setting, screen: Screen, interruption: Interruption, directory: str
    ) -> None:
        self._lesson, self._setting = lesson, setting
        self._screen, self._interruption, self._directory = screen, interruption, directory
        self._terminals: dict[str, Terminal] = {}
        self._pending: list[Undo] = []
        self._verdict: Callable[[], str] | None = None
        self._claims = 0

    def run(self) -> int:
        try:
            self._screen.title(self._lesson)
            for step in self._setting.steps(self._lesson):
                self._take(step)
            self._take_down(slowly=False)
        except (Interrupted, Untrue):
            self._say_goodbye()
            raise
        finally:
            self._take_back_in_silence()
        return self._claims

    def _take(self, step: Step) -> None:
        match step:
            case steps.Say():
                self._screen.say(step.text)
            case steps.Do():
                self._do(step)
            case steps.Open():
                self._open(step)
            case steps.Leave():
                self._leave(step.name)
            case steps.Ask():
                said = self._screen.ask(step)
                self._verdict = lambda: predictions.judge_choice(step, said)
            case steps.Guess():
                number = self._screen.guess(step)
                self._verdict = lambda: predictions.judge_number(step, number, self._answer(step))
            case steps.Check():
                self._check(step)
            case steps.TakeDown():
                self._take_down(slowly=step.slowly)

    def _do(self, step: steps.Do) -> None:
        self._screen.command(step.at, step.command)
        if step.undo:
            self._pending.append(Undo(step.at, step.undo))
        result = self._type(step.at, step.command, heed=not step.undo)
        if bool(result.status) != step.fails:
            if step.undo:  # it has done nothing, and what is there is not ours
                self._pending.pop()
            raise Untrue(_failure(step.command, result))
        self._take_off(Undo(step.at, step.command))
        self._show(result.output)

    def _take_back(self, undo: Undo, *, wait: bool) -> None:
        self._screen.command(undo.at, undo.command, wait=wait)
        result = self._type_until_done(undo.at, undo.command)
        if result.status:
            raise Untrue(_failure(undo.command, result))
        self._take_off(undo)
        self._show(result.output)

    def _open(self, step: steps.Open) -> None:
        self._screen.command(steps.HOST, step.command)
        terminal = self._new_terminal(step.command)
        try:
            said = terminal.run("exec 2>&1", heed=False).output
        except Ended as end:  # what there is to undo, it has not done: what is there is not ours
            terminal.close()
            raise Untrue(f"{step.command}\n{end}") from None
        self._terminals[step.name] = terminal
        if step.undo:
            self._pending.append(Undo(steps.HOST, step.undo))
        self._pending.append(Undo(step.name, ""))
        self._show(said)

    def _leave(self, name: str, *, wait: bool = True) -> None:
        self._screen.command(name, "exit", wait=wait)
        self._close(name)
        self._take_off(Undo(name, ""))
        self._show("")

    def _show(self, output: str) -> None:
        """What a command printed, and how good the prediction was."""
        self._screen.output(output)
        if self._verdict:
            self._screen.verdict(self._verdict())
            self._verdict = None

    def _check(self, step: steps.Check) -> None:
        result = self._type_until_done(step.at, step.condition)
        self._screen.claim(step.claim, true=result.status == 0)
        if result.status:
            raise Untrue(f"{step.claim}\n  {step.condition}\n{result.output}".rstrip())
        self._claims += 1

    def _answer(self, guess: steps.Guess) -> float:
        result = self._type(steps.HOST, guess.answer)
        answer = predictions.number_of(result.output)
        if result.status or answer is None:
            raise Untrue(_failure(guess.answer, result))
        return answer

    def _take_down(self, *, slowly: bool) -> None:
        """As its reader would type it, the last thing first; the first command waits until the reader has seen all."""
        if self._pending:
            self._screen.say("Now everything is taken down again, the last thing first.")
        wait = True
        while self._pending:
            undo = self._pending[-1]
            if undo.command:
                self._take_back(undo, wait=wait)
            else:
                self._leave(undo.at, wait=wait)
            wait = slowly

    def _say_goodbye(self) -> None:
        try:
            if self._pending:
                self._screen.write("\n\n  Leaving. What the lesson has made is taken down.\n")
        except Interrupted:  # nobody is left to read it
            pass

    def _take_back_in_silence(self) -> None:
        """Whatever is still there, whatever signals come; what was only begun may well not be there."""
        while self._pending:
            undo = self._pending.pop()
            try:
                if undo.command:
                    self._type_until_done(undo.at, undo.command, heed=False)
                else:
                    self._close(undo.at)
            except Untrue:
                pass
        for name in list(self._terminals):
            self._close(name)

    def _take_off(self, undo: Undo) -> None:
        if undo in self._pending:
            self._pending.remove(undo)

    def _type_until_done(self, at: str, line: str, *, heed: bool = True) -> Result:
        """More than once, if need be: what a command started may take a moment to be there, or gone."""
        deadline = time.monotonic() + _PATIENCE
        while (result := self._type(at, line, heed=heed)).status and time.monotonic() < deadline:
            self._interruption.wait(-1, _MOMENT, heed=heed)
        return result

    def _type(self, at: str, line: str, *, heed: bool = True) -> Result:
        """Raises `Untrue` where the shell does not survive it. The host always has another."""
        if at == steps.HOST and at not in self._terminals:
            self._terminals[at] = self._new_terminal()
        if at not in self._terminals:
            raise Untrue(f"{line}\nthe terminal {at} is closed")
        try:
            return self._terminals[at].run(line, heed=heed)
        except Ended as end:
            self._close(at)
            raise Untrue(f"{line}\n{end}") from None

    def _close(self, name: str) -> None:
        if name in self._terminals:
            self._terminals.pop(name).close()

    def _new_terminal(self, command: str = "") -> Terminal:
        return Terminal(self._directory, self._setting.environment, self._interruption, command)


def _failure(command: str, result: Result) -> str:
    return f"{command}\n{result.output}\n(exit code {result.status})"
