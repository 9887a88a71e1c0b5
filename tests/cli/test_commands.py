"""The command line as a person uses it, with an engine and containers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from cutaway.kernel import procfs
from tests.children import wait_until
from tests.engines import COMMAND, Engine

TIMEOUT = 30


@pytest.fixture
def name(cutaway: Engine) -> Iterator[str]:
    """A name for a container, which is removed at the end of the test if it is there."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    cutaway("rm", "-f", "-v", name)


@pytest.fixture
def sleeping(cutaway: Engine, busybox: str, name: str) -> str:
    """The name of a running container."""
    cutaway("run", "-d", "--name", name, "--network", "none", "--stop-signal", "KILL", busybox, "sleep", "1000")
    return name


def popen(engine: Engine, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([COMMAND, *arguments], env=engine.environment, text=True, **more)


def test_run_shows_output_and_exit_code(cutaway: Engine, busybox: str) -> None:
    done = cutaway("run", "--rm", busybox, "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


def test_run_reads_standard_input_if_asked_to(cutaway: Engine, busybox: str) -> None:
    assert cutaway("run", "--rm", "-i", busybox, "cat", input="given").stdout == "given"
    assert cutaway("run", "--rm", busybox, "cat", input="given").stdout == ""


def test_output_to_a_file_is_the_same(cutaway: Engine, busybox: str, tmp_path: Path) -> None:
    """A regular file is not given to the container, whose root could open it anew; a pipe stands between."""
    with open(tmp_path / "out", "w") as out:
        program = "seq 10000; ls -l /proc/self/fd/1 | grep -c pipe: ; echo end"
        subprocess.run(
            [COMMAND, "run", "--rm", busybox, "sh", "-c", program], env=cutaway.environment, stdout=out, check=True
        )
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines == [*map(str, range(1, 10001)), "1", "end"]


@pytest.mark.parametrize(
    ("program", "code", "reason"), [("nosuch", 127, "not found"), ("/etc/passwd", 126, "permission denied")]
)
def test_a_program_that_cannot_run(cutaway: Engine, busybox: str, program: str, code: int, reason: str) -> None:
    done = cutaway("run", "--rm", busybox, program, check=False)
    assert done.returncode == code
    assert reason in done.stderr and "Traceback" not in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["run", "--pull", "never", "nosuch"], 125, "No such image: nosuch:latest"),
        (["run"], 1, "Usage:  cutaway run [OPTIONS] IMAGE [COMMAND] [ARG...]"),
        (["run", "--memroy", "1g", "x"], 125, "unknown flag: --memroy; did you mean --memory?"),
        (["run", "--stop-signal", "FOO", "busybox", "true"], 125, "Invalid signal: FOO"),
        (["run", "-v", "a:b:c:d", "busybox", "true"], 125, "invalid volume specification: 'a:b:c:d'"),
        (["run", "--env-file", "/nowhere", "busybox", "true"], 125, "open /nowhere: no such file or directory"),
        (["rnu", "busybox"], 1, "unknown command: cutaway rnu; did you mean cutaway run?"),
        (["network", "crate"], 1, "unknown command: cutaway network crate; did you mean cutaway network create?"),
        (["--nosuch"], 125, "unknown flag: --nosuch"),
        (["rm", "nosuch"], 1, "No such container: nosuch"),
        (["inspect", "nosuch"], 1, "No such object: nosuch"),
        (["exec", "nosuch", "ls"], 1, "No such container: nosuch"),
        (["exec", "nosuch"], 1, "'cutaway exec' requires at least 2 arguments"),
        (["network", "rm", "nosuch"], 1, "network nosuch not found"),
        (["volume", "inspect", "nosuch"], 1, "no such volume"),
        (["ps", "--filter", "foo=bar"], 1, "Invalid filter 'foo'"),
        (["ps", "--format", "{{.Foo"], 1, "failed to parse template: template: :1: unclosed action"),
        (["cp", "a", "b"], 1, "must specify at least one container source"),
        (["update", "x"], 1, "you must provide one or more flags"),
        (["top", "--help", "x"], 0, ""),
    ],
)
@pytest.mark.usefixtures("busybox")
def test_mistakes_are_explained(cutaway: Engine, arguments: list[str], code: int, complaint: str) -> None:
    done = cutaway(*arguments, check=False)
    assert complaint in done.stderr and "Traceback" not in done.stderr
    assert done.returncode == code
    assert cutaway("ps", "-aq").stdout == "", "nothing is left behind"


