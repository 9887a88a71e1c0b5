"""Lessons as a person takes them: on a terminal of 80 by 24, with right and wrong answers, leaving in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import termios
from collections.abc import Iterator

import pexpect
import pytest

from cutaway.lessons.course import COURSE, overlay
from cutaway.lessons.lesson import Ask, Check
from cutaway.lessons.predictions import LETTERS, choices
from tests.engines import COMMAND, Engine

pytestmark = pytest.mark.usefixtures("busybox")

ROWS, COLUMNS = 24, 80
PROMPT = "HOST> "
QUESTIONS = [step for step in overlay.LESSON.steps if isinstance(step, Ask)]
CLAIMS = [step for step in overlay.LESSON.steps if isinstance(step, Check)]


class Reader:
    """Someone at a shell, who types `cutaway learn`."""

    def __init__(self, cutaway: Engine, directory: str) -> None:
        self.directory = directory
        settings = {"PS1": PROMPT, "HISTFILE": "", "NO_COLOR": "1", "TMPDIR": directory}
        environment = cutaway.environment | settings
        arguments = ["--norc", "--noprofile", "--noediting"]
        self.terminal = pexpect.spawn(
            "bash", arguments, env=environment, encoding="utf-8", timeout=20, dimensions=(ROWS, COLUMNS)
        )
        self.terminal.delaybeforesend = None
        self.terminal.expect_exact(PROMPT)

    def types(self, line: str) -> None:
        self.terminal.sendline(line)

    def learns(self, *words: str) -> None:
        self.types(" ".join([str(COMMAND), "learn", *words]))

    def sees(self, text: str) -> str:
        """What comes up to a text, and the text."""
        self.terminal.expect_exact(text)
        return f"{self.terminal.before}{text}".replace("\r", "")

    def goes_on(self, *, answering: str = "", until: str = PROMPT) -> str:
        """Presses Enter at every command and answers all questions alike; what came, up to a text."""
        seen = ""
        while True:
            came = self.terminal.expect_exact([until, "⏎ just shows > ", "\r\n  # ", "\r\n  container # "])
            seen += f"{self.terminal.before}{self.terminal.after}"
            if came == 0:
                return seen.replace("\r", "")
            self.types(answering if came == 1 else "")

    def exit_code(self) -> str:
        self.types("echo =$?=")
        return self.sees(PROMPT).rpartition("=")[0].rpartition("=")[2]


@pytest.fixture
def reader(cutaway: Engine) -> Iterator[Reader]:
    with tempfile.TemporaryDirectory(prefix="cutaway-") as directory:
        reader = Reader(cutaway, directory)
        before = termios.tcgetattr(reader.terminal.child_fd)[:6]
        try:
            yield reader
            assert termios.tcgetattr(reader.terminal.child_fd)[:6] == before
        finally:
            reader.terminal.close()


def test_the_course_is_listed_and_one_chosen(reader: Reader) -> None:
    reader.learns()
    listed = reader.sees("q to leave: ")
    assert all(f"{lesson.topic} " in listed for lesson in COURSE)
    reader.types("overlap")
    assert "no lesson overlap" in reader.sees("q to leave: ")
    reader.types("2")
    reader.sees("Layers: directories on top of each other")
    reader.types("q")
    reader.sees(PROMPT)
    assert reader.exit_code() == "0"


def test_a_whole_lesson_with_wrong_answers(reader: Reader) -> None:
    """Its letter is wrong at least once, and its output is read as it is on the screen."""
    reader.learns("overlay")
    seen = reader.goes_on(answering="a")
    for question in QUESTIONS:
        right = LETTERS[choices(question).index(question.right)]
        assert ("a, as you said." if right == "a" else f"You said a; it is {right})") in " ".join(seen.split())
    assert seen.count("✓") == len(CLAIMS)
    assert "I am of lower1\n  │ and I have changed" in seen
    assert f"All {len(CLAIMS)} claims" in seen
    assert max(len(line) for line in seen.splitlines()) <= COLUMNS
    assert reader.exit_code() == "0"


def test_answers_are_revealed_only_after_the_command(reader: Reader) -> None:
    reader.learns("overlay")
    before = reader.goes_on(until="⏎ just shows > ")
    assert "You said" not in before and QUESTIONS[0].because not in " ".join(before.split())
    reader.types("b")
    assert "→" not in reader.sees("  # head merged/*")
    reader.types("")
    reader.sees("→")
    reader.types("q")
    reader.sees(PROMPT)


@pytest.mark.parametrize("nonsense", ["z", "9", "the first", "\x1b[A"])
def test_nonsense_is_asked_again(reader: Reader, nonsense: str) -> None:
    reader.learns("overlay")
    reader.goes_on(until="⏎ just shows > ")
    reader.types(nonsense)
    reader.sees("a letter, please, or just ⏎ > ")
    reader.types("A)")
    reader.sees("  # head merged/*")
    reader.types("q")
    reader.sees(PROMPT)


@pytest.mark.parametrize(
    ("number", "kindly"), [("5", "5: you said 5, well predicted."), ("about 7", "You said 7; it is 5.")]
)
def test_numbers_are_judged_kindly(reader: Reader, number: str, kindly: str) -> None:
    reader.learns("docker-pid")
    reader.goes_on(until="a number; ⏎ just shows > ")
    reader.types(number)
    assert kindly in " ".join(reader.goes_on(until="The five sleepers").split())
    reader.terminal.send("\x03")
    reader.sees(PROMPT)


@pytest.mark.parametrize("steps", [0, 1, 4, 7])
@pytest.mark.parametrize("key", ["\x03", "\x1c", "\x04", "q\n"])
def test_leaving_takes_everything_back(reader: Reader, steps: int, key: str) -> None:
    reader.learns("overlay")
    for _ in range(steps):
        reader.terminal.expect_exact(["\r\n  # ", "⏎ just shows > "])
        reader.types("")
    reader.terminal.expect_exact(["\r\n  # ", "⏎ just shows > "])
    reader.terminal.send(key)
    reader.sees(PROMPT)
    assert os.listdir(reader.directory) == []


def test_it_ends_by_the_signal_it_got(reader: Reader) -> None:
    """So that a shell's loop around it ends, too."""
    reader.learns("overlay")
    reader.sees("⏎ runs it, q leaves ")
    reader.terminal.send("\x03")
    reader.sees(PROMPT)
    assert reader.exit_code() == str(128 + signal.SIGINT)


