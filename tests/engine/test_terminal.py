"""Terminals of containers: used as a person does, from a shell on a terminal that is restored whatever happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import termios
from collections.abc import Iterator

import pexpect
import pytest

from tests.children import wait_until
from tests.engine.containers import inspected
from tests.engines import COMMAND, Engine

pytestmark = pytest.mark.usefixtures("busybox")

PROMPT, INSIDE = "HOST> ", "box# "
PS1 = r"-e PS1=box#\ "
"""As it is typed, it is not what the terminal shows as the prompt."""
RUN = f"{COMMAND} run --rm -it --name box {PS1} busybox sh"


class Shell:
    """A shell of the host on a terminal of 33 rows and 99 columns."""

    def __init__(self, cutaway: Engine) -> None:
        environment = {**cutaway.environment, "PS1": PROMPT, "HISTFILE": "", "ENV": ""}
        arguments = ["--norc", "--noprofile", "--noediting"]
        self.terminal = pexpect.spawn(
            "bash", arguments, env=environment, encoding="utf-8", timeout=10, dimensions=(33, 99)
        )
        self.terminal.delaybeforesend = None
        self.terminal.expect_exact(PROMPT)

    def does(self, line: str, prompt: str = PROMPT) -> str:
        """What a line typed prints, up to the prompt that comes then."""
        self.terminal.sendline(line)
        return self.until(prompt).partition("\n")[2].strip()

    def until(self, prompt: str) -> str:
        self.terminal.expect_exact(prompt)
        return re.sub(r"\x1b\[\d*[nJ]", "", self.terminal.before or "").replace("\r", "")

    def modes(self) -> list[object]:
        return termios.tcgetattr(self.terminal.child_fd)[:6]

    def exit_code(self) -> str:
        return self.does("echo $?")


@pytest.fixture
def shell(cutaway: Engine) -> Iterator[Shell]:
    shell = Shell(cutaway)
    before = shell.modes()
    try:
        yield shell
        assert shell.modes() == before
    finally:
        cutaway("rm", "-f", "box")
        shell.terminal.close()


def test_a_session(shell: Shell) -> None:
    shell.does(RUN, INSIDE)
    assert shell.does("tty; stty size", INSIDE) == "/dev/pts/0\n33 99"
    assert shell.does("echo $TERM; test -c /dev/console && echo console", INSIDE) == "xterm\nconsole"
    shell.does("exit 42")
    assert shell.exit_code() == "42"


def test_the_size_is_there_from_the_beginning(shell: Shell) -> None:
    assert shell.does(f"{COMMAND} run --rm -it --name box busybox stty size") == "33 99"


def test_the_window_is_followed(shell: Shell) -> None:
    script = "trap 'stty size' WINCH; trap 'exit 3' INT; stty size; while :; do sleep 0.05; done"
    shell.terminal.sendline(f'{COMMAND} run --rm -it --name box busybox sh -c "{script}"')
    for rows, columns in ((33, 99), (20, 70), (50, 200)):
        shell.terminal.setwinsize(rows, columns)
        shell.terminal.expect_exact(f"{rows} {columns}\r\n")
    shell.terminal.sendcontrol("c")
    shell.until(PROMPT)
    assert shell.exit_code() == "3"


def begin_a_job(shell: Shell) -> None:
    """Returns when the job itself has answered: busybox's shell, before it becomes a job, ignores SIGQUIT."""
    shell.terminal.sendline("echo begun; cat")
    shell.terminal.expect_exact("\r\nbegun\r\n")
    shell.terminal.sendline("typed")
    shell.terminal.expect_exact("typed\r\ntyped\r\n")


def test_keys_and_jobs_are_the_containers(shell: Shell) -> None:
    shell.does(RUN, INSIDE)
    for key, code in (("c", 130), ("\\", 131)):
        begin_a_job(shell)
        shell.terminal.sendcontrol(key)
        shell.until(INSIDE)
        assert shell.does("echo $?", INSIDE) == str(code)
    begin_a_job(shell)
    shell.terminal.sendcontrol("z")
    assert "Stopped" in shell.until(INSIDE)
    assert "Stopped" in shell.does("jobs", INSIDE)
    shell.terminal.sendline("fg")
    shell.terminal.expect_exact("\r\ncat\r\n")
    shell.terminal.sendline("more")
    shell.terminal.expect_exact("more\r\nmore\r\n")
    shell.terminal.sendcontrol("d")
    shell.until(INSIDE)
    shell.does("exit 0")


