"""Containers from Python, blocking: `run`, `stream`, `container`, and what is left when they end."""

from __future__ import annotations

import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import cutaway
from tests.client.programs import kill, kill_engine, program, said, until_gone
from tests.engines import Engine


@pytest.fixture(autouse=True)
def nothing_stays(client: str, engine: Engine) -> Iterator[None]:  # noqa: ARG001
    """No container, and no thread, is left by a call or a block."""
    threads = threading.enumerate()
    yield
    assert engine("ps", "-aq").stdout == ""
    assert threading.enumerate() == threads


@pytest.fixture
def box(client: str) -> Iterator[cutaway.Container]:
    with cutaway.container(client, network="none") as box:
        yield box


def run(image: str | None, *command: str, **options: object) -> cutaway.Result:
    return cutaway.run(image, command, network="none", **options)  # type: ignore[arg-type]


class TestRun:
    def test_returns_what_was_written_and_how_it_ended(self, client: str) -> None:
        done = run(client, "sh", "-c", "echo out; echo err >&2; exit 3")
        assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 3)
        assert not (done.oom_killed or done.timed_out or done.truncated)

    def test_says_how_long_the_command_ran(self, client: str) -> None:
        begin = time.monotonic()
        done = run(client, "sleep", "0.2")
        assert 0.2 <= done.duration <= time.monotonic() - begin

    def test_takes_the_options_of_the_command_line(self, client: str) -> None:
        script = "echo $NAME $OTHER; id -u; pwd; hostname; ip -o link | wc -l; touch /file || echo read-only"
        done = cutaway.run(
            client,
            ["sh", "-c", script],
            env={"NAME": "a b", "OTHER": 2},
            user=1000,
            workdir="/tmp",
            hostname="box",
            network="none",
            read_only=True,
        )
        assert done.stdout.decode().split("\n")[:-1] == ["a b 2", "1000", "/tmp", "box", "1", "read-only"]

    def test_takes_variables_from_the_program(self, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FROM_HERE", "two\nlines")
        monkeypatch.setenv("NOT_TEXT", os.fsdecode(b"\xff"))
        assert run(client, "sh", "-c", 'echo "$FROM_HERE"', env=["FROM_HERE"]).stdout == b"two\nlines\n"

    def test_reads_option_files_relative_to_the_program(
        self, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "variables").write_text("A=1\n")
        monkeypatch.chdir(tmp_path)
        done = run(client, "cat", "/here/variables", env_file=Path("variables"), volume=["./:/here:ro"])
        assert done.stdout == b"A=1\n"

    def test_needs_no_working_directory(self, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        assert run(client, "true").exit_code == 0

    def test_writes_the_id_to_a_file(self, client: str, tmp_path: Path) -> None:
        done = run(client, "hostname", cidfile=tmp_path / "id")
        assert (tmp_path / "id").read_text().startswith(done.stdout.decode().strip())

    def test_passes_input_larger_than_a_pipe(self, client: str) -> None:
        content = os.urandom(1 << 20)
        assert run(client, "cat", input=content).stdout == content

    def test_takes_text_as_input(self, client: str) -> None:
        assert run(client, "cat", input="über").stdout == "über".encode()

    def test_has_empty_input_otherwise(self, client: str) -> None:
        assert run(client, "cat").stdout == b""

    def test_does_not_let_the_container_change_the_input(self, client: str) -> None:
        assert run(client, "sh", "-c", "echo x > /proc/self/fd/0", input="secret").exit_code != 0

    def test_captures_more_than_pipes_hold_from_both_streams(self, client: str) -> None:
        script = "head -c 3000000 /dev/zero & head -c 2000000 /dev/zero >&2; wait"
        done = run(client, "sh", "-c", script)
        assert (len(done.stdout), len(done.stderr)) == (3_000_000, 2_000_000)

    def test_takes_a_command_longer_than_a_socket_holds(self, client: str) -> None:
        words = ["x" * 100_000] * 15
        assert run(client, "sh", "-c", 'echo "$#"', *words).stdout == b"14\n"

    def test_keeps_no_more_output_than_asked_for(self, client: str) -> None:
        done = run(client, "sh", "-c", "yes | head -c 1000000; echo short >&2", max_output=1000)
        assert (len(done.stdout), done.stderr, done.truncated, done.exit_code) == (1000, b"short\n", True, 0)

    def test_kills_it_when_its_time_is_up(self, client: str) -> None:
        done = run(client, "sh", "-c", "echo begun; sleep 1000", timeout=0.3)
        assert (done.stdout, done.timed_out, done.exit_code) == (b"begun\n", True, 137)

    def test_tells_that_memory_was_the_reason(self, client: str) -> None:
        done = run(client, "sh", "-c", "a=x; while true; do a=$a$a; done", memory="10m")
        assert (done.oom_killed, done.timed_out, done.exit_code) == (True, False, 137)

    def test_takes_a_directory_in_the_place_of_an_image(self, client: str, busybox_tar: Path, tmp_path: Path) -> None:
        with tarfile.open(busybox_tar) as archive:
            archive.extractall(tmp_path)
        done = cutaway.run(None, ["sh", "-c", "echo hi > /new; ls /bin/busybox"], rootfs=tmp_path, network="none")
        assert (done.stdout, (tmp_path / "new").read_text()) == (b"/bin/busybox\n", "hi\n")
        for image, options in ((client, {"rootfs": tmp_path}), (None, {})):
            with pytest.raises(cutaway.InvalidArgument, match="an image is needed, or a directory"):
                run(image, "true", **options)

    def test_gives_it_a_terminal(self, client: str) -> None:
        assert run(client, "sh", "-c", "test -t 0 && test -t 1 && tty", tty=True).stdout == b"/dev/pts/0\r\n"

    def test_refuses_input_for_a_terminal(self, client: str) -> None:
        with pytest.raises(cutaway.InvalidArgument, match="leave out input"):
            run(client, "cat", tty=True, input="x")

    def test_checks_the_exit_code_on_request(self, client: str) -> None:
        assert run(client, "echo", "fine").check().stdout == b"fine\n"
        with pytest.raises(cutaway.CommandFailed, match="exit code 2: no such thing") as failure:
            run(client, "sh", "-c", "echo no such thing >&2; exit 2").check()
        assert failure.value.result.exit_code == 2


class TestMistakes:
    def test_a_command_that_is_not_there(self, client: str) -> None:
        with pytest.raises(cutaway.CommandNotFound, match=r'exec: "nosuch": executable file not found') as failure:
            run(client, "nosuch")
        assert failure.value.exit_code == 127

    def test_a_command_that_cannot_be_executed(self, client: str) -> None:
        with pytest.raises(cutaway.CannotInvoke) as failure:
            run(client, "/etc/passwd")
        assert failure.value.exit_code == 126

    def test_an_image_that_is_not_there(self) -> None:
        with pytest.raises(cutaway.NotFound, match="nosuchimage"):
            cutaway.run("nosuchimage", ["true"], pull="never")

    def test_an_option_that_is_not_there(self, client: str) -> None:
        with pytest.raises(cutaway.InvalidArgument, match="unknown option memori; did you mean memory"):
            run(client, "true", memori="1g")

    def test_a_value_that_makes_no_sense(self, client: str) -> None:
        with pytest.raises(cutaway.InvalidArgument, match="invalid size: 'lots'"):
            run(client, "true", memory="lots")

    def test_a_command_in_one_string(self, client: str) -> None:
        with pytest.raises(TypeError, match="a command is a list of words"):
            cutaway.run(client, "echo hi")

    def test_a_null_byte(self, client: str) -> None:
        with pytest.raises(cutaway.EngineError):
            run(client, "echo", "a\0b")

    def test_everything_is_one_kind_of_error(self) -> None:
        kinds = [getattr(cutaway, name) for name in cutaway.__all__]
        errors = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)]
        assert len(errors) > 10
        assert all(issubclass(error, cutaway.CutawayError) for error in errors)


