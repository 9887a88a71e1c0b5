"""What one can do with the course: list it, take a lesson, have it played, checked or printed."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from cutaway.lessons.course import COURSE
from cutaway.lessons.interruption import Interrupted, Interruption
from cutaway.lessons.play import Untrue, perform
from cutaway.lessons.screens import Playing, Reading, Silence
from cutaway.lessons.script import script
from cutaway.lessons.setting import CannotTeach, find_setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cutaway.lessons.lesson import Lesson
    from cutaway.lessons.screens import Screen


def learn(topic: str, engine: str) -> int:
    """One lesson, or the list and the one that the reader chooses. Raises `CannotTeach`."""
    with Interruption() as interruption:
        screen = Reading(interruption)
        try:
            lesson = find(topic) if topic else _choose(screen, engine)
        except Interrupted:
            return _end(interruption, 0)
        if lesson is None:
            return 0
        code = _take(lesson, engine, screen, interruption)
    return _end(interruption, code)


def play(topic: str, engine: str) -> int:
    """A lesson, or the whole course, without a reader. Raises `CannotTeach`."""
    with Interruption() as interruption:
        screen = Playing(interruption)
        code = max(_take(lesson, engine, screen, interruption) for lesson in _chosen(topic, engine))
    return _end(interruption, code)


def check(topic: str, engine: str) -> int:
    """A lesson, or the whole course, unseen: one line for each; 1 where a claim was not true. Raises `CannotTeach`."""
    code = 0
    with Interruption() as interruption:
        for lesson in _chosen(topic, engine):
            code = max(code, _check(lesson, engine, interruption))
            if interruption.caught:
                break
    return _end(interruption, code)


def print_script(topic: str, engine: str) -> int:
    """A lesson as a shell script. Raises `CannotTeach`."""
    if not topic:
        raise CannotTeach("which one? cutaway learn TOPIC --script")
    lesson = find(topic)
    sys.stdout.write(script(lesson, find_setting(lesson, engine)))
    return 0


def find(topic: str) -> Lesson:
    """The lesson of that name, or with that number. Raises `CannotTeach`."""
    for number, lesson in enumerate(COURSE, 1):
        if topic in (lesson.topic, str(number)):
            return lesson
    raise CannotTeach(f"no lesson {topic}: there are {', '.join(lesson.topic for lesson in COURSE)}")


def listing(engine: str) -> str:
    """The table of contents."""
    width = max(len(lesson.topic) for lesson in COURSE)
    rows = [
        (lesson.of_an_engine, f"  {number:>2}  {lesson.topic:<{width}}  {lesson.title}")
        for number, lesson in enumerate(COURSE, 1)
    ]
    by_hand = [row for of_an_engine, row in rows if not of_an_engine]
    engines = [row for of_an_engine, row in rows if of_an_engine]
    found = f"Found again in containers of {engine}"
    more = " (--engine docker|podman: in theirs)" if engine == "cutaway" else ""
    return "\n".join(["Built by hand", *by_hand, "", f"{found}{more}", *engines, ""])


def _chosen(topic: str, engine: str) -> Sequence[Lesson]:
    """The lesson named; without a name all, or those that another engine makes a difference for."""
    if topic:
        return [find(topic)]
    return [lesson for lesson in COURSE if lesson.of_an_engine or engine == "cutaway"]


def _choose(screen: Reading, engine: str) -> Lesson | None:
    """None where there is nobody to choose."""
    screen.write(f"\n{listing(engine)}\n")
    if not os.isatty(0):
        return None
    while True:
        topic = screen.choose("Which one? A number or a name, ⏎ for the first, q to leave:")
        try:
            return find(topic or "1")
        except CannotTeach as problem:
            screen.write(f"{problem}\n")


def _take(lesson: Lesson, engine: str, screen: Screen, interruption: Interruption) -> int:
    setting = find_setting(lesson, engine)
    try:
        claims = perform(lesson, setting, screen, interruption)
        screen.say(f"All {claims} claims of this lesson were checked, and all is as it was.{_next(lesson)}")
    except Untrue as problem:
        print(f"\ncutaway: not so on this machine: {problem}", file=sys.stderr)
        return 1
    except Interrupted:  # by a signal, of which the whole program ends, or by the reader, who may leave
        pass
    return 0


def _next(lesson: Lesson) -> str:
    after = COURSE[COURSE.index(lesson) + 1 :]
    return f" Next: `cutaway learn {after[0].topic}`" if after else " That was the last one: you have seen it all."


def _check(lesson: Lesson, engine: str, interruption: Interruption) -> int:
    began = time.monotonic()
    try:
        claims = perform(lesson, find_setting(lesson, engine), Silence(interruption), interruption)
    except (Untrue, CannotTeach) as problem:
        print(f"✗ {lesson.topic}: {problem}", flush=True)
        return 1
    except Interrupted:
        return 1
    print(f"✓ {lesson.topic:<15}{claims:>3} claims  {time.monotonic() - began:6.1f} s", flush=True)
    return 0


def _end(interruption: Interruption, code: int) -> int:
    """Ends as a program does that has not caught the signal, where one came."""
    if interruption.caught:
        signal.signal(interruption.caught, signal.SIG_DFL)
        os.kill(os.getpid(), interruption.caught)
    return code