def test_a_second_interrupt_does_not_stop_the_taking_back(reader: Reader) -> None:
    reader.learns("bridge")
    for _ in range(9):
        reader.terminal.expect_exact("\r\n  # ")
        reader.types("")
    reader.terminal.expect_exact("\r\n  # ")
    reader.terminal.send("\x03\x03\x03")
    reader.sees(PROMPT)


def test_without_a_terminal_it_lists_and_ends(cutaway: Engine) -> None:
    assert [line.split()[1] for line in cutaway("learn").stdout.splitlines() if re.match(r" +\d+ ", line)] == [
        lesson.topic for lesson in COURSE
    ]
    assert "Enter" not in cutaway("learn", "overlay").stdout


def test_played_by_itself(cutaway: Engine) -> None:
    played = cutaway("learn", "overlay", "--auto").stdout
    assert played.count("✓") == len(CLAIMS)
    assert "# rm merged/delete-me\n" in played


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nothing"], "no lesson nothing: there are pid, overlay"),
        (["pid", "--auto", "--check"], "--auto and --check exclude each other"),
        (["pid", "--engine", "rkt"], "--engine rkt: it is one of cutaway, docker, podman"),
        (["--script"], "which one? cutaway learn TOPIC --script"),
        (["pid", "overlay"], "'cutaway learn' requires at most 1 argument"),
    ],
)
def test_what_makes_no_sense_is_said(cutaway: Engine, words: list[str], complaint: str) -> None:
    said = cutaway("learn", *words, check=False)
    assert said.returncode != 0
    assert complaint in said.stderr
    assert "Traceback" not in said.stderr


def test_a_missing_engine_is_said(cutaway: Engine) -> None:
    environment = cutaway.environment | {"PATH": "/nonexistent"}
    said = subprocess.run(
        [COMMAND, "learn", "free", "--engine", "docker", "--check"], env=environment, capture_output=True, text=True
    )
    assert said.returncode == 1
    assert "docker is not installed here" in said.stdout


def test_a_false_claim_is_found(cutaway: Engine) -> None:
    """On a host where `lower` directories cannot be read, say: here `ls` lies."""
    environment = cutaway.environment | {"BASH_ENV": "", "BASH_FUNC_head%%": "() { echo nothing; false; }"}
    said = subprocess.run([COMMAND, "learn", "overlay", "--check"], env=environment, capture_output=True, text=True)
    assert said.returncode == 1
    assert said.stdout.startswith("✗ overlay: head merged/*")
