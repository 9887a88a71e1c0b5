"""`learn`: the course, at the caller's own terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli.parser import UsageError
from cutaway.cli.verb import local_verb
from cutaway.engine.errors import EngineError
from cutaway.engine.options.option import BOOL, STRING, Option
from cutaway.lessons import teaching
from cutaway.lessons.course import COURSE
from cutaway.lessons.setting import ENGINES, CannotTeach

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed

_WAYS = {"auto": teaching.play, "check": teaching.check, "script": teaching.print_script}


@local_verb(
    "learn",
    usage="[OPTIONS] [TOPIC]",
    summary="Build containers by hand, in a course at the terminal",
    options=[
        Option("auto", BOOL, "Play the lesson without waiting for a reader"),
        Option("check", BOOL, "Check every claim silently; without a topic, of all lessons"),
        Option("engine", STRING, "Whose containers to look at", default='"cutaway"', completes="|".join(ENGINES)),
        Option("script", BOOL, "Print the lesson as a shell script"),
    ],
    arguments=(0, 1),
    completes="|".join(lesson.topic for lesson in COURSE),
)
def learn(parsed: Parsed) -> int:
    ways = [way for way in _WAYS if parsed.options.get(way)]
    engine = parsed.options.get("engine", "cutaway")
    if len(ways) > 1:
        raise UsageError(f"--{ways[0]} and --{ways[1]} exclude each other")
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: it is one of {', '.join(ENGINES)}")
    teach = _WAYS[ways[0]] if ways else teaching.learn
    try:
        return teach("".join(parsed.arguments), engine)
    except CannotTeach as problem:
        error = EngineError(str(problem))
        error.exit_code = 1
        raise error from None