class TestStream:
    def test_tells_the_streams_apart(self, client: str) -> None:
        lines = cutaway.stream(client, ["sh", "-c", "echo a; echo b >&2; printf c"], network="none")
        assert sorted(lines) == [("stderr", b"b\n"), ("stdout", b"a\n"), ("stdout", b"c")]
        assert lines.outcome.exit_code == 0

    def test_gives_a_line_while_the_command_runs(self, client: str, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "answer")
        script = "echo question; cat /shared/answer; exit 4"
        volume = f"{tmp_path}:/shared"
        with cutaway.stream(client, ["sh", "-c", script], network="none", volume=volume, timeout=30) as lines:
            assert next(lines) == ("stdout", b"question\n")
            (tmp_path / "answer").write_text("answer\n")
            assert list(lines) == [("stdout", b"answer\n")]
        assert lines.outcome.exit_code == 4

    def test_kills_the_command_at_the_end_of_the_block(self, client: str) -> None:
        with cutaway.stream(client, ["yes"], network="none") as lines:
            assert next(lines) == ("stdout", b"y\n")
        assert len(list(lines)) < 1_000_000  # which had been read before

    def test_kills_the_command_when_nobody_reads_any_more(self, client: str, engine: Engine, tmp_path: Path) -> None:
        for _ in cutaway.stream(client, ["yes"], network="none", cidfile=tmp_path / "id"):
            break
        until_gone(engine, (tmp_path / "id").read_text())

    def test_misses_nothing_that_is_still_in_the_pipe_when_the_command_has_ended(
        self, client: str, engine: Engine, tmp_path: Path
    ) -> None:
        command = ["sh", "-c", "echo first; head -c 900000 /dev/zero"]
        with cutaway.stream(client, command, network="none", cidfile=tmp_path / "id") as lines:
            next(lines)
            until_gone(engine, (tmp_path / "id").read_text())
            assert sum(len(line) for _, line in lines) == 900_000

    def test_has_no_outcome_before_the_end(self, client: str) -> None:
        with cutaway.stream(client, ["yes"], network="none") as lines, pytest.raises(ValueError, match="no outcome"):
            _ = lines.outcome

    def test_cuts_lines_that_have_no_end(self, client: str) -> None:
        lines = cutaway.stream(client, ["head", "-c", "3000000", "/dev/zero"], network="none")
        assert max(len(line) for _, line in lines) < 2_000_000

    def test_raises_what_run_raises(self, client: str) -> None:
        with pytest.raises(cutaway.CommandNotFound):
            list(cutaway.stream(client, ["nosuch"], network="none"))


