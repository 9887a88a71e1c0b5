"""`enter`: programs of the host inside namespaces of a container, as a person or a script runs them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.children import wait_until
from tests.engines import Engine

pytestmark = pytest.mark.usefixtures("box")


@pytest.fixture(scope="module")
def box(engine: Engine, busybox: str) -> Iterator[int]:
    """A container named `entered`, by its PID; its file system has no ip and no ps of the host's."""
    engine("run", "-d", "--name", "entered", "--hostname", "inside", busybox, "sleep", "1000")
    yield int(engine("inspect", "-f", "{{.State.Pid}}", "entered").stdout)
    engine("rm", "-f", "entered")


@pytest.fixture
def enter(tmp_path: Path) -> Engine:
    """The command, with an engine that does not run."""
    return Engine(tmp_path)


def namespaces(enter: Engine, *options: str) -> dict[str, str]:
    """Those that a program is in."""
    kinds = ("net", "mnt", "pid", "uts", "ipc", "cgroup", "user")
    script = " ".join(f"$(readlink /proc/self/ns/{kind})" for kind in kinds)
    return dict(
        zip(kinds, enter("enter", "entered", *options, "--", "sh", "-c", f"echo {script}").stdout.split(), strict=True)
    )


def test_the_hosts_programs_see_the_containers_network_and_processes(enter: Engine) -> None:
    assert enter("enter", "entered", "--", "hostname").stdout == "inside\n"
    assert "eth0" in enter("enter", "entered", "--", "ip", "-o", "link").stdout
    assert enter("enter", "entered", "--", "ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]
    processes = enter("enter", "entered", "--", "ps", "-e", "-o", "pid=,args=").stdout.splitlines()
    assert processes[0].split() == ["1", "sleep", "1000"] and len(processes) == 2


def test_the_hosts_proc_is_the_hosts_afterwards(enter: Engine) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    enter("enter", "entered", "--", "true")
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize(
    ("options", "joined"),
    [
        ((), {"net", "pid", "uts", "ipc", "cgroup", "mnt"}),  # of mount namespaces a new one, for /proc and /sys
        (("--net",), {"net", "mnt"}),
        (("--uts", "--ipc"), {"uts", "ipc"}),
        (("--mount", "--pid"), {"mnt", "pid"}),
        (("--all",), {"net", "pid", "uts", "ipc", "cgroup", "mnt"}),
    ],
)
def test_only_what_was_asked_for_is_joined(enter: Engine, box: int, options: tuple[str, ...], joined: set[str]) -> None:
    found = namespaces(enter, *options)
    hosts = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in found}
    theirs = {kind: os.readlink(f"/proc/{box}/ns/{kind}") for kind in found}
    assert {kind for kind in found if found[kind] != hosts[kind]} == joined
    assert all(found[kind] == theirs[kind] for kind in joined - {"mnt"})
    assert (found["mnt"] == theirs["mnt"]) is ("--mount" in options or "--all" in options)


@pytest.mark.parametrize("option", ["--mount", "--root", "--all"])
def test_the_containers_files_are_seen_where_they_are_asked_for(enter: Engine, engine: Engine, option: str) -> None:
    assert enter("enter", "entered", option, "--", "/bin/ls", "/").stdout == engine("exec", "entered", "ls", "/").stdout
    assert enter("enter", "entered", option, "--", "/bin/pwd").stdout == "/\n"


def test_the_program_starts_where_its_caller_is(enter: Engine, tmp_path: Path) -> None:
    assert enter("enter", "entered", "--", "pwd", cwd=tmp_path).stdout == f"{tmp_path}\n"
    assert enter("enter", "entered", "-w", "/etc", "--", "pwd").stdout == "/etc\n"


def test_exit_codes_and_streams_are_the_programs_own(enter: Engine) -> None:
    done = enter("enter", "entered", "--", "sh", "-c", "cat; echo to-stderr >&2; exit 7", input="typed\n", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "typed\n", "to-stderr\n")
    assert enter("enter", "entered", "--", "no-such-program", check=False).returncode == 127
    assert enter("enter", "entered", "--", "/etc/passwd", check=False).returncode == 126
    assert enter("enter", "entered", "--", "sh", "-c", "kill -9 $$", check=False).returncode == 137


def test_signals_reach_the_program(enter: Engine) -> None:
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [enter.command, "enter", "entered", "--", "sh", "-c", script],
        env=enter.environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    ) as running:  # fmt: skip
        assert running.stdout
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == "caught\n"
    assert running.returncode == 5


def test_a_terminal_can_interrupt_and_stop_it(enter: Engine) -> None:
    shell = pexpect.spawn("bash", ["--norc", "-i"], env={**enter.environment, "PS1": "prompt> "}, encoding="utf-8")
    shell.expect("prompt> ", timeout=20)
    program = "trap 'echo again' CONT; echo begun; while :; do sleep 0.1; done"
    shell.sendline(f'{enter.command} enter entered -- sh -c "{program}"')
    shell.expect("begun\r\n", timeout=20)
    shell.sendcontrol("z")
    shell.expect("Stopped.*prompt> ", timeout=20)
    shell.sendline("fg")
    shell.expect("again\r\n", timeout=20)  # it has the terminal
    shell.sendintr()
    shell.expect("prompt> ", timeout=20)
    shell.sendline("echo code $?")
    shell.expect("code 130", timeout=20)
    shell.close(force=True)


def test_a_user_namespace_is_entered_as_its_root(enter: Engine) -> None:
    options = ("--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--uts", "--kill-child")
    as_other = ("setpriv", "--reuid=100000", "--regid=100000", "--clear-groups")
    child = subprocess.Popen([*as_other, "unshare", *options, "sleep", "1000"], stderr=subprocess.DEVNULL)
    try:
        wait_until(
            lambda: (
                bool(children := _children(child.pid)) and Path(f"/proc/{children[0]}/comm").read_text() == "sleep\n"
            )
        )
        pid = _children(child.pid)[0]
        said = enter("enter", pid, "--all", "--", "sh", "-c", "id -u; cat /proc/self/uid_map").stdout.split()
    finally:
        child.kill()
        child.wait()
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert said == ["0", "0", "100000", "1"]


def test_nothing_of_the_caller_but_its_streams_gets_inside(enter: Engine) -> None:
    reader, writer = os.pipe()
    try:
        done = enter("enter", "entered", "--", "sh", "-c", "ls /proc/self/fd", pass_fds=[reader, writer])
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout.split() == ["0", "1", "2", "3"]  # the last is the directory that is listed


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
