"""Carries out the verbs that run in the caller's own process, at its terminal: `python -m cutaway.cli.local WORD...`

The command becomes this program (`client/dial.py`, `execve`), so process, terminal and descriptors stay the caller's.
Options, help and complaints are those of the table that the engine reads too.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cutaway.cli.parser import HelpWanted, UsageError, parse
from cutaway.engine.errors import EngineError
from cutaway.kernel.errors import sentence

if TYPE_CHECKING:
    from cutaway.cli.verb import Verb

_DEFAULT_WIDTH = 80


def main() -> int:
    """Carries out `sys.argv` and returns the exit code."""
    verb, rest = _find(sys.argv[1:])
    if verb is None or verb.here is None:
        return _fail(f"cutaway: {' '.join(sys.argv[1:2])} runs in the engine's process")
    try:
        parsed = parse(rest, verb.options, interspersed=verb.interspersed)
        verb.check_arguments(len(parsed.arguments))
        return verb.here(parsed)
    except HelpWanted:
        from cutaway.cli import help  # of all verbs, and so with all of them

        print(help.of_verb(verb, _width()))
        return 0
    except UsageError as problem:
        return _misused(verb, problem)
    except EngineError as problem:
        return _fail(f"cutaway: {problem}", problem.exit_code)
    except BrokenPipeError:  # who read it has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as problem:
        return _fail(f"cutaway: {sentence(problem)}")


def _find(words: list[str]) -> tuple[Verb | None, list[str]]:
    """The verb and the words after it. One with a module in `here` is found without importing all others, which takes
    longer than most of them."""
    if words and words[0].isalpha() and find_spec(f"cutaway.cli.here.{words[0]}"):
        return getattr(import_module(f"cutaway.cli.here.{words[0]}"), words[0]), words[1:]
    from cutaway.cli.verbs import find

    return find(words)


def _misused(verb: Verb, problem: UsageError) -> int:
    from cutaway.cli import help

    advice = f"{help.usage_line(verb)}\n\nRun 'cutaway {verb.name} --help' for more information"
    return _fail(f"{problem}\n\n{advice}", problem.exit_code)


def _fail(complaint: str, code: int = 1) -> int:
    print(complaint, file=sys.stderr)
    return code


def _width() -> int:
    try:
        return os.get_terminal_size().columns
    except OSError:  # not a terminal
        return _DEFAULT_WIDTH


if __name__ == "__main__":
    sys.exit(main())
