"""`--help` in Docker's layout: usage, what it does, aliases, options in two columns wrapped to the terminal's width."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from cutaway.cli.verbs import COMMON, NOUNS, VERBS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cutaway.cli.verb import Verb
    from cutaway.engine.options import Option

NARROWEST = 24
"""Columns that the right-hand side has at least."""


def of_verb(verb: Verb, width: int) -> str:
    parts = [usage_line(verb), verb.summary]
    if len(verb.paths) > 1:
        names = sorted(f"cutaway {path}" for path in verb.paths)
        parts.append(_wrapped("Aliases:\n", ", ".join(names), 2, width))
    if verb.options:
        parts.append("Options:\n" + _columns([_option(option) for option in verb.options], width))
    return "\n\n".join(parts)


def usage_line(verb: Verb) -> str:
    return f"Usage:  cutaway {verb.name} {verb.usage}".rstrip()


def of_noun(noun: str, width: int) -> str:
    rows = [(f"  {path.partition(' ')[2]}", verb.summary) for path, verb in _shown_under(noun)]
    return "\n\n".join(
        [
            f"Usage:  cutaway {noun} COMMAND",
            NOUNS[noun],
            "Commands:\n" + _columns(rows, width),
            f"Run 'cutaway {noun} COMMAND --help' for more information on a command.",
        ]
    )


def _shown_under(noun: str) -> Iterable[tuple[str, Verb]]:
    """Each verb under a noun once, by the first of its names there."""
    shown: dict[str, Verb] = {}
    for verb in VERBS:
        path = next((path for path in verb.paths if path.startswith(f"{noun} ")), None)
        if path:
            shown[path] = verb
    return sorted(shown.items())


def of_everything(width: int) -> str:
    single = {verb.name: verb.summary for verb in VERBS if " " not in verb.name and not verb.name.startswith("_")}
    common = [(f"  {name}", single[name]) for name in COMMON]
    others = [(f"  {name}", summary) for name, summary in sorted(single.items()) if name not in COMMON]
    return "\n\n".join(
        [
            "Usage:  cutaway [OPTIONS] COMMAND",
            "A container engine you can see inside",
            "Common Commands:\n" + _columns(common, width),
            "Management Commands:\n" + _columns([(f"  {noun}", summary) for noun, summary in NOUNS.items()], width),
            "Commands:\n" + _columns(others, width),
            "Options:\n" + _columns([("  -v, --version", "Print the version and quit")], width),
            "Run 'cutaway COMMAND --help' for more information on a command.",
        ]
    )


def _option(option: Option) -> tuple[str, str]:
    short = f"-{option.short}, " if option.short else "    "
    default = f" (default {option.default})" if option.default else ""
    space = "" if option.kind.metavar.startswith("[") else " "
    return f"  {short}--{option.name}{space}{option.kind.metavar}".rstrip(), option.help + default


def _columns(rows: Iterable[tuple[str, str]], width: int) -> str:
    rows = list(rows)
    left = max(len(name) for name, _ in rows) + 3
    return "\n".join(_wrapped(name.ljust(left), text, left, width) for name, text in rows)


def _wrapped(start: str, text: str, indent: int, width: int) -> str:
    """`text` after `start`, its further lines indented."""
    lines = textwrap.wrap(text, max(width - indent - 1, NARROWEST), break_on_hyphens=False)
    if start.endswith("\n"):
        start += " " * indent
    return start + ("\n" + " " * indent).join(lines)