def test_a_name_that_is_taken(cutaway: Engine, busybox: str, sleeping: str) -> None:
    done = cutaway("run", "--name", sleeping, busybox, "true", check=False)
    container_id = cutaway("inspect", "-f", "{{.Id}}", sleeping).stdout.strip()
    assert done.returncode == 125
    assert (
        f'Conflict. The container name "/{sleeping}" is already in use by container "{container_id}". '
        "You have to remove (or rename) that container to be able to reuse that name." in done.stderr
    )


def test_a_name_that_is_nearly_right(cutaway: Engine, sleeping: str) -> None:
    assert f"did you mean {sleeping}?" in cutaway("stop", sleeping[:-1] + "x", check=False).stderr


def test_detached_run_prints_the_id(cutaway: Engine, busybox: str, name: str, tmp_path: Path) -> None:
    cidfile = tmp_path / "cid"
    container_id = cutaway("run", "-d", "--name", name, "--cidfile", cidfile, busybox, "sleep", "100").stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", container_id)
    assert cidfile.read_text() == container_id
    assert cutaway("ps", "-q", "--filter", f"name={name}").stdout.strip() == container_id[:12]
    again = cutaway("run", "--cidfile", cidfile, busybox, "true", check=False)
    assert again.returncode == 125 and "container ID file found" in again.stderr