def test_detaching_leaves_all_as_it_is(shell: Shell, cutaway: Engine) -> None:
    shell.does(RUN, INSIDE)
    shell.does("x=kept", INSIDE)
    shell.terminal.send("\x10\x11")
    shell.until(PROMPT)
    assert shell.exit_code() == "0"
    assert inspected(cutaway, "box", "{{.State.Status}}") == "running"
    shell.terminal.setwinsize(24, 80)
    shell.terminal.sendline(f"{COMMAND} attach box")
    shell.terminal.sendline("echo $x; stty size")
    assert "kept\n24 80\n" in shell.until(f"24 80\r\n{INSIDE}") + "24 80\n"
    shell.does("exit 7")
    assert shell.exit_code() == "7"


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_other_keys_to_detach(shell: Shell, cutaway: Engine, verb: str) -> None:
    if verb == "exec":
        cutaway("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    where = "box" if verb == "exec" else "--name box busybox"
    shell.does(f"{COMMAND} {verb} --detach-keys ctrl-x,q -it {PS1} {where} sh", INSIDE)
    shell.terminal.send("\x10\x11")  # no longer those
    shell.does("", INSIDE)
    shell.terminal.send("\x18")
    shell.terminal.send("q")
    shell.until(PROMPT)
    assert shell.exit_code() == "0"


def test_an_exec_has_a_terminal_of_its_own(shell: Shell, cutaway: Engine) -> None:
    cutaway("run", "-dt", "--name", "box", "busybox", "sleep", "1000")
    shell.does(f"{COMMAND} exec -it {PS1} box sh", INSIDE)
    assert shell.does("tty; stty size", INSIDE) == "/dev/pts/1\n33 99"
    shell.terminal.setwinsize(20, 70)
    wait_until(lambda: "20 70" in shell.does("stty size", INSIDE))
    shell.does("exit 9")
    assert shell.exit_code() == "9"


def test_a_container_is_started_again_on_this_terminal(shell: Shell, cutaway: Engine) -> None:
    cutaway("create", "-it", "--name", "box", "-e", f"PS1={INSIDE}", "busybox", "sh")
    for code in (3, 4):
        shell.does(f"{COMMAND} start -ai box", INSIDE)
        shell.does(f"exit {code}")
        assert shell.exit_code() == str(code)


@pytest.mark.parametrize("ending", ["kill", "rm -f", "stop -t 0"])
def test_it_is_restored_when_the_container_is_ended(shell: Shell, cutaway: Engine, ending: str) -> None:
    shell.does(RUN, INSIDE)
    cutaway(*ending.split(), "box")
    shell.until(PROMPT)
    assert shell.exit_code() == "137"


def test_it_is_restored_when_the_exec_is_ended_by_a_signal(shell: Shell, cutaway: Engine) -> None:
    cutaway("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    shell.does(f"{COMMAND} exec -it {PS1} box sh", INSIDE)
    client = subprocess.run(["pgrep", "-P", str(shell.terminal.pid)], capture_output=True, text=True, check=True)
    os.kill(int(client.stdout), signal.SIGTERM)
    shell.until(PROMPT)
    assert shell.exit_code() == str(128 + signal.SIGTERM)


def test_output_that_nobody_reads_any_more_does_not_leave_it_raw(shell: Shell) -> None:
    shell.terminal.sendline(f"{RUN} | head -n1")
    shell.terminal.sendline("yes")
    shell.terminal.expect_exact("yes\r\n")
    shell.until(PROMPT)


def test_nothing_of_a_short_life_is_lost(cutaway: Engine) -> None:
    for _ in range(20):
        assert cutaway("run", "--rm", "-t", "busybox", "echo", "brief").stdout == "brief\n"
    cutaway("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    for _ in range(20):
        assert cutaway("exec", "-t", "box", "echo", "brief").stdout == "brief\n"
    cutaway("rm", "-f", "box")