class TestContainer:
    def test_runs_commands_one_after_the_other(self, box: cutaway.Container) -> None:
        assert box.exec(["sh", "-c", "echo kept > /file"]).exit_code == 0
        assert box.exec(["cat", "/file"]).stdout == b"kept\n"

    def test_is_nothing_but_an_init_that_reaps(self, box: cutaway.Container) -> None:
        box.exec(["sh", "-c", "(sleep 0.01 &)"])
        box.exec(["sleep", "0.05"])
        assert box.exec(["ps", "-o", "args"]).stdout == b"COMMAND\ninit\nps -o args\n"

    def test_can_have_a_program_of_its_own(self, client: str) -> None:
        with cutaway.container(client, ["sleep", "1000"], network="none") as box:
            assert b"sleep 1000" in box.exec(["ps"]).stdout

    def test_exec_takes_options(self, box: cutaway.Container) -> None:
        done = box.exec(["sh", "-c", "echo $A; pwd; id -u; cat"], env={"A": 1}, workdir="/tmp", user=1000, input="in")
        assert done.stdout == b"1\n/tmp\n1000\nin"

    def test_exec_kills_the_process_group_when_its_time_is_up(self, box: cutaway.Container) -> None:
        done = box.exec(["sh", "-c", "echo begun; sleep 1000; true"], timeout=0.3)
        assert (done.stdout, done.timed_out, done.exit_code) == (b"begun\n", True, 137)
        assert b"sleep" not in box.exec(["ps"]).stdout

    def test_exec_returns_when_the_command_ends_whoever_writes_on(self, box: cutaway.Container) -> None:
        assert box.exec(["sh", "-c", "yes & exit 5"]).exit_code == 5

    def test_exec_tells_that_memory_was_the_reason(self, client: str) -> None:
        with cutaway.container(client, network="none", memory="20m") as box:
            greedy = box.exec(["sh", "-c", "a=x; while true; do a=$a$a; done"])
            assert (greedy.oom_killed, greedy.exit_code) == (True, 137)
            assert not box.exec(["true"]).oom_killed

    def test_keeps_nothing_of_a_command_that_has_ended(self, box: cutaway.Container) -> None:
        with box.stream(["sleep", "1000"]):
            box.exec(["true"])
            assert len(box.inspect()["ExecIDs"]) <= 1
        assert box.inspect()["ExecIDs"] is None

    def test_exec_raises_for_a_command_that_is_not_there(self, box: cutaway.Container) -> None:
        with pytest.raises(cutaway.CommandNotFound):
            box.exec(["nosuch"])
        with pytest.raises(cutaway.InvalidArgument, match="unknown option memory"):
            box.exec(["true"], memory="1g")  # type: ignore[call-arg]

    def test_stream_runs_beside_other_commands_until_the_end_of_its_block(self, box: cutaway.Container) -> None:
        with box.stream(["sh", "-c", "echo ready; sleep 1000"]) as server:
            assert next(server) == ("stdout", b"ready\n")
            assert b"sleep 1000" in box.exec(["ps"]).stdout
        assert b"sleep 1000" not in box.exec(["ps"]).stdout

    def test_ends_with_an_exception(self, client: str) -> None:
        with pytest.raises(ZeroDivisionError), cutaway.container(client, network="none"):
            _ = 1 / 0

    def test_being_removed_ends_its_commands(self, client: str) -> None:
        with cutaway.container(client, network="none") as box, box.stream(["sh", "-c", "echo on; sleep 1000"]) as lines:
            next(lines)
            box.remove(force=True)
            assert list(lines) == []
            assert lines.outcome.exit_code == 137

    def test_may_be_removed_in_its_block(self, client: str) -> None:
        with cutaway.container(client, network="none") as box:
            box.remove(force=True)

    def test_does_not_start_with_a_command_that_is_not_there(self, client: str) -> None:
        with pytest.raises(cutaway.CommandNotFound), cutaway.container(client, ["nosuch"], network="none"):
            pass