@pytest.mark.parametrize("options", [["--rm"], []])
def test_signals_reach_the_container(cutaway: Engine, busybox: str, name: str, options: list[str]) -> None:
    program = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    with popen(
        cutaway, "run", "--name", name, *options, busybox, "sh", "-c", program, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "got\n"
        assert process.wait(TIMEOUT) == 5


def test_a_killed_container_is_128_and_the_signal(cutaway: Engine, busybox: str, name: str) -> None:
    with popen(
        cutaway, "run", "--name", name, busybox, "sh", "-c", "echo ready; sleep 100", stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        cutaway("kill", name)
        assert process.wait(TIMEOUT) == 137
    assert cutaway("ps", "-a", "--filter", f"name={name}", "--format", "{{.Status}}").stdout.startswith("Exited (137) ")


def test_exec(cutaway: Engine, sleeping: str) -> None:
    done = cutaway("exec", "-i", "-e", "A=1", "-w", "/etc", sleeping, "sh", "-c", "cat; echo $A; pwd; exit 7",
                   input="given ", check=False)  # fmt: skip
    assert (done.stdout, done.returncode) == ("given 1\n/etc\n", 7)
    assert cutaway("exec", sleeping, "nosuch", check=False).returncode == 127
    assert cutaway("exec", sleeping, "/etc/passwd", check=False).returncode == 126
    assert cutaway("exec", "-d", sleeping, "sh", "-c", "echo done > /flag").stdout == ""


def test_top_shows_host_pids(cutaway: Engine, sleeping: str) -> None:
    pid = cutaway("inspect", "-f", "{{.State.Pid}}", sleeping).stdout.strip()
    header, row = cutaway("top", sleeping).stdout.splitlines()
    assert header.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert row.split()[:2] == ["root", pid] and row.endswith("sleep 1000")
    assert cutaway("top", sleeping, "-o", "pid,comm").stdout.split() == ["PID", "COMMAND", pid, "sleep"]
    header, row = cutaway("top", sleeping, "aux").stdout.splitlines()
    assert header.split()[:4] == ["USER", "PID", "%CPU", "%MEM"] and row.split()[1] == pid
    refused = cutaway("top", sleeping, "--forest", check=False)
    assert refused.returncode == 1 and "ps option --forest is not supported" in refused.stderr


def test_logs_tell_streams_apart(cutaway: Engine, busybox: str, name: str) -> None:
    cutaway("run", "--name", name, busybox, "sh", "-c", "echo one; echo two >&2; echo three")
    done = cutaway("logs", name)
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    last = cutaway("logs", "--tail", "2", name)
    assert len(last.stdout.splitlines() + last.stderr.splitlines()) == 2
    stamped = cutaway("logs", "-t", name).stdout.splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ", "", line) for line in stamped] == ["one", "three"]
    assert cutaway("logs", "--since", "1h", "--until", "30m", name).stdout == ""
    assert cutaway("logs", "--since", "1h", name).stdout == "one\nthree\n"


def test_logs_follow_until_the_end(cutaway: Engine, busybox: str, name: str) -> None:
    program = "echo one; while [ ! -e /go ]; do sleep 0.1; done; echo two"
    cutaway("run", "-d", "--name", name, busybox, "sh", "-c", program)
    with popen(cutaway, "logs", "-f", name, stdout=subprocess.PIPE) as following:
        assert following.stdout
        assert following.stdout.readline() == "one\n"
        cutaway("exec", name, "touch", "/go")
        assert following.stdout.readline() == "two\n"
        assert following.wait(TIMEOUT) == 0


def test_wait_and_stop(cutaway: Engine, busybox: str, name: str) -> None:
    cutaway("run", "-d", "--name", name, busybox, "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done")
    with popen(cutaway, "wait", name, stdout=subprocess.PIPE) as waiting:
        assert cutaway("stop", name).stdout == f"{name}\n"
        assert waiting.communicate(timeout=TIMEOUT)[0] == "9\n"
    assert cutaway("start", name).stdout == f"{name}\n"
    assert cutaway("rename", name, f"{name}-2").stdout == ""
    assert cutaway("rm", name, check=False).returncode == 1
    assert cutaway("rm", "-f", f"{name}-2").stdout == f"{name}-2\n"


def test_pause(cutaway: Engine, sleeping: str) -> None:
    cutaway("pause", sleeping)
    assert cutaway("ps", "--filter", f"name={sleeping}", "--format", "{{.Status}}").stdout.endswith(" (Paused)\n")
    cutaway("unpause", sleeping)
    assert not cutaway("ps", "--filter", f"name={sleeping}", "--format", "{{.Status}}").stdout.endswith("(Paused)\n")


def test_inspect_is_json(cutaway: Engine, busybox: str, sleeping: str) -> None:
    container, image = json.loads(cutaway("inspect", sleeping, busybox).stdout)
    assert container["Name"] == f"/{sleeping}" and container["State"]["Running"] is True
    assert container["Image"] == image["Id"] and image["RepoTags"] == ["busybox:latest"]
    assert json.loads(cutaway("container", "inspect", "-f", "json", sleeping).stdout) == container
    refused = cutaway("inspect", "-f", "{{.Foo}}", sleeping, check=False)
    assert refused.returncode == 1 and 'map has no entry for key "Foo"' in refused.stderr


def test_stats(cutaway: Engine, sleeping: str) -> None:
    template = "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}"
    line = cutaway("stats", "--no-stream", "--format", template, sleeping).stdout
    assert re.fullmatch(rf"{sleeping} \d+\.\d\d% [\d.]+[KM]iB / [\d.]+GiB 1\n", line)


def test_files_are_copied_both_ways(cutaway: Engine, sleeping: str, tmp_path: Path) -> None:
    """Docker's rules for what lies at the target: https://docs.docker.com/reference/cli/docker/container/cp/"""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("content")
    (tmp_path / "single").write_text("alone")
    for source, target in (
        ("tree", "/new"),
        ("tree", "/tmp"),
        ("tree/.", "/opt-contents"),
        ("single", "/tmp/"),
        ("single", "/renamed"),
    ):
        cutaway("cp", source, f"{sleeping}:{target}", cwd=tmp_path)
    found = cutaway("exec", sleeping, "find", "/new", "/tmp", "/opt-contents", "/renamed", "-type", "f").stdout.split()
    expected = ["/new/sub/file", "/opt-contents/sub/file", "/renamed", "/tmp/single", "/tmp/tree/sub/file"]
    assert sorted(found) == expected
    cutaway("cp", f"{sleeping}:/tmp/tree", "back", cwd=tmp_path)
    cutaway("cp", f"{sleeping}:/tmp/tree", "back", cwd=tmp_path)
    assert (tmp_path / "back" / "sub" / "file").read_text() == "content"
    assert (tmp_path / "back" / "tree" / "sub" / "file").read_text() == "content"
    cutaway("cp", f"{sleeping}:/renamed", tmp_path / "single2")
    assert (tmp_path / "single2").read_text() == "alone"


def test_archives_are_copied_both_ways(cutaway: Engine, sleeping: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    with open(archive, "wb") as out:
        line = [str(COMMAND), "cp", f"{sleeping}:/etc", "-"]
        subprocess.run(line, env=cutaway.environment, stdout=out, check=True, timeout=TIMEOUT)
    with tarfile.open(archive) as tar:
        assert "etc/passwd" in tar.getnames()
    with open(archive) as stdin:
        cutaway("cp", "-", f"{sleeping}:/tmp", stdin=stdin)
    assert cutaway("exec", sleeping, "ls", "/tmp/etc/passwd").returncode == 0


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("NAME:/nosuch", "x", "nosuch"),
        ("nosuch", "NAME:/tmp", "no such file or directory"),
        ("NAME:/etc", "file", "cannot copy directory"),
        ("file", "NAME:/nosuch/", "no such directory"),
    ],
)
def test_copies_that_cannot_be(
    cutaway: Engine, sleeping: str, tmp_path: Path, source: str, target: str, reason: str
) -> None:
    (tmp_path / "file").write_text("")
    source, target = source.replace("NAME", sleeping), target.replace("NAME", sleeping)
    done = cutaway("cp", source, target, check=False, cwd=tmp_path)
    assert done.returncode == 1 and reason in done.stderr and "Traceback" not in done.stderr


def test_diff(cutaway: Engine, busybox: str, name: str) -> None:
    cutaway("run", "--name", name, busybox, "sh", "-c", "echo x > /new; rm /etc/passwd")
    assert {"A /new", "C /etc", "D /etc/passwd"} <= set(cutaway("diff", name).stdout.splitlines())


def test_networks_and_volumes_are_listed(cutaway: Engine, name: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}\n", cutaway("network", "create", name).stdout)
    assert cutaway("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").stdout == f"{name}\n"
    assert cutaway("network", "rm", name).stdout == f"{name}\n"
    assert cutaway("volume", "create", name).stdout == f"{name}\n"
    assert cutaway("volume", "ls", "-q", "--filter", "dangling=true").stdout == f"{name}\n"
    assert cutaway("volume", "rm", name).stdout == f"{name}\n"


def test_prune_asks_first(cutaway: Engine, name: str) -> None:
    cutaway("network", "create", name)
    assert "Are you sure you want to continue? [y/N]" in cutaway("network", "prune", input="n\n").stdout
    assert name in cutaway("network", "ls", "-q", "--format", "{{.Name}}").stdout or cutaway("network", "inspect", name)
    assert cutaway("network", "prune", input="y\n").stdout.endswith(f"Deleted Networks:\n{name}\n\n")


def test_images_are_tagged_and_removed(cutaway: Engine, busybox: str, name: str) -> None:
    cutaway("tag", busybox, f"{name}:v1")
    template = "{{.Repository}}:{{.Tag}}"
    assert cutaway("images", "--format", template, name).stdout == f"{name}:v1\n"
    assert cutaway("image", "ls", "-q", name).stdout == cutaway("images", "-q", busybox).stdout
    assert cutaway("rmi", f"{name}:v1").stdout == f"Untagged: {name}:v1\n"


def test_help_is_in_dockers_layout(cutaway: Engine) -> None:
    lines = cutaway("rm", "--help").stdout.splitlines()
    assert lines[0] == "Usage:  cutaway rm [OPTIONS] CONTAINER [CONTAINER...]"
    assert "  cutaway container remove, cutaway container rm, cutaway rm" in lines
    assert cutaway("help", "rm").stdout.splitlines() == lines
    assert "  create       Create a network" in cutaway("network", "--help").stdout
    overview = cutaway("--help").stdout
    assert all(f"\n  {verb} " in overview for verb in ("run", "exec", "network", "volume", "engine", "inspect"))
    assert max(map(len, overview.splitlines())) <= 80


def test_versions(cutaway: Engine) -> None:
    version = cutaway("version", "-f", "{{.Server.Version}}").stdout.strip()
    assert cutaway("--version").stdout == f"cutaway version {version}\n"
    assert json.loads(cutaway("info", "-f", "json").stdout)["ServerVersion"] == version


def test_completion_offers_what_is_there(cutaway: Engine, sleeping: str) -> None:
    def offered(*words: str) -> list[str]:
        return cutaway("__complete", "--", *words).stdout.split()

    assert offered("netw") == ["network"]
    assert offered("network", "cr") == ["create"]
    assert offered("stop", "") == [sleeping]
    assert offered("start", "") == []
    assert offered("run", "--net") == ["--network", "--network-alias"]
    assert offered("run", "--network", "n") == ["none"]
    assert offered("run", "--network=ho") == ["--network=host"]
    assert offered("run", "-it", "--rm", "busy") == ["busybox"]
    assert offered("run", "busybox", "") == [":files"]
    assert offered("run", "--cidfile", "") == [":files"]
    assert offered("rm", sleeping, "") == []
    assert offered("kill", "-s", "USR") == ["USR1", "USR2"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_scripts(cutaway: Engine, shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(cutaway("completion", shell).stdout)
    try:
        subprocess.run([shell, "-n", script], check=True, timeout=TIMEOUT)
    except FileNotFoundError:
        pytest.skip(f"{shell} is not installed")


def test_bash_completes(cutaway: Engine, sleeping: str) -> None:
    program = f"""
        PATH={COMMAND.parent}:$PATH; source <(cutaway completion bash)
        COMP_WORDS=(cutaway stop {sleeping[:6]}) COMP_CWORD=2; _cutaway 2>/dev/null; echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", program], env=cutaway.environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.stdout == f"{sleeping}\n"


def spawn(engine: Engine, *arguments: str) -> pexpect.spawn[str]:
    environment: Any = engine.environment
    return pexpect.spawn(str(COMMAND), list(arguments), env=environment, timeout=TIMEOUT, encoding="utf-8")


def test_a_shell_on_a_terminal(cutaway: Engine, busybox: str, name: str) -> None:
    child = spawn(cutaway, "run", "-it", "--rm", "--name", name, busybox, "sh")
    child.expect("# ")
    child.sendline("stty size; test -t 0 && echo terminal$((1+1)) $TERM")
    child.expect("24 80\r\n.*terminal2 xterm")
    child.setwinsize(40, 120)
    child.sendline("stty size")
    child.expect("40 120")
    child.sendline("echo asleep$((1+2)); sleep 1000")
    child.expect("asleep3")
    child.send("\x03")
    child.sendline("exit 5")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5


def test_detaching_and_attaching_again(cutaway: Engine, busybox: str, name: str) -> None:
    child = spawn(cutaway, "run", "-it", "--name", name, busybox, "sh")
    child.expect("# ")
    child.send("\x10\x11")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert cutaway("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"
    child = spawn(cutaway, "attach", "--detach-keys", "ctrl-x,q", name)
    child.sendline("echo again$((1+1))")
    child.expect("again2")
    child.send("\x18q")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    child = spawn(cutaway, "exec", "-it", name, "sh")
    child.expect("# ")
    child.sendline("stty size; exit 4")
    child.expect("24 80")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 4


def test_a_terminal_needs_a_terminal(cutaway: Engine, busybox: str) -> None:
    done = cutaway("run", "-it", "--rm", busybox, "sh", input="", check=False)
    assert done.returncode != 0 and "the input device is not a TTY" in done.stderr
    assert cutaway("ps", "-aq").stdout == ""


def test_engine_status(cutaway: Engine) -> None:
    status = json.loads(cutaway("engine", "status", "-o", "json").stdout)
    assert status["root"] == str(cutaway.root) and status["socket"] == f"{cutaway.runtime_dir}/engine.sock"
    for pid in (status["engine_pid"], status["spawner_pid"]):
        assert os.path.exists(f"/proc/{pid}")
    assert f"engine pid          {status['engine_pid']}\n" in cutaway("engine", "status").stdout


def is_alive(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for yet has."""
    try:
        return procfs.stat(pid).state != "Z"
    except ProcessLookupError:
        return False


def test_the_engine_stops_and_starts_again(new_engine: Any) -> None:
    engine = new_engine()
    before = engine.status()
    engine("engine", "stop")
    wait_until(lambda: not is_alive(before["engine_pid"]))
    assert engine("engine", "status", check=False).returncode == 1
    assert engine("ps", "-q").stdout == ""
    assert engine.status()["engine_pid"] != before["engine_pid"]
