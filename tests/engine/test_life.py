"""A container's life: created, started, stopped, restarted, waited for, renamed, removed; and what is said of each."""

from __future__ import annotations

import hashlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.children import wait_until
from tests.engine.containers import inspected, names, running
from tests.engines import COMMAND, Engine

pytestmark = pytest.mark.usefixtures("busybox")

RUN = ("run", "--network", "none")
LISTENING = ("sh", "-c", "trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.05; done")


@contextmanager
def command(cutaway: Engine, *words: str, **more: object) -> Iterator[subprocess.Popen[bytes]]:
    """`cutaway WORDS` while it runs, with pipes; killed at the end."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    process = subprocess.Popen([str(COMMAND), *words], env=cutaway.environment, bufsize=0, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def all_are_removed(cutaway: Engine) -> Iterator[None]:
    yield
    if left := names(cutaway):
        cutaway("rm", "-f", "-v", *left)


def status(cutaway: Engine, box: str) -> str:
    return inspected(cutaway, box, "{{.State.Status}}")


def refused(cutaway: Engine, *words: str) -> str:
    done = cutaway(*words, check=False)
    assert done.returncode == 1
    return done.stderr.removeprefix("cutaway: ").strip()


class TestOutputAndInput:
    @pytest.mark.parametrize("options", [("--rm",), ()], ids=["own descriptors", "through the spawner"])
    def test_a_hundred_megabytes_arrive_unchanged(
        self, cutaway: Engine, options: Sequence[str], tmp_path: Path
    ) -> None:
        block = os.urandom(1 << 20)
        (tmp_path / "content").write_bytes(block * 100)
        with open(tmp_path / "content", "rb") as source:
            words = [str(COMMAND), *RUN, "-i", *options, "--log-driver", "none", "busybox", "cat"]
            with subprocess.Popen(words, env=cutaway.environment, stdin=source, stdout=subprocess.PIPE) as process:
                assert process.stdout
                digest = hashlib.sha256()
                while part := process.stdout.read(1 << 20):
                    digest.update(part)
        assert process.returncode == 0
        assert digest.digest() == hashlib.sha256(block * 100).digest()

    def test_streams_are_chosen(self, cutaway: Engine) -> None:
        script = "echo out; echo error >&2"
        words = ("--rm", "busybox", "sh", "-c", script)
        only_error = cutaway(*RUN, "-a", "stderr", *words)
        only_out = cutaway(*RUN, "-a", "stdout", *words)
        assert (only_error.stdout, only_error.stderr) == ("", "error\n")
        assert (only_out.stdout, only_out.stderr) == ("out\n", "")

    def test_input_that_nobody_reads_is_no_error(self, cutaway: Engine) -> None:
        with open("/dev/zero", "rb") as endless:
            assert cutaway(*RUN, "-i", "--rm", "busybox", "true", stdin=endless).returncode == 0
            assert (
                cutaway(*RUN, "-i", "--rm", "busybox", "sh", "-c", "exit 3", stdin=endless, check=False).returncode == 3
            )

    def test_output_that_nobody_reads_ends_the_command(self, cutaway: Engine) -> None:
        with command(cutaway, *RUN, "--name", "box", "busybox", "yes") as process:
            assert process.stdout
            assert process.stdout.read(2) == b"y\n"
            process.stdout.close()
            assert process.wait(timeout=10) == -signal.SIGPIPE
        assert status(cutaway, "box") == "running"

    def test_output_to_a_full_disk_is_said(self, cutaway: Engine) -> None:
        with open("/dev/full", "wb") as full:
            words = [str(COMMAND), *RUN, "--rm", "busybox", "echo", "much"]
            done = subprocess.run(words, env=cutaway.environment, stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 125
        assert done.stderr == b"cutaway: cannot write output: No space left on device\n"


class TestAttaching:
    def test_several_see_the_same_and_one_types(self, cutaway: Engine) -> None:
        with running(cutaway, "-i", command=("cat",)) as box:
            attach = ("attach", "--sig-proxy=false")
            with (
                command(cutaway, *attach, "--no-stdin", box) as first,
                command(cutaway, *attach, "--no-stdin", box) as second,
                command(cutaway, *attach, box) as typing,
            ):
                assert first.stdout
                assert second.stdout
                assert typing.stdin
                assert typing.stdout
                seen = {stream.fileno(): b"" for stream in (first.stdout, second.stdout, typing.stdout)}
                deadline = time.monotonic() + 10
                while not all(b"word\n" in read for read in seen.values()):  # some may be attached later
                    assert time.monotonic() < deadline
                    typing.stdin.write(b"word\n")
                    for stream in select.select(list(seen), [], [], 0.05)[0]:
                        seen[stream] += os.read(stream, 4096)

    def test_the_exit_code_is_the_containers(self, cutaway: Engine) -> None:
        with running(cutaway, "-i", command=("sh", "-c", "read word; echo $word; echo bye >&2; exit 6")) as box:
            done = cutaway("attach", box, input="hello\n", check=False)
            assert (done.returncode, done.stdout, done.stderr) == (6, "hello\n", "bye\n")

    def test_detached_input_stays_open_without_anyone(self, cutaway: Engine) -> None:
        with running(cutaway, "-i", command=("cat",)) as box:
            with command(cutaway, "attach", "--sig-proxy=false", box) as process:
                assert process.stdin
                process.stdin.write(b"one\n")
                wait_until(lambda: cutaway("logs", box).stdout == "one\n")
            assert status(cutaway, box) == "running"

    def test_needs_a_container_that_runs(self, cutaway: Engine) -> None:
        cutaway("create", "--name", "box", "busybox", "true")
        assert refused(cutaway, "attach", "box") == "You cannot attach to a stopped container, start it first"
        assert refused(cutaway, "attach", "nosuch") == "No such container: nosuch"


class TestStarting:
    def test_create_then_start(self, cutaway: Engine) -> None:
        identifier = cutaway("create", "--name", "box", "-i", "busybox", "cat").stdout.strip()
        assert re.fullmatch(r"[0-9a-f]{64}", identifier)
        assert status(cutaway, "box") == "created"
        assert cutaway("start", "-ai", identifier[:12], input="typed").stdout == "typed"
        assert cutaway("start", "-ai", "box", input="again").stdout == "again"
        assert cutaway("logs", "box").stdout == "typedagain"

    def test_starting_what_runs_changes_nothing(self, cutaway: Engine) -> None:
        with running(cutaway, "--name", "box") as box:
            pid = inspected(cutaway, box, "{{.State.Pid}}")
            assert cutaway("start", "box").stdout == "box\n"
            assert inspected(cutaway, box, "{{.State.Pid}}") == pid

    def test_files_written_before_are_there_again(self, cutaway: Engine) -> None:
        with running(cutaway, command=("sh", "-c", "echo >>/starts; sleep 1000")) as box:
            cutaway("restart", "-t", "0", box)
            wait_until(lambda: cutaway("exec", box, "wc", "-l", "/starts").stdout == "2 /starts\n")

    @pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/etc/passwd", 126), ("/tmp", 126)])
    def test_what_cannot_be_started_says_why(self, cutaway: Engine, program: str, code: int) -> None:
        cutaway("create", "--name", "box", "busybox", program)
        assert f'exec: "{program}": ' in refused(cutaway, "start", "box")
        assert inspected(cutaway, "box", "{{.State.Status}} {{.State.ExitCode}}") == f"created {code}"
        assert f'exec: "{program}": ' in inspected(cutaway, "box", "{{.State.Error}}")
        done = cutaway("run", "--name", "other", "busybox", program, check=False)
        assert (done.returncode, names(cutaway)) == (code, ["box"])

    @pytest.mark.parametrize("verb", ["run", "create"])
    def test_what_is_no_command(self, cutaway: Engine, verb: str) -> None:
        nothing, bytes_alone = (cutaway(verb, "busybox", *words, check=False) for words in ([""], ["echo", "\udcff"]))
        assert nothing.stderr == 'cutaway: exec: "": executable file not found in $PATH\n'
        assert bytes_alone.stderr == "cutaway: b'\\xff' is not text: it is not encoded in UTF-8\n"
        assert names(cutaway) == []

    def test_a_name_is_taken_once(self, cutaway: Engine) -> None:
        with running(cutaway, "--name", "box") as box:
            done = cutaway("run", "--name", "box", "busybox", "true", check=False)
        assert done.returncode == 125
        assert f'The container name "/box" is already in use by container "{box}"' in done.stderr


class TestEnding:
    def test_stop_asks_first(self, cutaway: Engine) -> None:
        with running(cutaway, command=LISTENING) as box:
            wait_until(lambda: cutaway("logs", box).stdout == "ready\n")
            assert cutaway("stop", box).stdout == f"{box}\n"
            assert inspected(cutaway, box, "{{.State.ExitCode}} {{.State.Status}}") == "7 exited"
            assert cutaway("logs", box).stdout == "ready\nasked\n"
            assert cutaway("stop", box).stdout == f"{box}\n"

    @pytest.mark.parametrize("options", [("--stop-timeout", "0"), ()], ids=["of the container", "of the command"])
    def test_stop_kills_who_does_not_listen(self, cutaway: Engine, options: Sequence[str]) -> None:
        with running(cutaway, *options) as box:
            cutaway("stop", *([] if options else ["-t", "0"]), box, timeout=9)
            assert inspected(cutaway, box, "{{.State.ExitCode}}") == "137"

    @pytest.mark.parametrize("options", [("--stop-signal", "USR1"), ()], ids=["of the container", "of the command"])
    def test_stop_signal(self, cutaway: Engine, options: Sequence[str]) -> None:
        script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"
        with running(cutaway, *options, command=("sh", "-c", script)) as box:
            wait_until(lambda: cutaway("logs", box).stdout == "ready\n")
            cutaway("stop", *([] if options else ["-s", "SIGUSR1"]), box)
            assert inspected(cutaway, box, "{{.State.ExitCode}}") == "9"

    def test_kill_with_any_signal(self, cutaway: Engine) -> None:
        script = "trap 'echo one' USR1; trap 'echo two' 34; echo ready; while :; do sleep 0.05; done"
        with running(cutaway, command=("sh", "-c", script)) as box:
            for name, seen in (("", "ready\n"), ("USR1", "one\n"), ("RTMIN", "two\n"), ("10", "one\n")):
                if name:
                    cutaway("kill", "-s", name, box)
                wait_until(lambda seen=seen: cutaway("logs", "--tail", "1", box).stdout == seen)  # type: ignore[misc]
            assert refused(cutaway, "kill", "-s", "NOSUCH", box) == "Invalid signal: NOSUCH"
            cutaway("kill", box)
            assert cutaway("wait", box).stdout == "137\n"
            assert refused(cutaway, "kill", box).endswith(f"Container {box} is not running")

    def test_wait_prints_codes_in_the_order_asked_for(self, cutaway: Engine) -> None:
        for name, code in (("slow", 4), ("quick", 5)):
            seconds = "0.3" if name == "slow" else "0"
            cutaway(*RUN, "-d", "--name", name, "busybox", "sh", "-c", f"sleep {seconds}; exit {code}")
        done = cutaway("wait", "slow", "nosuch", "quick", check=False)
        assert (done.returncode, done.stdout) == (1, "4\n5\n")
        assert done.stderr == "cutaway: No such container: nosuch\n"

    def test_signals_of_the_caller_are_passed_on(self, cutaway: Engine) -> None:
        with command(cutaway, *RUN, "--rm", "busybox", *LISTENING) as process:
            assert process.stdout
            assert process.stdout.read(6) == b"ready\n"
            process.terminate()
            assert (process.stdout.read(), process.wait(timeout=10)) == (b"asked\n", 7)

    def test_processes_end_with_the_first(self, cutaway: Engine) -> None:
        cutaway(*RUN, "--name", "box", "busybox", "sh", "-c", "sleep 1000 & echo $! ends with me")
        assert status(cutaway, "box") == "exited"

    def test_an_init_reaps_and_passes_signals_on(self, cutaway: Engine) -> None:
        with running(cutaway, "--init", command=LISTENING) as box:
            wait_until(lambda: cutaway("logs", box).stdout == "ready\n")
            cutaway("exec", "-d", box, "sh", "-c", "(sleep 0.1; exit 3) &")
            wait_until(lambda: " Z" not in cutaway("exec", box, "ps", "-o", "stat").stdout)
            cutaway("stop", box)
            assert inspected(cutaway, box, "{{.State.ExitCode}}") == "7"


class TestRemoving:
    def test_what_runs_is_kept_unless_forced(self, cutaway: Engine) -> None:
        with running(cutaway, "--name", "box") as box:
            assert refused(cutaway, "rm", "box").startswith('cannot remove container "/box": container is running')
            cutaway("pause", box)
            assert refused(cutaway, "rm", "box").startswith('cannot remove container "/box": container is paused')
            assert cutaway("rm", "-f", "box").stdout == "box\n"
            assert names(cutaway) == []

    def test_what_is_not_there(self, cutaway: Engine) -> None:
        assert refused(cutaway, "rm", "nosuch") == "No such container: nosuch"
        assert cutaway("rm", "-f", "nosuch").returncode == 0

    def test_several_of_which_one_is_not_there(self, cutaway: Engine) -> None:
        for name in ("one", "two"):
            cutaway("create", "--name", name, "busybox", "true")
        done = cutaway("rm", "one", "nosuch", "two", check=False)
        assert (done.returncode, done.stdout, names(cutaway)) == (1, "one\ntwo\n", [])

    @pytest.mark.parametrize("ending", ["exits", "stop", "kill", "rm -f"])
    def test_rm_leaves_nothing_however_it_ends(self, cutaway: Engine, ending: str) -> None:
        first = "true" if ending == "exits" else "sleep 1000"
        box = cutaway("run", "-d", "--rm", "busybox", *first.split()).stdout.strip()
        if ending != "exits":
            cutaway(*ending.split(), *(["-t", "0"] if ending == "stop" else []), box)
        wait_until(lambda: names(cutaway) == [])

    def test_rm_does_not_mean_a_restart(self, cutaway: Engine) -> None:
        with running(cutaway, "--rm", command=("sh", "-c", "echo >>/starts; sleep 1000")) as box:
            wait_until(lambda: cutaway("exec", box, "cat", "/starts", check=False).returncode == 0)
            cutaway("restart", "-t", "0", box)
            wait_until(lambda: cutaway("exec", box, "wc", "-l", "/starts").stdout == "2 /starts\n")
            cutaway("stop", "-t", "0", box)
            assert names(cutaway) == []

    def test_waiting_for_one_that_removes_itself(self, cutaway: Engine) -> None:
        box = cutaway(*RUN, "-d", "--rm", "-i", "busybox", "sh", "-c", "read word; exit 5").stdout.strip()
        with command(cutaway, "wait", box) as waiting:
            wait_until(lambda: "unix" in Path(f"/proc/{waiting.pid}/wchan").read_text())  # it has asked
            assert cutaway("attach", box, input="end\n", check=False).returncode == 5
            assert waiting.communicate(timeout=10)[0] == b"5\n"


class TestRestartPolicies:
    def test_on_failure_so_many_times(self, cutaway: Engine) -> None:
        options = ("-d", "--name", "box", "--restart", "on-failure:2")
        cutaway(*RUN, *options, "busybox", "sh", "-c", "echo failed; exit 3")
        wait_until(lambda: inspected(cutaway, "box", "{{.State.Status}} {{.RestartCount}}") == "exited 2")
        assert cutaway("logs", "box").stdout == "failed\n" * 3
        assert inspected(cutaway, "box", "{{.State.ExitCode}}") == "3"

    def test_on_failure_not_after_success(self, cutaway: Engine) -> None:
        cutaway(*RUN, "--name", "box", "--restart", "on-failure", "busybox", "true")
        assert inspected(cutaway, "box", "{{.State.Status}} {{.RestartCount}}") == "exited 0"

    @pytest.mark.parametrize("policy", ["always", "unless-stopped"])
    def test_again_until_it_is_stopped(self, cutaway: Engine, policy: str) -> None:
        with running(cutaway, "--restart", policy) as box:
            first = inspected(cutaway, box, "{{.State.Pid}}")
            os.kill(int(first), signal.SIGKILL)
            wait_until(lambda: inspected(cutaway, box, "{{.State.Running}} {{.RestartCount}}") == "true 1")
            assert inspected(cutaway, box, "{{.State.Pid}}") != first
            cutaway("stop", "-t", "0", box)
            assert inspected(cutaway, box, "{{.State.Status}} {{.RestartCount}}") == "exited 1"

    def test_ever_more_slowly(self, cutaway: Engine) -> None:
        with running(cutaway, "--restart", "always", command=("false",)) as box:
            wait_until(lambda: inspected(cutaway, box, "{{.State.Status}} {{.RestartCount}}") == "restarting 4")
            assert refused(cutaway, "rm", box).split(": ")[1] == "container is restarting"
            assert "is restarting, wait until" in refused(cutaway, "pause", box)
            cutaway("stop", box)
            assert status(cutaway, box) == "exited"
            cutaway("start", box)

    def test_not_with_rm(self, cutaway: Engine) -> None:
        done = cutaway("run", "--rm", "--restart", "always", "busybox", "true", check=False)
        assert done.returncode == 125


class TestNames:
    def test_rename(self, cutaway: Engine) -> None:
        for name in ("one", "two"):
            cutaway("create", "--name", name, "busybox", "true")
        cutaway("rename", "one", "three")
        assert sorted(names(cutaway)) == ["three", "two"]
        assert "already in use" in refused(cutaway, "rename", "three", "two")
        assert "Invalid container name (a b)" in refused(cutaway, "rename", "three", "a b")
        assert "No such container: one" in refused(cutaway, "rename", "one", "four")

    def test_a_beginning_of_an_id_will_do(self, cutaway: Engine) -> None:
        with running(cutaway) as box:
            assert inspected(cutaway, box[:6], "{{.Id}}") == box