class TestFiles:
    def test_come_back_as_they_were_put(self, box: cutaway.Container) -> None:
        content = os.urandom(300_000)
        box.put("/tmp/file", content)
        assert box.get("/tmp/file") == content

    def test_may_be_text_and_executable(self, box: cutaway.Container) -> None:
        box.put("/hello", "#!/bin/sh\necho hello\n", mode=0o755)
        assert box.exec(["/hello"]).stdout == b"hello\n"

    def test_are_put_beneath_a_read_only_root(self, client: str) -> None:
        with cutaway.container(client, network="none", read_only=True, tmpfs="/scratch") as box:
            box.put("/job.sh", "echo ran > /scratch/out; touch /job.sh && echo writable")
            box.put("/scratch/in", "there")
            assert box.exec(["sh", "/job.sh"]).stdout == b""
            assert (box.get("/scratch/out"), box.get("/scratch/in")) == (b"ran\n", b"there")

    def test_are_not_put_in_a_read_only_volume(self, client: str, tmp_path: Path) -> None:
        with (
            cutaway.container(client, network="none", read_only=True, volume=f"{tmp_path}:/in:ro") as box,
            pytest.raises(cutaway.EngineError, match=r"(?i)read-only file system"),
        ):
            box.put("/in/file", "x")
        assert list(tmp_path.iterdir()) == []

    def test_may_be_a_directory_of_the_host(self, box: cutaway.Container, tmp_path: Path) -> None:
        (tmp_path / "project" / "package").mkdir(parents=True)
        (tmp_path / "project" / "package" / "module").write_text("code")
        box.put("/work", tmp_path / "project")
        assert box.get("/work/package/module") == b"code"

    def test_are_read_through_links_inside_the_container(self, box: cutaway.Container) -> None:
        box.exec(["sh", "-c", "echo inside > /etc/marker; ln -s /etc/marker /link; ln -s ../../../../etc/marker /up"])
        assert (box.get("/link"), box.get("/up")) == (b"inside\n", b"inside\n")

    def test_are_no_directories_and_no_devices(self, box: cutaway.Container) -> None:
        box.exec(["mkfifo", "/fifo"])
        for path in ("/etc", "/dev/zero", "/fifo"):
            with pytest.raises(cutaway.InvalidArgument, match="not a regular file"):
                box.get(path)

    def test_are_not_read_beyond_a_limit(self, box: cutaway.Container) -> None:
        box.exec(["truncate", "-s", "1G", "/sparse"])
        with pytest.raises(cutaway.TooLarge):
            box.get("/sparse", max_size=1000)

    def test_must_be_there(self, box: cutaway.Container) -> None:
        with pytest.raises(cutaway.NotFound, match="/nosuch"):
            box.get("/nosuch")
        with pytest.raises(cutaway.NotFound):
            box.put("/nosuch/file", "x")

    def test_have_names(self, box: cutaway.Container) -> None:
        with pytest.raises(cutaway.InvalidArgument, match="name of a file"):
            box.put("/tmp/", "x")


