"""Containers outlive the engine, the spawner and both; who comes next knows all about them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pexpect
import pytest

import cutaway
from tests.children import wait_until
from tests.engine.killing import PATIENCE, inspected, kill, kill_part, pid_of, runs, state
from tests.engines import COMMAND, Engine

COUNT = "i=0; while :; do echo $i; i=$((i+1)); usleep 10000; done"
ORDERS = [("engine",), ("spawner",), ("engine", "spawner"), ("spawner", "engine"), ("both",)]
EXIT_ON_TERM = "trap 'exit 7' TERM; while :; do sleep 0.05; done"


@pytest.fixture
def engine(new_engine: Callable[[], Engine], busybox_tar: Path) -> Engine:
    """An engine that may be killed, with the image `busybox`."""
    engine = new_engine()
    engine("import", busybox_tar, "busybox")
    return engine


def detached(engine: Engine, name: str, *arguments: str) -> None:
    """`run -d` on no network, unless the arguments say otherwise."""
    network = [] if "--network" in arguments or "-p" in arguments else ["--network", "none"]
    engine("run", "-d", "--name", name, *network, *arguments)


def logged(engine: Engine, name: str) -> list[str]:
    return engine("logs", name).stdout.splitlines()


def ended(pid: int) -> bool:
    """Whether a process has ended, and its parent has asked how."""
    return not os.path.exists(f"/proc/{pid}")


def spawn(engine: Engine, *arguments: str) -> pexpect.spawn[str]:
    """The command on a terminal."""
    environment = {**engine.environment, "TERM": "xterm"}
    return pexpect.spawn(str(engine.command), list(arguments), env=environment, timeout=PATIENCE, encoding="utf-8")


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
class TestWhatRuns:
    def test_goes_on_with_its_output_its_input_and_its_exit_code(self, engine: Engine, order: tuple[str, ...]) -> None:
        detached(engine, "counter", "busybox", "sh", "-c", COUNT)
        detached(engine, "reader", "-i", "busybox", "cat")
        detached(engine, "stopper", "busybox", "sh", "-c", EXIT_ON_TERM)
        for part in order:
            kill_part(engine, part)
        assert set(engine("ps", "--format", "{{.Names}}").stdout.split()) == {"counter", "reader", "stopper"}
        seen = logged(engine, "counter")
        wait_until(lambda: len(logged(engine, "counter")) > len(seen) + 3)
        assert engine("exec", "reader", "echo", "here").stdout == "here\n"
        assert state(engine, "reader") == "running"
        engine("stop", "stopper")
        assert state(engine, "stopper") == "exited 7"
        engine("rm", "-f", "counter")

    def test_is_logged_without_a_gap(self, engine: Engine, order: tuple[str, ...]) -> None:
        detached(engine, "counter", "busybox", "sh", "-c", COUNT)
        for part in order:
            before = len(logged(engine, "counter"))
            kill_part(engine, part)
            wait_until(lambda: len(logged(engine, "counter")) > before + 3)  # noqa: B023
        numbers = [int(line) for line in logged(engine, "counter")]
        lost = set(range(numbers[-1])) - set(numbers)
        assert sorted(numbers) == sorted(set(numbers))
        assert len(lost) <= len(order)  # what it had read and not written when it was killed

    def test_keeps_its_terminal(self, engine: Engine, order: tuple[str, ...]) -> None:
        detached(engine, "shell", "-it", "busybox", "sh")
        if order == ("both",):
            pytest.skip("a terminal hangs up when nobody holds it any more")
        for part in order:
            kill_part(engine, part)
        with closing(spawn(engine, "attach", "shell")) as terminal:
            terminal.sendline("echo $((6 * 7))")
            terminal.expect("42\r\n")
            terminal.sendline("exit 5")
            terminal.expect(pexpect.EOF)
        assert terminal.wait() == 5
        assert "42" in engine("logs", "shell").stdout

    def test_is_attached_to_again(self, engine: Engine, order: tuple[str, ...]) -> None:
        detached(engine, "reader", "-i", "busybox", "sh", "-c", "cat; exit 3")
        for part in order:
            kill_part(engine, part)
        attached = subprocess.Popen(
            [COMMAND, "attach", "reader"], env=engine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with attached:
            assert attached.stdin and attached.stdout
            attached.stdin.write(b"to and fro\n")
            attached.stdin.flush()
            assert attached.stdout.readline() == b"to and fro\n"
            engine("exec", "reader", "sh", "-c", "kill $(pidof cat)")
        assert attached.returncode == 3

    def test_answers_on_its_published_port(self, engine: Engine, order: tuple[str, ...]) -> None:
        detached(
            engine, "web", "-p", "127.0.0.1:18734:80", "busybox", "sh", "-c", "while echo pong | nc -lp 80; do :; done"
        )
        for part in order:
            kill_part(engine, part)
        assert engine("port", "web").stdout == "80/tcp -> 127.0.0.1:18734\n"
        wait_until(lambda: received_from(18734) == b"pong\n")
        clash = engine("run", "-d", "-p", "127.0.0.1:18734:80", "busybox", "true", check=False)
        assert clash.returncode == 125 and "18734" in clash.stderr
        engine("rm", "-f", "web")
        assert received_from(18734) == b""

    def test_is_found_by_name(self, engine: Engine, order: tuple[str, ...]) -> None:
        engine("network", "create", "lan")
        detached(engine, "server", "--network", "lan", "busybox", "sleep", "1000")
        for part in order:
            kill_part(engine, part)
        found = engine("run", "--rm", "--network", "lan", "busybox", "nslookup", "server.").stdout
        assert inspected(engine, "server", "{{.NetworkSettings.Networks.lan.IPAddress}}") in found
        engine("rm", "-f", "server")
        engine("network", "rm", "lan")


def received_from(port: int) -> bytes:
    """What a server on 127.0.0.1 says; nothing where there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(100)
    except OSError:
        return b""


