"""What may come next on a command line that is being typed."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from cutaway.cli.explanation import known_names
from cutaway.cli.parser import HELP
from cutaway.engine.options.option import by_name
from cutaway.kernel import capabilities
from cutaway.xray import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cutaway.cli.session import Session
    from cutaway.cli.verb import Verb
    from cutaway.engine.options import Option

FILES, DIRECTORIES = ":files", ":directories"
"""Lines that ask the shell to complete names of files, or of directories, itself."""
_STATES = {"running": ("running",), "paused": ("paused",), "stopped": ("created", "exited")}


async def candidates(session: Session, words: Sequence[str]) -> list[str]:
    """The words that may stand in the place of the last one, of which some has been typed."""
    from cutaway.cli.verbs import find, names_after  # the table holds the verb that asks this

    *before, current = words or [""]
    verb, rest = find(before)
    if verb is None:
        return _starting(current, names_after(before))
    typed = _Typed(verb, rest)
    if typed.waiting:
        return await _values(session, typed.waiting.completes, current)
    name, separator, value = current.partition("=")
    if separator and name.startswith("--") and (option := by_name(verb.options).get(name[2:])):
        return [f"{name}={each}" for each in await _values(session, option.completes, value)]
    if current.startswith("-") and typed.options_allowed:
        return _starting(current, (f"--{option.name}" for option in (*verb.options, HELP)))
    completes = verb.completes if verb.interspersed or not typed.arguments else "file"
    return [each for each in await _values(session, completes, current) if each not in typed.arguments]


class _Typed:
    """What is known of the words after a verb: an option that waits for its value, and the arguments."""

    def __init__(self, verb: Verb, words: Sequence[str]) -> None:
        self.waiting: Option | None = None
        self.arguments: list[str] = []
        self.options_allowed = True
        options = by_name((*verb.options, HELP))
        short = {option.short: option for option in options.values() if option.short}
        for word in words:
            if self.waiting:
                self.waiting = None
            elif not self.options_allowed or not word.startswith("-") or word == "-":
                self.arguments.append(word)
                self.options_allowed = self.options_allowed and verb.interspersed
            elif word == "--":
                self.options_allowed = False
            elif "=" not in word:
                option = options.get(word[2:]) if word.startswith("--") else short.get(word[-1])
                self.waiting = option if option and not option.kind.alone else None


def _starting(current: str, words: Iterable[str]) -> list[str]:
    return sorted(word for word in words if word.startswith(current))


async def _values(session: Session, completes: str, current: str) -> list[str]:
    if completes in ("file", "directory"):
        return [FILES if completes == "file" else DIRECTORIES]
    if completes == "path":
        containers = await known_names(session.engine, "container")
        return [*_starting(current, (f"{name}:" for name in containers)), FILES]
    return _starting(current, await _known(session, completes))


async def _known(session: Session, completes: str) -> Iterable[str]:
    if completes in _STATES:
        everything = await session.engine.containers()
        states = _STATES[completes]
        return [each.Name.removeprefix("/") for each in everything if each.State.Status in states]
    if completes == "object":
        kinds = ("container", "image", "network", "volume")
        return [name for kind in kinds for name in await known_names(session.engine, kind)]
    if completes == "capability":
        return ["ALL", *(name.removeprefix("CAP_") for name in capabilities.NAMES)]
    if completes == "xrayed":
        return [container.name for container in (await asyncio.to_thread(View)).host.containers]
    if completes == "signal":
        return [name.removeprefix("SIG") for name in signal.Signals.__members__]
    if completes == "variable":
        return session.caller.environment
    if completes == "filter":
        return (
            "ancestor=",
            "before=",
            "dangling=",
            "driver=",
            "id=",
            "label=",
            "name=",
            "network=",
            "since=",
            "status=",
        )
    return completes.split("|") if "|" in completes else await known_names(session.engine, completes)
