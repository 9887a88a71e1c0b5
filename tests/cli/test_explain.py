"""`--explain`: the plan as it is done, for people and for programs."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from cutaway.plan.operation import Context, Operation
from cutaway.plan.plan import Step, apply, undo, watching
from tests.engines import COMMAND, Engine

KEYS = ["phase", "operation", "undo", "object", "why", "manual", "shell", "nanoseconds", "error"]
ALONE = ("--network", "none")


def steps(said: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    for step in found:
        assert list(step) == KEYS
        assert re.fullmatch(r"\S.*[.]", step["why"]) and re.fullmatch(r"\S+\(\w+\)", step["manual"])
        assert step["nanoseconds"] >= 0
    return found


def names(found: list[dict[str, Any]], phase: str) -> list[str]:
    return [step["operation"] for step in found if step["phase"] == phase]


@pytest.fixture
def name(cutaway: Engine) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    cutaway("rm", "-f", "-v", name)


def test_run_tells_programs_of_every_step(cutaway: Engine, busybox: str, name: str) -> None:
    done = cutaway(
        "run", "--explain=json", "--name", name, "--memory", "64m", "-p", "127.0.0.1::80", busybox, "echo", "hello"
    )
    assert done.stdout == "hello\n"
    found = steps(done.stderr)
    assert list(dict.fromkeys(step["phase"] for step in found)) == [
        "preparation", "clone", "inside", "program", "teardown",
    ]  # fmt: skip
    before = names(found, "preparation")
    assert before.index("MakeDirectory") < before.index("CreateCgroup") < before.index("MountOverlay")
    assert {"CreateNetworkNamespace", "CreateVeth", "MapPorts"} <= set(before)
    assert names(found, "clone") == ["NewNamespaces"] and names(found, "program") == ["Exec"]
    inside = names(found, "inside")
    assert inside.index("Mount") < inside.index("PivotRoot") < inside.index("DropCapabilities")
    assert {"MountOverlay", "CreateCgroup"} <= set(names(found, "teardown"))
    limit = next(step for step in found if step["object"].startswith(("memory.limit_in_bytes", "memory.max")))
    assert limit["shell"].startswith(f"echo {64 << 20} > /sys/fs/cgroup/")
    assert sum(step["nanoseconds"] for step in found) > 1_000_000
    assert not any(step["error"] for step in found)


def test_the_mounts_that_are_told_are_those_there(cutaway: Engine, busybox: str) -> None:
    """Nothing is told that is not done, and nothing is done untold; masks and the like apart."""
    done = cutaway("run", "--rm", "--explain=json", *ALONE, busybox, "cat", "/proc/self/mountinfo")
    mounted = [line.split()[4] for line in done.stdout.splitlines()]
    told = [
        step["object"] for step in steps(done.stderr) if step["operation"] in ("Mount", "BindMount", "MountCgroups")
    ]
    assert set(told) <= set(mounted) and len(told) == len(set(told))
    own = [
        each
        for each in mounted
        if each != "/" and not each.startswith(("/sys/fs/cgroup/", "/proc/", "/sys/f", "/sys/d"))
    ]
    assert sorted(own) == sorted(each for each in told if not each.startswith("/sys/fs"))


def test_a_tree_for_people(cutaway: Engine, busybox: str) -> None:
    done = cutaway("run", "--rm", "--explain", *ALONE, busybox, "true")
    assert done.stdout == ""
    assert done.stderr.startswith("On the host: the engine prepares\n├─ MakeDirectory ")
    assert "\033" not in done.stderr
    for heading in ("A process is cloned", "Inside: the process becomes the container's", "The program"):
        assert f"\n{heading}\n├─ " in done.stderr
    assert re.search(
        r"├─ CreateCgroup \S+ +\d+\.\d\d ms\n│    A cgroup of its own.* cgroups\(7\)\n│    \$ mkdir -p ", done.stderr
    )


def test_what_fails_is_told_with_the_kernels_word(cutaway: Engine, busybox: str, tmp_path: Path) -> None:
    done = cutaway("run", "--explain=json", *ALONE, "-v", f"{tmp_path}:/etc/passwd", busybox, "true", check=False)
    found = steps(done.stderr)
    (failed,) = (step for step in found if step["error"])
    assert failed["operation"] == "BindMount" and "ENOTDIR" in failed["error"]
    after = found[found.index(failed) + 1 :]
    assert {step["phase"] for step in after} == {"teardown"}
    done = cutaway("run", "--rm", "--explain", *ALONE, busybox, "nosuch", check=False)
    assert done.returncode == 127
    assert '│    failed: exec: "nosuch": executable file not found in $PATH\n' in done.stderr


def test_what_fails_on_the_host_is_told(cutaway: Engine, busybox: str) -> None:
    done = cutaway("run", "--rm", "--explain=json", *ALONE, "-v", "/proc/nosuch:/x", busybox, "true", check=False)
    (failed,) = (step for step in steps(done.stderr) if step["error"])
    assert done.returncode == 125 and (failed["phase"], failed["operation"]) == ("preparation", "MakeSource")


def test_each_verb_tells_of_its_own_steps(cutaway: Engine, busybox: str, name: str) -> None:
    def told(*arguments: str) -> list[str]:
        verb, *rest = arguments
        done = cutaway(verb, "--explain=json", *rest)
        assert "{" not in done.stdout
        return [f"{'undo ' * step['undo']}{step['operation']}" for step in steps(done.stderr)]

    assert told("create", "--name", name, *ALONE, busybox, "sleep", "1000") == ["MakeDirectory"] * 4
    assert told("start", name)[-1] == "Exec"
    entered = told("exec", name, "true")
    assert entered[:2] == ["JoinCgroup", "JoinProcess"] and entered[-1] == "Exec"
    stopped = told("stop", "-t", "0", name)
    assert stopped[:2] == ["SendSignal", "SendSignal"] and "undo CreateCgroup" in stopped
    assert told("rm", name) == ["undo MakeDirectory"]
    detached = told("run", "-d", "--name", name, busybox, "sleep", "1000")
    assert detached[-1] == "Exec"
    removed = told("rm", "-f", name)
    assert removed[0] == "SendSignal" and {"undo MountOverlay", "undo CreateVeth", "undo MakeDirectory"} <= set(removed)


def test_network_create(cutaway: Engine, name: str) -> None:
    done = cutaway("network", "create", "--explain=json", name)
    cutaway("network", "rm", name)
    made = [step["operation"] for step in steps(done.stderr)]
    assert made[-4:] == ["CreateBridge", "EnableForwarding", "AddNetworkToTable", "AllowForwarding"]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_is_not_garbled(cutaway: Engine, busybox: str, name: str, no_color: str) -> None:
    environment = cutaway.environment | {"NO_COLOR": no_color, "TERM": "xterm"}
    arguments = ["run", "--explain", "-it", "--init", "--name", name, *ALONE, busybox, "sh"]
    terminal = pexpect.spawn(
        str(COMMAND), arguments, env=environment, timeout=30, dimensions=(24, 80), encoding="utf-8"
    )
    terminal.expect("/ # ")
    before = str(terminal.before)
    terminal.sendline("echo in$((1 + 1))side")
    terminal.expect("in2side\r\n/ # ")
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    terminal.close()
    after = str(terminal.before)
    assert terminal.exitstatus == 0
    assert "├─" in before and "├─" in after, "steps before the program, and after it"
    assert ("\033[32m" in before) == (not no_color)
    for line in (before + after).split("\r\n"):
        shown = re.sub(r"\033\[[\d;?]*[a-zA-Z]", "", line)
        assert "\n" not in shown and len(shown) <= 80, "each line begins at the left, and fits"


@pytest.mark.parametrize("rm", [("--rm",), ()])
def test_output_of_the_program_comes_between_its_steps(
    cutaway: Engine, busybox: str, name: str, rm: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [COMMAND, "run", *rm, "--explain", "--name", name, *ALONE, busybox, "seq", "20000"],
        env=cutaway.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip
    program, begin, end = (done.stdout.index(each) for each in ("\nThe program\n", "\n1\n2\n", "\n20000\n"))
    assert program < begin < end
    if not rm:
        assert end < done.stdout.index("\nOn the host: it is taken away\n")


class Mute(Operation):
    """Whose words nobody may ask for."""

    value: str = ""

    def apply(self, context: Context) -> None:
        pass

    def undo(self, context: Context) -> None:
        pass

    def shell(self) -> str:
        raise AssertionError("asked for its shell text")

    def shell_undo(self) -> str:
        return self.value

    def why(self) -> str:
        raise AssertionError("asked for its reason")


def test_words_are_built_for_none_but_who_watches() -> None:
    seen: list[Step] = []
    apply([Mute("a")], Context())
    undo([Mute("a")], Context())
    token = watching.set(seen.append)
    apply([Mute("b")], Context())
    undo([Mute("c"), Mute("d")], Context())
    watching.reset(token)
    apply([Mute("e")], Context())
    assert [(step.operation, step.undone) for step in seen] == [
        (Mute("b"), False),
        (Mute("d"), True),
        (Mute("c"), True),
    ]
