"""Leaving a lesson, at every step of every lesson: nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import pytest

from cutaway.lessons.course import COURSE, bridge
from cutaway.lessons.interruption import Interrupted, Interruption
from cutaway.lessons.lesson import Do, Leave, Lesson, Open, Step
from cutaway.lessons.play import Untrue, perform
from cutaway.lessons.screens import Silence
from cutaway.lessons.script import script
from cutaway.lessons.setting import Setting, find_setting
from tests.children import in_child
from tests.engines import Engine

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupting(Silence):
    """Sends this process a signal when a command begins; it is noticed while the command runs."""

    def __init__(self, interruption: Interruption, at: int) -> None:
        super().__init__(interruption)
        self.left = at

    def command(self, at: str, command: str, *, wait: bool = True) -> None:  # noqa: ARG002
        if self.left == 0:
            os.kill(os.getpid(), SIGNALS[len(at + command) % len(SIGNALS)])
        self.left -= 1


def take(lesson: Lesson, until: int) -> bool:
    """Whether the lesson ended because of the signal, and not by itself."""
    setting = find_setting(lesson, "cutaway")
    with Interruption() as interruption:
        try:
            perform(lesson, setting, Interrupting(interruption, until), interruption)
        except Interrupted:
            return True
    return False


@pytest.mark.slow
@pytest.mark.usefixtures("busybox")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("lesson", COURSE, ids=lambda lesson: lesson.topic)
def test_a_signal_at_any_step_leaves_nothing(cutaway: Engine, lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUTAWAY_ROOT", "CUTAWAY_RUNTIME_DIR"):
        monkeypatch.setenv(name, cutaway.environment[name])
    ended_early = [in_child(partial(take, lesson, step)) for step in range(_commands(lesson))]
    assert all(ended_early)


def _commands(lesson: Lesson) -> int:
    """How many are typed, those that take something back included."""
    there = list(find_setting(lesson, "cutaway").steps(lesson))
    typed = [step for step in there if isinstance(step, Do | Open | Leave)]
    undone = {step.command for step in typed if isinstance(step, Do)}
    left = {step.name for step in typed if isinstance(step, Leave)}
    undos = [step for step in typed if isinstance(step, Do | Open) and step.undo and step.undo not in undone]
    exits = [step for step in typed if isinstance(step, Open) and step.name not in left]
    return len(typed) + len(undos) + len(exits)


def claim_of(lesson: Lesson) -> str:
    """What turns out to be untrue."""
    with Interruption() as interruption, pytest.raises(Untrue) as untrue:
        perform(lesson, find_setting(lesson, "cutaway"), Silence(interruption), interruption)
    return str(untrue.value)


def test_what_was_there_before_is_left_alone() -> None:
    subprocess.run(["ip", "netns", "add", "blue"], check=True)
    try:
        assert "ip netns add blue" in in_child(partial(claim_of, bridge.LESSON))
        assert "blue" in subprocess.run(["ip", "netns"], check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run(["ip", "netns", "delete", "blue"], check=True)


def test_a_terminal_that_does_not_open_takes_nothing_back(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    shell = Open("inside", f"[ ! -e {tmp_path}/precious ] && sh", undo=f"rm {tmp_path}/precious")
    assert "[ ! -e" in in_child(partial(claim_of, Lesson("taken", "", needs=(), steps=(shell,))))
    assert (tmp_path / "precious").read_text() == "kept"


def test_what_is_typed_inside_is_not_carried_out_on_the_host(tmp_path: Path) -> None:
    steps = (
        Open("inside", "sh"),
        Do("true", at="inside", undo=f"touch {tmp_path}/undone"),
        Do(f"sleep 100\ntouch {tmp_path}/done", at="inside"),
    )
    assert in_child(partial(take, Lesson("left", "", needs=(), steps=steps), 2))
    assert list(tmp_path.iterdir()) == []


def as_script(*steps: Step) -> subprocess.CompletedProcess[str]:
    text = script(Lesson("short", "", needs=(), steps=steps), Setting({}, frozenset(), {}))
    null = subprocess.DEVNULL
    return subprocess.run(["bash", "-c", text], stdin=null, capture_output=True, text=True, timeout=30, check=False)


def test_a_script_takes_back_what_it_made_when_a_terminal_dies(tmp_path: Path) -> None:
    made = Do(f"touch {tmp_path}/made", undo=f"rm {tmp_path}/made")
    typed = (Do("echo hello", at="inside"), Do("kill -KILL $$", at="inside"), Do(f"touch {tmp_path}/more", at="inside"))
    done = as_script(made, Open("inside", "sh"), *typed)
    assert (done.returncode, done.stdout.strip()) == (1, "hello")
    assert list(tmp_path.iterdir()) == []


def test_a_script_takes_nothing_back_for_a_terminal_that_does_not_open(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    assert as_script(Open("inside", "false", undo=f"rm {tmp_path}/precious")).returncode == 1
    assert (tmp_path / "precious").read_text() == "kept"


def test_what_cannot_be_unmounted_is_not_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "lessons").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "lessons"))
    mount = Do(f"mkdir here; mount --bind {tmp_path} here", undo="false")
    assert "false" in in_child(partial(claim_of, Lesson("stuck", "", needs=(), steps=(mount,))))
    (mounted,) = (tmp_path / "lessons").glob("*/here")
    subprocess.run(["umount", mounted], check=True)
    assert (tmp_path / "precious").read_text() == "kept"