class TestEngine:
    def test_creates_starts_waits_removes(self, client: str) -> None:
        with cutaway.connect() as engine:
            container = engine.create(
                client, ["sh", "-c", "echo out; echo err >&2; exit 4"], network="none", name="mine"
            )
            assert (container.name, engine.get("mine").id) == ("mine", container.id)
            container.start()
            assert container.wait().exit_code == 4
            assert sorted(container.logs()) == [("stderr", b"err\n"), ("stdout", b"out\n")]
            assert list(container.logs(stdout=False)) == [("stderr", b"err\n")]
            assert container.inspect()["State"]["ExitCode"] == 4
            container.remove()
            with pytest.raises(cutaway.NotFound, match="No such container"):
                container.start()

    def test_created_containers_outlive_it(self, client: str, engine: Engine) -> None:
        with cutaway.connect() as connection:
            container = connection.create(client, ["sleep", "1000"], network="none")
            container.start()
        assert container.id in engine("ps", "-q", "--no-trunc").stdout
        container.remove(force=True)

    def test_steers_a_container(self, client: str) -> None:
        with cutaway.connect() as engine:
            container = engine.create(client, ["sleep", "1000"], network="none", init=True)
            container.start()
            assert [each.id for each in engine.containers()] == [container.id]
            container.pause()
            assert container.inspect()["State"]["Status"] == "paused"
            container.unpause()
            with pytest.raises(cutaway.TimedOut):
                container.wait(timeout=0.05)
            container.restart(timeout=0)
            container.kill("TERM")
            assert container.wait(timeout=20).exit_code == 143
            with pytest.raises(cutaway.Conflict):
                container.kill()
            container.remove()

    def test_a_name_is_taken_once(self, client: str) -> None:
        with cutaway.connect() as engine:
            container = engine.create(client, ["true"], name="taken")
            with pytest.raises(cutaway.Conflict, match="already in use"):
                engine.create(client, ["true"], name="taken")
            container.remove()

    def test_files_are_put_before_the_start(self, client: str) -> None:
        with cutaway.connect() as engine:
            container = engine.create(client, ["cat", "/file"], network="none", read_only=True)
            container.put("/file", "here")
            container.start()
            container.wait()
            assert list(container.logs()) == [("stdout", b"here")]
            container.remove()

    def test_answers_several_threads_at_once(self, client: str) -> None:
        with cutaway.connect() as engine:
            ids = []

            def one() -> None:
                ids.append(engine.run(client, ["hostname"], network="none").stdout)

            threads = [threading.Thread(target=one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(set(ids)) == 8


class TestEnds:
    """However a program ends, its containers end with it."""

    PROGRAM = dedent("""
        import cutaway, os, sys
        with cutaway.container("busybox", network="none") as box:
            print(box.id, flush=True)
            {}
        """)

    @pytest.mark.parametrize("end", ["sys.exit(3)", "raise KeyboardInterrupt", "os._exit(3)", "os.abort()"])
    def test_by_itself(self, engine: Engine, end: str) -> None:
        with program(engine, self.PROGRAM.format(end)) as process:
            until_gone(engine, said(process))
            assert process.wait() != 0

    def test_by_being_killed(self, engine: Engine) -> None:
        with program(engine, self.PROGRAM.format("box.exec(['sleep', '1000'])")) as process:
            container = said(process)
            kill(process)
            until_gone(engine, container)

    def test_by_being_killed_while_it_runs_a_command(self, engine: Engine) -> None:
        source = """
            import cutaway
            for line in cutaway.stream("busybox", ["sh", "-c", "hostname; sleep 1000"], network="none"):
                print(line[1].decode().strip(), flush=True)
            """
        with program(engine, dedent(source)) as process:
            container = said(process)
            kill(process)
            until_gone(engine, container)

    def test_without_leaving_the_block(self, engine: Engine) -> None:
        source = """
            import cutaway
            box = cutaway.container("busybox", network="none").__enter__()
            print(box.id, flush=True)
            """
        with program(engine, dedent(source)) as process:
            until_gone(engine, said(process))


class TestAnotherEngine:
    """The engine may end, or be killed, while a program uses it."""

    @pytest.fixture
    def other(self, new_engine: Callable[[], Engine], busybox_tar: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
        engine = new_engine()
        engine("import", busybox_tar, "busybox")
        for name in ("CUTAWAY_ROOT", "CUTAWAY_RUNTIME_DIR"):
            monkeypatch.setenv(name, engine.environment[name])
        return engine

    def test_is_started_where_none_runs(self, other: Engine) -> None:
        other("engine", "stop")
        assert run("busybox", "echo", "hi").stdout == b"hi\n"

    def test_is_no_child_of_the_program(self, other: Engine) -> None:
        other("engine", "stop")
        run("busybox", "true")
        stat = Path(f"/proc/{other.status()['engine_pid']}/stat").read_text()
        assert int(stat.rpartition(")")[2].split()[1]) != os.getpid()

    def test_takes_over_from_one_that_was_killed(self, other: Engine) -> None:
        with cutaway.connect() as engine, cutaway.container("busybox", network="none"):
            kill_engine(other)
            assert engine.containers(all=True) == []

    def test_being_killed_is_told(self, other: Engine) -> None:
        with cutaway.stream("busybox", ["yes"], network="none") as lines:
            next(lines)
            kill_engine(other)
            with pytest.raises(cutaway.EngineLost):
                for _ in lines:
                    pass
        assert other("ps", "-aq").stdout == ""

    def test_ending_takes_the_sandboxes_along(self, other: Engine) -> None:
        with cutaway.container("busybox", network="none") as box:
            process = Path(f"/proc/{box.inspect()['State']['Pid']}")
            other("engine", "stop")
            assert not process.exists()
            with pytest.raises(cutaway.NotFound):
                box.exec(["true"])

    def test_does_not_answer_those_without_rights(self, other: Engine) -> None:
        source = f"""
            import os, cutaway
            run, unreachable = cutaway.run, cutaway.Unreachable  # imported by who may read them
            os.environ["CUTAWAY_RUNTIME_DIR"] = {str(other.runtime_dir)!r}
            os.setuid(1000)
            try:
                run("busybox", ["true"])
            except unreachable as error:
                print(error)
            """
        with program(other, dedent(source)) as process:
            assert "root rights" in said(process)
