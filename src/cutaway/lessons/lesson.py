"""What a lesson is: a list of steps that say, do, ask and check, in the order in which one reads them.

Commands are lines of bash as a person would type them. Words in ‹guillemets› are filled in for the machine at hand
(`setting`). A step with `on` happens only where the setting has that tag: `on="v1"`, `on="docker"`.
"""

from __future__ import annotations

from typing import NamedTuple

HOST = "host"
"""The terminal that every lesson begins with."""


class Say(NamedTuple):
    """Narration: paragraphs between empty lines, `code` and *terms* marked."""

    text: str
    on: str = ""


class Do(NamedTuple):
    """A command. `undo` is the one that takes it back; a later step that types it takes it back, too. `fails`: it is to
    fail."""

    command: str
    undo: str = ""
    at: str = HOST
    fails: bool = False
    on: str = ""


class Open(NamedTuple):
    """A second terminal called `name`, in which `command` starts a shell; `undo` as in `Do`, after leaving it."""

    name: str
    command: str
    undo: str = ""
    on: str = ""


class Leave(NamedTuple):
    """`exit` in the terminal `name`."""

    name: str
    on: str = ""


class Ask(NamedTuple):
    """A prediction to choose before the next command reveals it."""

    question: str
    right: str
    wrong: tuple[str, ...]
    because: str
    on: str = ""


class Guess(NamedTuple):
    """A number to predict before the next command reveals it: what the command `answer` prints then. What is at most
    `within` away is as good as right."""

    question: str
    answer: str
    because: str
    within: float = 0
    on: str = ""


class Check(NamedTuple):
    """A claim, and the condition (a command that succeeds) by which it is true."""

    claim: str
    condition: str
    at: str = HOST
    on: str = ""


class TakeDown(NamedTuple):
    """Takes back, last first, all that is not taken back yet; `slowly`: waiting before each command. Comes by itself at
    the end of every lesson."""

    slowly: bool = True
    on: str = ""


Step = Say | Do | Open | Leave | Ask | Guess | Check | TakeDown


class Lesson(NamedTuple):
    """`needs` names the programs its commands call beyond bash and coreutils. `of_an_engine`: it looks at containers of
    cutaway, Docker or podman."""

    topic: str
    title: str
    needs: tuple[str, ...]
    steps: tuple[Step, ...]
    of_an_engine: bool = False


say, do, terminal, leave, ask, guess, check, take_down = Say, Do, Open, Leave, Ask, Guess, Check, TakeDown
"""The words that lessons are written in."""