class TestWhatEnds:
    def test_while_there_is_no_engine(self, engine: Engine) -> None:
        detached(engine, "short", "-i", "busybox", "sh", "-c", "read go; echo last words; exit 9")
        pid, pipe = pid_of(engine, "short"), input_pipe(engine, "short")
        kill_part(engine, "engine")
        pipe.write_text("go\n")
        wait_until(lambda: ended(pid))
        assert state(engine, "short") == "exited 9"
        assert logged(engine, "short") == ["last words"]

    def test_while_there_is_no_spawner_of_its_own(self, engine: Engine) -> None:
        detached(engine, "short", "-i", "busybox", "sh", "-c", "read go; echo last words; exit 9")
        kill_part(engine, "spawner")
        input_pipe(engine, "short").write_text("go\n")
        assert engine("wait", "short").stdout == "9\n"
        assert logged(engine, "short") == ["last words"]

    def test_by_a_signal_while_the_spawner_is_another(self, engine: Engine) -> None:
        detached(engine, "short", "busybox", "sleep", "1000")
        kill_part(engine, "spawner")
        engine("kill", "short")
        assert engine("wait", "short").stdout == "137\n"

    def test_while_there_is_no_engine_and_the_spawner_is_another(self, engine: Engine) -> None:
        detached(engine, "short", "-i", "busybox", "sh", "-c", "read go; exit 9")
        pid, pipe = pid_of(engine, "short"), input_pipe(engine, "short")
        for part in ("spawner", "engine"):
            kill_part(engine, part)
        pipe.write_text("go\n")
        wait_until(lambda: ended(pid))
        assert state(engine, "short") == "exited 9"

    def test_while_there_is_neither(self, engine: Engine) -> None:
        """Nobody is there to learn its exit code; that it has ended is seen, and what it wrote is kept."""
        detached(engine, "short", "-i", "busybox", "sh", "-c", "read go; exit 9")
        pid, pipe = pid_of(engine, "short"), input_pipe(engine, "short")
        kill_part(engine, "both")
        pipe.write_text("go\n")
        wait_until(lambda: ended(pid))
        assert state(engine, "short") == "exited 255"
        assert engine("start", "short").returncode == 0
        engine("rm", "-f", "short")

    def test_of_itself_with_nothing_left_though_it_was_to_be_removed(self, engine: Engine) -> None:
        detached(engine, "short", "--rm", "-p", "18735:80", "-v", "/data", "-i", "busybox", "sh", "-c", "read go")
        pid, pipe = pid_of(engine, "short"), input_pipe(engine, "short")
        kill_part(engine, "engine")
        pipe.write_text("go\n")
        wait_until(lambda: ended(pid))
        assert engine("ps", "-aq").stdout == ""
        assert engine("volume", "ls", "-q").stdout == ""
        assert os.listdir(engine.root / "containers") == []

    def test_is_restarted_as_its_policy_says(self, engine: Engine) -> None:
        for name, policy in (("failing", "on-failure"), ("lasting", "always"), ("stopped", "unless-stopped")):
            detached(engine, name, "--restart", policy, "busybox", "sleep", "1000")
        engine("stop", "-t", "0", "stopped")
        pids = {name: pid_of(engine, name) for name in ("failing", "lasting")}
        kill_part(engine, "engine")
        for pid in pids.values():
            kill(pid)
        wait_until(lambda: {state(engine, name) for name in pids} == {"running"})
        assert state(engine, "stopped") == "exited 137"
        assert all(pid_of(engine, name) != pid for name, pid in pids.items())
        kill_part(engine, "spawner")
        kill(pid_of(engine, "lasting"))
        wait_until(lambda: inspected(engine, "lasting", "{{.RestartCount}} {{.State.Status}}") == "2 running")


