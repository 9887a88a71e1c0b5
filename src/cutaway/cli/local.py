"""Carries out the verbs that run in the caller's own process, at its terminal: `python -m cutaway.cli.local WORD...`

The command becomes this program (`client/dial.py`, `execve`), so process, terminal and descriptors stay the caller's.
Options, help and complaints are those of the table that the engine reads too.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cutaway.cli import help
from cutaway.cli.parser import HelpWanted, UsageError, parse
from cutaway.cli.session import DEFAULT_WIDTH
from cutaway.cli.verbs import find
from cutaway.engine.errors import EngineError, sentence

if TYPE_CHECKING:
    from cutaway.cli.verb import Verb


def main() -> int:
    """Carries out `sys.argv` and returns the exit code."""
    verb, rest = find(sys.argv[1:])
    if verb is None or verb.here is None:
        return _fail(f"cutaway: {' '.join(sys.argv[1:2])} runs in the engine's process")
    try:
        parsed = parse(rest, verb.options, interspersed=verb.interspersed)
        verb.check_arguments(len(parsed.arguments))
        return verb.here(parsed)
    except HelpWanted:
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


def _misused(verb: Verb, problem: UsageError) -> int:
    advice = f"{help.usage_line(verb)}\n\nRun 'cutaway {verb.name} --help' for more information"
    return _fail(f"{problem}\n\n{advice}", problem.exit_code)


def _fail(complaint: str, code: int = 1) -> int:
    print(complaint, file=sys.stderr)
    return code


def _width() -> int:
    try:
        return os.get_terminal_size().columns
    except OSError:  # not a terminal
        return DEFAULT_WIDTH


if __name__ == "__main__":
    sys.exit(main())
