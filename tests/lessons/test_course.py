"""The course: every claim of every lesson, on each engine, as a lesson and as a script."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from cutaway.lessons.course import COURSE
from cutaway.lessons.lesson import HOST, Check, Do, Lesson, Open
from cutaway.lessons.setting import find_setting
from tests.dockerd import Docker
from tests.engines import COMMAND, Engine

TOPICS = [
    "pid", "overlay", "bridge", "cgroups", "scratch",
    "docker-network", "docker-cgroups", "docker-overlay", "docker-pid", "just-a-process", "nsenter", "free",
]  # fmt: skip
OF_AN_ENGINE = TOPICS[5:]
WIDTH = 80

pytestmark = pytest.mark.usefixtures("busybox")


OF_CGROUPS = ("cgroups", "scratch", "docker-cgroups")
"""Lessons whose commands differ by cgroup version. The rest passes on version 2 as well (`python -m tests.vm.machine
.venv/bin/cutaway learn --check`), but takes minutes there."""


def test_the_course_has_these_topics() -> None:
    assert [lesson.topic for lesson in COURSE] == TOPICS


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "topic", [pytest.param(topic, marks=pytest.mark.vm) if topic in OF_CGROUPS else topic for topic in TOPICS]
)
def test_every_claim_is_true(cutaway: Engine, topic: str) -> None:
    said = cutaway("learn", topic, "--check", timeout=300, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.startswith(f"✓ {topic}")
    assert len(said.stdout.splitlines()) == 1


@pytest.mark.parametrize("topic", TOPICS)
def test_its_script_does_the_same(cutaway: Engine, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script"
    script.write_text(cutaway("learn", topic, "--script").stdout)
    for name, value in cutaway.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(COMMAND.parent), prepend=":")
    done = subprocess.run(["bash", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    claims = sum(isinstance(step, Check) for step in find_setting(_lesson(topic), "cutaway").steps(_lesson(topic)))
    assert done.stdout.count("✓") == claims > 3


def _lesson(topic: str) -> Lesson:
    return next(lesson for lesson in COURSE if lesson.topic == topic)


@pytest.mark.docker
@pytest.mark.timeout(120)
@pytest.mark.parametrize("topic", OF_AN_ENGINE)
def test_docker_is_the_same_thing(docker: Docker, topic: str) -> None:
    environment = os.environ | {"DOCKER_HOST": docker.socket}
    words = [str(COMMAND), "learn", topic, "--check", "--engine", "docker"]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stdout + said.stderr
    assert docker("ps", "-aq") == "" and "learn" not in docker("network", "ls") + docker("images")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_podman_is_the_same_thing() -> None:
    """In network and mount namespaces of its own, since podman leaves its chains in a firewall behind."""
    if missing := [program for program in ("podman", "crun") if not shutil.which(program)]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    with tempfile.TemporaryDirectory(prefix="learn-") as directory:
        environment = os.environ | {"PATH": f"{_podman_with_its_state_in(Path(directory))}:{os.environ['PATH']}"}
        words = ["unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up; "$@"', "sh", str(COMMAND)]
        learn = [*words, "learn", "--check", "--engine", "podman"]
        said = subprocess.run(learn, env=environment, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count("✓") == len(OF_AN_ENGINE)


def _podman_with_its_state_in(directory: Path) -> Path:
    """Where a `podman` is that works also on hosts without CAP_SYS_RESOURCE."""
    for name, program in {"podman": PODMAN, "crun": CRUN}.items():
        (directory / name).write_text(program.format(directory=directory, program=shutil.which(name)))
        (directory / name).chmod(0o755)
    return directory


PODMAN = """#!/bin/sh
exec {program} --root {directory}/root --runroot {directory}/run \\
    --runtime {directory}/crun --cgroup-manager cgroupfs "$@"
"""
CRUN = """#!/usr/bin/python3
import json, os, sys
words = sys.argv[1:]
for option, file in (("--bundle", "/config.json"), ("--process", "")):
    if option in words:
        path = words[words.index(option) + 1] + file
        with open(path) as before:
            spec = json.load(before)
        (spec.get("process") or spec).pop("rlimits", None)
        with open(path, "w") as after:
            json.dump(spec, after)
os.execv("{program}", ["crun", *words])
"""


@pytest.mark.parametrize("lesson", COURSE, ids=TOPICS)
def test_commands_fit_on_a_small_terminal(lesson: Lesson) -> None:
    for step in lesson.steps:
        if isinstance(step, Do | Open):
            at = step.at if isinstance(step, Do) and step.at != HOST else ""
            for line in _longest(step.command).splitlines():
                assert len(f"  {at} # {line}") <= WIDTH, line


def _longest(command: str) -> str:
    words = {"engine": "cutaway", "image": "cutaway-learn", "memory tree": "/sys/fs/cgroup/memory"}
    for word, meaning in words.items():
        command = command.replace(f"‹{word}›", meaning)
    return command