def input_pipe(engine: Engine, container: str) -> Path:
    """Where a container's standard input comes from."""
    return engine.runtime_dir / "containers" / inspected(engine, container, "{{.Id}}") / "stdin"


class TestWhoIsAttached:
    """Who uses a container while the spawner dies does not notice."""

    def test_to_its_output(self, engine: Engine) -> None:
        running = subprocess.Popen(
            [COMMAND, "run", "--name", "counter", "--network", "none", "busybox", "sh", "-c",
             "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); usleep 5000; done; exit 4"],
            env=engine.environment, stdout=subprocess.PIPE,
        )  # fmt: skip
        with running:
            assert running.stdout
            first = [running.stdout.readline() for _ in range(50)]
            kill_part(engine, "spawner")
            numbers = [int(line) for line in [*first, *running.stdout]]
        assert running.returncode == 4
        assert numbers == sorted(set(numbers)) and numbers[-1] == 299 and len(numbers) >= 299

    def test_on_a_terminal(self, engine: Engine) -> None:
        with closing(spawn(engine, "run", "-it", "--name", "shell", "--network", "none", "busybox", "sh")) as terminal:
            terminal.expect("/ # ")
            kill_part(engine, "spawner")
            terminal.sendline("echo $((6 * 7))")
            terminal.expect("42\r\n")
            terminal.sendline("exit 5")
            terminal.expect(pexpect.EOF)
        assert terminal.wait() == 5

    def test_to_an_exec(self, engine: Engine) -> None:
        detached(engine, "box", "busybox", "sleep", "1000")
        with closing(spawn(engine, "exec", "-it", "box", "sh")) as terminal:
            terminal.expect("/ # ")
            kill_part(engine, "spawner")
            terminal.sendline("echo $((6 * 7))")
            terminal.expect("42\r\n")
            terminal.sendline("exit 6")
            terminal.expect(pexpect.EOF)
        assert terminal.wait() == 6
        engine("rm", "-f", "box")


