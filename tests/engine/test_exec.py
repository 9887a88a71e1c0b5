"""`exec`: further processes in a container, what they see, and how they end."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import wait_until
from tests.engine.containers import inspected
from tests.engines import COMMAND, Engine


@pytest.fixture
def box(cutaway: Engine, busybox: str) -> Iterator[str]:
    options = ("--network", "none", "-e", "A=1", "-w", "/tmp", "--hostname", "box")
    cutaway("run", "-d", "--name", "box", *options, busybox, "sleep", "1000")
    yield "box"
    cutaway("rm", "-f", "box")


@pytest.mark.parametrize(
    ("options", "script", "printed"),
    [
        ("", "pwd; hostname; echo $A $HOME", "/tmp\nbox\n1 /root\n"),
        ("-w /etc", "pwd", "/etc\n"),
        ("-e A=2 -e B=3", "echo $A $B", "2 3\n"),
        ("-u user", "id -u; id -g; echo $HOME", "1000\n1000\n/home\n"),
        ("-u 5:50", "id -u; id -g", "5\n50\n"),
        ("", "tr '\\0' ' ' </proc/1/cmdline", "sleep 1000 "),
        ("", "cat /proc/self/cgroup | grep -cv ':/$'", "0\n"),
        ("", "grep -E 'CapEff|Seccomp:' /proc/self/status", "CapEff:\t00000000a80425fb\nSeccomp:\t2\n"),
        ("--privileged", "grep -c Seccomp:.0 /proc/self/status", "1\n"),
        ("-t", "tty; echo $TERM", "/dev/pts/0\r\nxterm\r\n"),
    ],
)
def test_sees_the_container(cutaway: Engine, box: str, options: str, script: str, printed: str) -> None:
    done = subprocess.run(
        [str(COMMAND), "exec", *options.split(), box, "sh", "-c", script],
        env=cutaway.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.stdout.decode() == printed


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ("box sh -c", 2, "sh: -c requires an argument\n"),
        ("box sh -c false", 1, ""),
        ("box nosuch", 127, 'cutaway: exec: "nosuch": executable file not found in $PATH\n'),
        ("box /etc/passwd", 126, 'cutaway: exec: "/etc/passwd": permission denied\n'),
        ("-d box nosuch", 127, 'cutaway: exec: "nosuch": executable file not found in $PATH\n'),
        ("-u nosuch box true", 1, "cutaway: unable to find user nosuch: no matching entries in passwd file\n"),
        ("nosuch true", 1, "cutaway: No such container: nosuch\n"),
        ("-it box true", 1, "cutaway: the input device is not a TTY\n"),
    ],
)
def test_ends_with_its_exit_code(cutaway: Engine, box: str, words: str, code: int, complaint: str) -> None:
    done = cutaway("exec", *words.split(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", complaint)
    assert inspected(cutaway, box, "{{.State.Status}}") == "running"


def test_signals_are_told_from_exit_codes(cutaway: Engine, box: str) -> None:
    assert cutaway("exec", box, "sh", "-c", "kill -USR1 $$", check=False).returncode == 128 + 10


def test_standard_input_only_if_asked_for(cutaway: Engine, box: str) -> None:
    assert cutaway("exec", "-i", box, "cat", input="typed").stdout == "typed"
    assert cutaway("exec", box, "cat", input="typed").stdout == ""


def test_much_goes_in_and_out_unchanged(cutaway: Engine, box: str, tmp_path: Path) -> None:
    content = os.urandom(5 << 20)
    (tmp_path / "content").write_bytes(content)
    with open(tmp_path / "content", "rb") as source, open(tmp_path / "copy", "wb") as copy:
        command = [str(COMMAND), "exec", "-i", box, "cat"]
        subprocess.run(command, env=cutaway.environment, stdin=source, stdout=copy, check=True, timeout=30)
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).digest() == hashlib.sha256(content).digest()


def test_in_the_background(cutaway: Engine, box: str) -> None:
    assert cutaway("exec", "-d", box, "sh", "-c", "echo $$ >/tmp/pid; sleep 1000").stdout == ""
    wait_until(lambda: cutaway("exec", box, "ps", "-o", "args").stdout.count("sleep 1000\n") == 2)
    assert inspected(cutaway, box, "{{len .ExecIDs}}") == "1"


def test_needs_a_container_that_runs(cutaway: Engine, box: str) -> None:
    cutaway("pause", box)
    paused = cutaway("exec", box, "true", check=False)
    cutaway("unpause", box)
    cutaway("stop", "-t", "0", box)
    stopped = cutaway("exec", box, "true", check=False)
    assert (paused.returncode, stopped.returncode) == (1, 1)
    assert "Container box is paused, unpause the container before exec" in paused.stderr
    assert "is not running" in stopped.stderr


def test_ends_with_its_container(cutaway: Engine, box: str) -> None:
    command = [str(COMMAND), "exec", box, "sh", "-c", "echo begun; sleep 1000"]
    with subprocess.Popen(command, env=cutaway.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        cutaway("kill", box)
        assert process.wait(timeout=10) == 137


def test_signals_of_the_caller_are_passed_on(cutaway: Engine, box: str) -> None:
    script = "trap 'echo asked to end; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    command = [str(COMMAND), "exec", box, "sh", "-c", script]
    with subprocess.Popen(command, env=cutaway.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert (process.stdout.read(), process.wait(timeout=10)) == ("asked to end\n", 3)