@pytest.mark.parametrize("part", ["engine", "spawner", "both"])
def test_a_kill_in_the_middle_of_anything_leaves_nothing_half_done(engine: Engine, part: str) -> None:
    """Starts, executions, stops and removals, at several moments; afterwards each container is one or the other."""
    engine("run", "--rm", "busybox", "true")
    for moment in range(5):
        engine("run", "-d", "--name", f"stopped-{moment}", "busybox", "sleep", "1000")
        engine("run", "-d", "--name", f"removed-{moment}", "busybox", "sleep", "1000")
        status = engine.status()
        commands = [
            ("run", "-d", "--name", f"started-{moment}", "-p", "80", "-v", "/data", "busybox", "sleep", "1000"),
            ("run", "--rm", "busybox", "true"),
            ("exec", f"stopped-{moment}", "true"),
            ("stop", "-t", "0", f"stopped-{moment}"),
            ("rm", "-f", f"removed-{moment}"),
        ]
        processes = [subprocess.Popen([COMMAND, *words], env=engine.environment, **SILENT) for words in commands]
        time.sleep(moment * 0.012)
        for each in ("engine", "spawner") if part == "both" else (part,):
            kill(status[f"{each}_pid"])
        for process in processes:
            assert process.wait(PATIENCE) in (0, 1, 125, 137)
    for name in engine("ps", "-a", "--format", "{{.Names}}").stdout.split():
        engine("start", name)
        assert engine("exec", name, "echo", "here").stdout == "here\n"
        engine("rm", "-f", "-v", name)
    assert engine("volume", "ls", "-q").stdout == ""
    for process in processes:
        assert process.poll() is not None
    assert os.listdir(engine.root / "containers") == []
    assert os.listdir(engine.runtime_dir / "containers") == []


PIPED: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
SILENT: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class TestTheEngine:
    def test_is_started_once_however_many_want_it(self, engine: Engine) -> None:
        engine("engine", "stop")
        started = [subprocess.Popen([COMMAND, "ps", "-q"], env=engine.environment, **SILENT) for _ in range(10)]
        assert [process.wait(PATIENCE) for process in started] == [0] * 10
        log = (engine.runtime_dir / "engine.log").read_text()
        assert "Traceback" not in log
        assert engine("engine", "stop").returncode == 0
        assert engine("engine", "status", check=False).returncode == 1

    @pytest.mark.parametrize("how", ["engine stop", "SIGTERM"])
    def test_ends_and_leaves_what_runs(self, engine: Engine, how: str) -> None:
        detached(engine, "counter", "busybox", "sh", "-c", COUNT)
        pid, status = pid_of(engine, "counter"), engine.status()
        if how == "SIGTERM":
            kill(status["engine_pid"], signal.SIGTERM)
        else:
            engine("engine", "stop")
        assert not runs(status["engine_pid"])
        assert not (engine.runtime_dir / "engine.sock").exists()
        assert pid_of(engine, "counter") == pid  # and another engine runs
        assert engine.status()["spawner_pid"] == status["spawner_pid"]
        before = len(logged(engine, "counter"))
        wait_until(lambda: len(logged(engine, "counter")) > before)
        engine("rm", "-f", "counter")

    def test_ends_with_all_that_it_has_when_asked_to(self, engine: Engine) -> None:
        detached(engine, "stopper", "--restart", "unless-stopped", "busybox", "sh", "-c", EXIT_ON_TERM)
        status = engine.status()
        engine("engine", "stop", "--containers")
        for part in ("engine_pid", "spawner_pid"):
            wait_until(lambda: not runs(status[part]))  # noqa: B023
        assert state(engine, "stopper") == "exited 7"

    def test_ends_after_what_it_is_at(self, engine: Engine) -> None:
        """It starts nothing more, and whoever is on the way when it ends is told, or finds the next engine."""
        words = ("run", "-d", "--network", "none", "busybox", "sleep", "1000")
        for _ in range(3):
            running = [subprocess.Popen([COMMAND, *words], env=engine.environment, **PIPED) for _ in range(4)]
            engine("engine", "stop")
            for process in running:
                out, err = process.communicate(timeout=PATIENCE)
                assert (process.returncode, err) == (0, b"") or (process.returncode == 125 and b"the engine" in err)
                found = engine("ps", "-aq", "--no-trunc").stdout.split()
                assert process.returncode or out.decode().strip() in found
        states = set(engine("ps", "-a", "--format", "{{.State}}").stdout.split())
        assert states <= {"running"}

    def test_ends_when_nobody_has_needed_it_for_a_while(self, engine: Engine) -> None:
        engine("engine", "stop")
        engine.environment["CUTAWAY_IDLE_TIME"] = "0.5"
        detached(engine, "box", "busybox", "sleep", "1000")
        status = engine.status()
        time.sleep(1)
        assert engine.status()["engine_pid"] == status["engine_pid"]  # there is something to look after
        engine("rm", "-f", "box")
        for part in ("engine_pid", "spawner_pid"):
            wait_until(lambda: not runs(status[part]))  # noqa: B023
        assert engine("ps", "-q").returncode == 0

    def test_that_is_about_to_end_answers_a_caller(self, engine: Engine) -> None:
        """Callers come again and again just when it thinks that nobody will."""
        engine("engine", "stop")
        engine.environment["CUTAWAY_IDLE_TIME"] = "0.1"
        pids = set()
        for turn in range(20):
            assert engine("ps", "-q").returncode == 0
            status = engine("engine", "status", "-o", "json", check=False)
            pids |= {json.loads(status.stdout)["engine_pid"]} if status.returncode == 0 else set()
            time.sleep(0.09 + turn % 5 * 0.01)
        assert len(pids) > 1, "it never ended: this has tested nothing"
        assert "Traceback" not in (engine.runtime_dir / "engine.log").read_text()

    def test_says_in_one_sentence_why_it_cannot_start(self, engine: Engine) -> None:
        engine("engine", "stop")
        database = (engine.root / "engine.db").read_bytes()
        for broken in (b"x" * 4096, None):
            (engine.root / "engine.db").unlink()
            if broken is None:
                (engine.root / "engine.db").mkdir()
            else:
                (engine.root / "engine.db").write_bytes(broken)
            failed = engine("ps", check=False)
            assert failed.returncode == 125
            assert failed.stderr.startswith("cutaway: the engine could not start: ") and failed.stderr.count("\n") == 1
            assert "engine.db" in failed.stderr
        (engine.root / "engine.db").rmdir()
        (engine.root / "engine.db").write_bytes(database)


class TestAnotherVersion:
    """The code was replaced by another version's while containers ran."""

    def test_takes_over_from_the_one_before(self, engine: Engine, tmp_path: Path) -> None:
        detached(engine, "counter", "busybox", "sh", "-c", COUNT)
        detached(engine, "shell", "-it", "busybox", "sh")
        engine("exec", "-d", "shell", "sleep", "1234")
        before = engine.status()
        engine("engine", "stop")
        newer = newer_version(engine, tmp_path)
        newer("version")
        after = newer.status()
        assert after["version"] == "99" and after["spawner_pid"] != before["spawner_pid"]
        wait_until(lambda: not runs(before["spawner_pid"]))
        assert "sleep 1234" in newer("top", "shell", "-o", "args").stdout
        with closing(spawn(newer, "attach", "shell")) as terminal:
            terminal.sendline("exit $((6 * 7))")
            terminal.expect(pexpect.EOF)
        assert terminal.wait() == 42
        seen = len(logged(newer, "counter"))
        wait_until(lambda: len(logged(newer, "counter")) > seen)
        numbers = [int(line) for line in logged(newer, "counter")]
        assert numbers == list(range(len(numbers)))
        newer("kill", "counter")
        assert newer("wait", "counter").stdout == "137\n"
        newer("engine", "stop")


def newer_version(engine: Engine, directory: Path) -> Engine:
    """The same engine, as a version 99 of the code would find it."""
    package, command = directory / "cutaway", directory / "command"
    shutil.copytree(Path(cutaway.__file__).parent, package)
    init = package / "__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "99"', init.read_text()))
    paths = [str(directory), msgspec.__path__[0].removesuffix("/msgspec")]
    command.write_text(
        f"#!{sys.executable} -IS\nimport sys\nsys.path += {paths}\n"
        "from cutaway.client.command import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    newer = Engine(engine.root.parent)
    newer.command = command
    return newer
