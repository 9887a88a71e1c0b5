"""The command line of `cutaway-oci` as runc's callers know it: its verbs, what it prints, and how it fails."""

from __future__ import annotations

import array
import json
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

import cutaway
from cutaway.kernel.cgroups import host_layout
from tests.children import wait_until
from tests.conformance.bundles import RUNTIME, Bundle, Runtime
from tests.leaks import cgroup_hierarchies

NO_STREAMS: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
"""A process that stays holds those it is given open."""


@pytest.fixture
def running(bundle: Bundle) -> Bundle:
    """A container that does nothing for a long time."""
    bundle.create("sleep", "1000")
    assert bundle.start().returncode == 0
    return bundle


def _cgroups(bundle: Bundle) -> list[Path]:
    return [cgroup for hierarchy in cgroup_hierarchies() if (cgroup := hierarchy / bundle.id).exists()]


def _command(bundle: Bundle, *words: object) -> list[str]:
    return [RUNTIME, "--root", str(bundle.runtime.root), *map(str, words)]


def _end(bundle: Bundle) -> None:
    bundle.runtime("kill", bundle.id, "KILL")
    wait_until(lambda: bundle.state()["status"] == "stopped")


# Verbs


@pytest.mark.vm
def test_a_container_is_created_started_and_deleted(bundle: Bundle) -> None:
    bundle.create("sleep", "1000")
    created = bundle.state()
    assert (created["status"], created["id"], created["bundle"]) == ("created", bundle.id, str(bundle.directory))
    assert Path(f"/proc/{created['pid']}").exists()
    assert bundle.start().returncode == 0
    assert bundle.state()["status"] == "running"
    assert Path(f"/proc/{created['pid']}/cmdline").read_text() == "sleep\0001000\0"
    _end(bundle)
    assert bundle.state()["pid"] == 0
    assert bundle.runtime("delete", bundle.id).returncode == 0
    assert bundle.runtime("state", bundle.id).returncode == 1
    assert not _cgroups(bundle)


@pytest.mark.vm
def test_run_returns_what_the_program_does(bundle: Bundle) -> None:
    done = bundle.runs("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert bundle.runtime("state", bundle.id).returncode == 1


def test_run_returns_128_and_the_signal(bundle: Bundle) -> None:
    assert bundle.runs("sh", "-c", "sh -c 'kill -KILL $$'; exit $?").returncode == 137


def test_run_detached_returns_at_once_and_writes_the_pid(bundle: Bundle, tmp_path: Path) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    bundle.runtime.containers.append(bundle.id)
    words = ["run", "--detach", "--bundle", bundle.directory, "--pid-file", tmp_path / "pid", bundle.id]
    subprocess.run(_command(bundle, *words), check=True, timeout=20, **NO_STREAMS)
    assert int((tmp_path / "pid").read_text()) == bundle.state()["pid"]


def test_run_keeps_the_container_if_asked(bundle: Bundle) -> None:
    bundle.process["args"] = ["true"]
    bundle.write()
    bundle.runtime.containers.append(bundle.id)
    assert bundle.runtime("run", "--keep", "--bundle", str(bundle.directory), bundle.id).returncode == 0
    assert bundle.state()["status"] == "stopped"


def test_run_passes_signals_on(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "trap 'echo heard; exit 5' USR1; echo ready; while :; do sleep 0.05; done"]
    bundle.write()
    words = _command(bundle, "run", "--bundle", bundle.directory, bundle.id)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.read() == "heard\n"
        assert process.wait(timeout=10) == 5


def test_run_reaps_orphans_of_a_container_without_a_pid_namespace(bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    orphan = "(sleep 0 & echo $! > /pid); pid=$(cat /pid); while [ -e /proc/$pid ]; do sleep 0.02; done; echo reaped"
    assert bundle.runs("sh", "-c", orphan).stdout == "reaped\n"


@pytest.mark.vm
def test_exec_runs_in_the_container(running: Bundle) -> None:
    done = running.runtime("exec", running.id, "sh", "-c", "echo $$; readlink /proc/1/exe; exit 3")
    assert done.returncode == 3
    assert int(done.stdout.split()[0]) > 1
    assert done.stdout.split()[1] == "/bin/busybox"


def test_exec_takes_who_where_and_what(running: Bundle) -> None:
    options = ["--user", "1000:1001", "--additional-gids", "1002", "--cwd", "/tmp", "--env", "A=b"]
    (running.rootfs / "tmp").mkdir(exist_ok=True)
    done = running.runtime("exec", *options, running.id, "sh", "-c", "id -u; id -g; id -G; pwd; echo $A")
    assert done.stdout.split("\n")[:5] == ["1000", "1001", "1001 1002", "/tmp", "b"], done.said


def test_exec_takes_capabilities_and_gives_privileges_up(running: Bundle) -> None:
    look = ["sh", "-c", "grep -E 'CapEff|NoNewPrivs' /proc/self/status"]
    options = ["--cap", "CAP_NET_RAW", "--no-new-privs"]
    done = running.runtime("exec", *options, running.id, *look)
    effective, privileges = (line.split()[1] for line in done.stdout.splitlines())
    assert int(effective, 16) & 1 << 13
    assert privileges == "1"


def test_exec_takes_a_process_from_a_file(running: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    file.write_text(json.dumps(running.process | {"args": ["sh", "-c", "echo $A"], "env": ["A=b", "PATH=/bin"]}))
    assert running.runtime("exec", "--process", str(file), running.id).stdout == "b\n"
    file.write_text(json.dumps({"args": ["true"], "cwd": 3}))
    assert "process.cwd" in running.runtime("exec", "--process", str(file), running.id).stderr


def test_a_program_without_a_home_gets_its_users(bundle: Bundle) -> None:
    (bundle.rootfs / "etc/passwd").write_text("root:x:0:0::/root:\nother:x:1000:1000::/home/other:\n")
    assert bundle.says("sh", "-c", "echo $HOME") == "/root"
    bundle.process["user"] = {"uid": 77, "gid": 77}
    assert bundle.says("sh", "-c", "echo $HOME") == "/"
    bundle.create("sleep", "60")
    bundle.start()
    said = bundle.runtime("exec", "--user", "1000:1000", bundle.id, "sh", "-c", "echo $HOME").stdout
    assert said == "/home/other\n"


def test_exec_detached_returns_at_once(running: Bundle, tmp_path: Path) -> None:
    words = ["exec", "--detach", "--pid-file", tmp_path / "pid", running.id, "sleep", "999"]
    subprocess.run(_command(running, *words), check=True, timeout=20, **NO_STREAMS)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_text() == "sleep\000999\0")
    assert pid in json.loads(running.runtime("ps", "--format", "json", running.id).stdout)


@pytest.mark.vm
def test_exec_can_join_a_cgroup_below(running: Bundle) -> None:
    for hierarchy in host_layout().hierarchies:
        if hierarchy.version == 1:
            hierarchy.create(f"{running.id}/below")
        else:  # with controllers, of which a cgroup that has processes may pass none on
            os.mkdir(hierarchy.directory(f"{running.id}/below"))
    done = running.runtime("exec", "--cgroup", "below", running.id, "cat", "/proc/self/cgroup")
    assert {line.rpartition("/")[2] for line in done.stdout.splitlines() if "/" in line} == {"below"}, done.said


@pytest.mark.vm
def test_kill_all_signals_every_process(running: Bundle) -> None:
    command = _command(running, "exec", running.id, "sleep", "999")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as other:
        wait_until(lambda: len(json.loads(running.runtime("ps", "-f", "json", running.id).stdout)) == 2)
        assert running.runtime("kill", "--all", running.id, "KILL").returncode == 0
        assert other.wait(timeout=10) == 137
    wait_until(lambda: running.state()["status"] == "stopped")


def test_a_created_container_can_be_ended(bundle: Bundle) -> None:
    bundle.create("sleep", "1000")
    assert bundle.runtime("kill", bundle.id, "SIGTERM").returncode == 0
    wait_until(lambda: bundle.state()["status"] == "stopped")
    assert bundle.runtime("delete", bundle.id).returncode == 0


def test_delete_by_force_ends_the_container(running: Bundle) -> None:
    pid = running.state()["pid"]
    assert running.runtime("delete", "--force", running.id).returncode == 0
    assert not Path(f"/proc/{pid}/exe").exists()
    assert not _cgroups(running)
    assert running.runtime("delete", "--force", running.id).returncode == 0


def test_list_and_ps(running: Bundle) -> None:
    pid = running.state()["pid"]
    assert running.runtime("list", "--quiet").stdout == f"{running.id}\n"
    header, row = running.runtime("list").stdout.splitlines()
    assert header.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert row.split()[:4] == [running.id, str(pid), "running", str(running.directory)]
    (listed,) = json.loads(running.runtime("list", "--format", "json").stdout)
    assert (listed["id"], listed["pid"], listed["ociVersion"]) == (running.id, pid, "1.3.0")
    assert json.loads(running.runtime("ps", "--format", "json", running.id).stdout) == [pid]
    header, row = running.runtime("ps", running.id).stdout.splitlines()
    assert (header.split()[1], row.split()[1]) == ("PID", str(pid))


@pytest.mark.vm
def test_pause_and_resume(running: Bundle) -> None:
    assert running.runtime("pause", running.id).returncode == 0
    assert running.state()["status"] == "paused"
    assert "cannot exec in a paused container" in running.runtime("exec", running.id, "true").stderr
    assert running.runtime("resume", running.id).returncode == 0
    assert running.state()["status"] == "running"


@pytest.mark.vm
def test_update_changes_limits(running: Bundle, tmp_path: Path) -> None:
    assert running.runtime("update", "--memory", "64M", "--pids-limit", "20", running.id).returncode == 0
    usage = json.loads(running.runtime("events", "--stats", running.id).stdout)["data"]
    assert (usage["memory"]["usage"]["limit"], usage["pids"]["limit"]) == (64 << 20, 20)
    file = tmp_path / "resources.json"
    file.write_text('{"pids": {"limit": 30}}')
    assert running.runtime("update", "--resources", str(file), running.id).returncode == 0
    assert json.loads(running.runtime("events", "--stats", running.id).stdout)["data"]["pids"]["limit"] == 30


@pytest.mark.vm
def test_events_tell_what_runc_tells(running: Bundle) -> None:
    usage = json.loads(running.runtime("events", "--stats", running.id).stdout)["data"]
    assert {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"} <= usage.keys()
    assert usage["hugetlb"]["2MB"]["usage"] == 0
    memory, counted = usage["memory"], usage["cpu"]["usage"]
    assert memory["usage"]["max"] >= memory["usage"]["usage"] > 0
    if host_layout().find("memory", version=1):
        assert memory["swap"]["usage"] >= memory["usage"]["usage"], "version 1 counts swap together with memory"
        assert memory["kernel"]["limit"] > 1 << 60 and memory["kernelTCP"]["usage"] == 0
        assert len(counted["percpu_kernel"]) == len(counted["percpu_user"]) == len(counted["percpu"]) > 0
        assert os.sched_getaffinity(0) <= set(usage["cpuset"]["cpus"]) and 0 in usage["cpuset"]["mems"]


@pytest.fixture
def of_version_1(bundle: Bundle, tmp_path: Path) -> Bundle:
    """On a host that has cgroups of version 1 alone: of a hybrid one the runtime does not see those of version 2."""
    layout = host_layout()
    if not layout.unified or len(layout.hierarchies) == 1:
        pytest.skip("this host's cgroups are not hybrid")
    command = tmp_path / "cutaway-oci"
    inner = f'umount {layout.unified.mount_point} && exec "$0" "$@"'
    command.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{inner}' {RUNTIME} \"$@\"\n")
    command.chmod(0o755)
    bundle.runtime.command = str(command)
    return bundle


def test_version_1_alone_is_enough(of_version_1: Bundle) -> None:
    bundle, runtime = of_version_1, of_version_1.runtime
    bundle.linux["resources"] = {"memory": {"limit": 32 << 20}, "pids": {"limit": 20}, "cpu": {"shares": 512}}
    bundle.create("sleep", "60")
    assert bundle.start().returncode == 0
    assert runtime("exec", bundle.id, "id", "-u").stdout == "0\n"
    assert [str(bundle.state()["pid"])] == runtime("ps", bundle.id, "-o", "pid=").stdout.split()[-1:]
    assert runtime("pause", bundle.id).returncode == 0 and bundle.state()["status"] == "paused"
    assert runtime("resume", bundle.id).returncode == 0 and bundle.state()["status"] == "running"
    assert runtime("update", "--memory", "64M", "--pids-limit", "10", bundle.id).returncode == 0
    usage = json.loads(runtime("events", "--stats", bundle.id).stdout)["data"]
    assert (usage["memory"]["usage"]["limit"], usage["pids"]["limit"]) == (64 << 20, 10)
    assert runtime("kill", "--all", bundle.id, "KILL").returncode == 0
    wait_until(lambda: bundle.state()["status"] == "stopped")
    assert runtime("delete", bundle.id).returncode == 0


@pytest.mark.vm
def test_events_tell_that_memory_ran_out_and_end_with_the_container(bundle: Bundle) -> None:
    bundle.linux["resources"] = {"memory": {"limit": 8 << 20, "swap": 8 << 20}}
    eats = "while [ ! -e /go ]; do sleep 0.05; done; (head -c 60000000 /dev/zero | tail -c 50000000 >/dev/null); exit 0"
    bundle.create("sh", "-c", eats)
    bundle.start()
    command = _command(bundle, "events", "--interval", "100ms", bundle.id)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout
        assert json.loads(follower.stdout.readline())["type"] == "stats"
        (bundle.rootfs / "go").touch()
        told = [json.loads(line)["type"] for line in follower.stdout]
        assert follower.wait(timeout=10) == 0
    assert "oom" in told


def test_spec_writes_a_description_that_runs(bundle: Bundle) -> None:
    assert bundle.runtime("spec", "--bundle", str(bundle.directory)).returncode == 0
    spec = json.loads((bundle.directory / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": ["hostname"]}
    spec["linux"]["cgroupsPath"] = f"/{bundle.id}"
    bundle.spec = spec
    assert bundle.does("run").stdout == "cutaway\n"
    assert "exists" in bundle.runtime("spec", "--bundle", str(bundle.directory)).stderr


def test_features_name_what_the_specification_names(runtime: Runtime) -> None:
    features = json.loads(runtime("features").stdout)
    assert features["ociVersionMax"] == "1.3.0"
    assert {"bind", "rro", "tmpcopyup", "rprivate"} <= set(features["mountOptions"])
    assert {"user", "time", "network"} <= set(features["linux"]["namespaces"])


# Descriptors and terminals


def test_only_descriptors_to_be_preserved_get_in(bundle: Bundle, tmp_path: Path) -> None:
    bundle.process["args"] = ["sh", "-c", "ls /proc/self/fd; cat <&3"]
    bundle.write()
    for name in ("kept", "leaked"):
        (tmp_path / name).write_text(name)
    script = 'exec "$0" --root "$1" run --preserve-fds 1 --bundle "$2" "$3" 3<"$4/kept" 7<"$4/leaked"'
    words = [RUNTIME, bundle.runtime.root, bundle.directory, bundle.id, tmp_path]
    done = subprocess.run(["sh", "-c", script, *map(str, words)], capture_output=True, text=True, timeout=20)
    *descriptors, content = done.stdout.split()
    assert content == "kept", done.stderr
    assert set(descriptors) <= {"0", "1", "2", "3", "4"}  # the last is of `ls` itself


def test_a_created_container_holds_nothing_of_its_caller(bundle: Bundle) -> None:
    """Or an engine that waits for the end of a pipe would wait for the container's."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    bundle.runtime.containers.append(bundle.id)
    words = _command(bundle, "create", "--bundle", bundle.directory, bundle.id)
    subprocess.run(words, check=True, pass_fds=[writer], timeout=20, **NO_STREAMS)
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b""


@pytest.fixture
def console(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], int]]]:
    """A console socket, and what waits for a terminal to come over it."""
    path, masters = tmp_path / "console", []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def receive() -> int:
            connection, _ = listener.accept()
            with connection:
                _, ancillary, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
            masters.append(array.array("i", ancillary[0][2])[0])
            return masters[-1]

        yield path, receive
    for master in masters:
        os.close(master)


def test_a_terminal_goes_to_the_console_socket(bundle: Bundle, console: tuple[Path, Callable[[], int]]) -> None:
    path, receive = console
    bundle.process |= {"terminal": True, "args": ["sh", "-c", "tty; read line; echo got $line"]}
    bundle.write()
    bundle.runtime.containers.append(bundle.id)
    words = ["create", "--bundle", str(bundle.directory), "--console-socket", str(path), bundle.id]
    assert bundle.runtime(*words).said == ""
    master = receive()
    assert bundle.start().returncode == 0
    os.write(master, b"this\n")
    said = b""
    while b"got this" not in said:
        said += os.read(master, 1000)
    assert b"/dev/pts/0" in said


def test_run_in_a_terminal(bundle: Bundle) -> None:
    bundle.process |= {"terminal": True, "args": ["sh", "-c", "stty size; read line; echo got $line; exit 4"]}
    bundle.write()
    command, *words = _command(bundle, "run", "--bundle", bundle.directory, bundle.id)
    terminal = pexpect.spawn(command, words, dimensions=(31, 77), timeout=20, encoding="utf-8")
    terminal.expect("31 77")
    terminal.sendline("this")
    terminal.expect("got this")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 4


def test_a_terminal_without_a_size_leaves_the_one_asked_for(bundle: Bundle) -> None:
    bundle.process |= {"terminal": True, "consoleSize": {"height": 31, "width": 97}}
    bundle.process["args"] = ["sh", "-c", "echo size $(stty size)"]
    bundle.write()
    bundle.runtime.containers.append(bundle.id)
    command, *words = _command(bundle, "run", "--bundle", str(bundle.directory), bundle.id)
    terminal = pexpect.spawn(command, words, dimensions=(0, 0), timeout=20, encoding="utf-8")
    terminal.expect("size 31 97")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_exec_in_a_terminal(running: Bundle) -> None:
    command, *words = _command(running, "exec", "--tty", running.id, "tty")
    terminal = pexpect.spawn(command, words, timeout=20, encoding="utf-8")
    terminal.expect("/dev/pts/0")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_a_detached_terminal_needs_a_console_socket(bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    assert "console socket" in bundle.refusal()


# Failures


def _error(done: Any) -> str:
    """The sentence that an engine reads."""
    return str(done.stderr.partition('level=error msg="')[2].rstrip('"\n'))


def test_a_container_that_is_not_there(runtime: Runtime) -> None:
    for verb in ("state", "start", "kill", "delete", "pause", "resume", "ps", "events", "update"):
        done = runtime(verb, "nope")
        assert (done.returncode, _error(done)) == (1, "container does not exist"), verb
    assert runtime("exec", "nope", "true").returncode == 255


def test_a_bundle_that_is_not_there(runtime: Runtime, tmp_path: Path) -> None:
    assert "no such file or directory" in runtime("create", "--bundle", str(tmp_path / "nope"), "c").stderr
    assert "config.json not found" in runtime("run", "--bundle", str(tmp_path), "c").stderr
    (tmp_path / "config.json").write_text('{"ociVersion": ')
    done = runtime("run", "--bundle", str(tmp_path), "c")
    assert (done.returncode, "JSON" in done.stderr) == (1, True)
    assert runtime("list", "--quiet").stdout == ""


def test_a_root_that_is_not_there(bundle: Bundle) -> None:
    bundle.spec["root"]["path"] = "nowhere"
    assert "root.path" in bundle.refusal()


def test_an_id_that_exists(running: Bundle) -> None:
    done = running.does("create")
    assert (done.returncode, "container with given ID already exists" in done.stderr) == (1, True)
    assert running.state()["status"] == "running"


def test_a_disk_that_is_full(bundle: Bundle) -> None:
    """Whichever of what is written down is the first that does not fit."""
    root = bundle.runtime.root
    root.mkdir(parents=True)
    for pages in range(1, 50):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={pages * mmap.PAGESIZE}", "tmpfs", root], check=True)
        try:
            done = bundle.runs("true")
            assert os.listdir(root) == []
        finally:
            subprocess.run(["umount", root], check=True)
        if done.returncode == 0:
            break
        assert (done.returncode, "no space left on device" in done.stderr.lower()) == (1, True), done.said
        assert not _cgroups(bundle)
    assert pages > 2, done.said


@pytest.mark.parametrize("identifier", ["", "..", ".", "a/b", "a b", "ä", "~seccomp", "a~b"])
def test_an_id_that_is_none(bundle: Bundle, identifier: str) -> None:
    bundle.write()
    done = bundle.runtime("create", "--bundle", str(bundle.directory), identifier)
    assert (done.returncode, "invalid container ID format" in done.stderr) == (1, True)


def test_a_program_that_is_not_there(bundle: Bundle) -> None:
    bundle.process["args"] = ["nosuch"]
    assert 'exec: "nosuch": executable file not found in $PATH' in bundle.refusal().replace('\\"', '"')
    assert not _cgroups(bundle)


def test_a_program_that_cannot_be_executed(running: Bundle) -> None:
    done = running.runtime("exec", running.id, "/etc")
    assert (done.returncode, "permission denied" in done.stderr) == (255, True)
    assert running.runtime("exec", running.id, "true").returncode == 0


def test_a_pid_file_that_cannot_be_written(bundle: Bundle, tmp_path: Path) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    assert bundle.does("create", "--pid-file", str(tmp_path / "nowhere" / "pid")).returncode == 1
    assert bundle.runtime("state", bundle.id).returncode == 1
    assert not _cgroups(bundle)


def test_a_console_socket_that_is_not_there(bundle: Bundle, tmp_path: Path) -> None:
    bundle.process["terminal"] = True
    assert "console socket" in bundle.does("create", "--console-socket", str(tmp_path / "nowhere")).stderr
    assert bundle.runtime("state", bundle.id).returncode == 1


def test_a_file_that_is_no_program(bundle: Bundle) -> None:
    """Only executing it shows that."""
    (bundle.rootfs / "junk").write_bytes(b"\0junk")
    (bundle.rootfs / "junk").chmod(0o755)
    done = bundle.runs("/junk")
    assert (done.returncode, "exec format error" in done.stderr) == (1, True), done.said
    assert bundle.runtime("state", bundle.id).returncode == 1
    bundle.create("/junk")
    assert "exec format error" in bundle.start().stderr
    wait_until(lambda: bundle.state()["status"] == "stopped")


def test_states_that_forbid_a_verb(running: Bundle) -> None:
    identifier, runtime = running.id, running.runtime
    assert _error(runtime("start", identifier)) == "cannot start an already running container"
    assert _error(runtime("delete", identifier)) == f"cannot delete container {identifier} that is not stopped: running"
    assert _error(runtime("resume", identifier)) == "container not paused"
    assert "unknown signal" in _error(runtime("kill", identifier, "NOSUCH"))
    _end(running)
    assert _error(runtime("kill", identifier)) == "container not running"
    assert _error(runtime("pause", identifier)) == "container not running"
    assert _error(runtime("start", identifier)) == "cannot start a container that has stopped"
    assert _error(runtime("exec", identifier, "true")) == "exec failed: cannot exec in a stopped container"


def test_errors_go_to_the_log_as_engines_read_it(runtime: Runtime, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    done = runtime("--log", str(log), "--log-format", "json", "state", "nope")
    assert done.stderr == "container does not exist\n"
    entry = json.loads(log.read_text())
    assert (entry["level"], entry["msg"]) == ("error", "container does not exist")
    assert time.strptime(entry["time"], "%Y-%m-%dT%H:%M:%SZ")


def test_debugging_tells_every_operation(bundle: Bundle, tmp_path: Path) -> None:
    bundle.write()
    log = tmp_path / "log"
    words = ("--debug", "--log", str(log), "run", "--bundle", str(bundle.directory), bundle.id)
    assert bundle.runtime(*words).returncode == 0
    told = log.read_text()
    assert told.index("CreateCgroup") < told.index("PivotRoot") < told.index("Exec(") < told.index("undo: CreateCgroup")


def test_words_that_are_wrong(runtime: Runtime) -> None:
    assert runtime("nosuch").returncode == 3
    assert "requires exactly 1 argument" in runtime("create").stderr
    assert "flag provided but not defined: -nosuch" in runtime("create", "--nosuch", "c").stderr
    assert "systemd" in runtime("--systemd-cgroup", "create", "c").stderr


# Hooks


def _hook(moment: str, script: str, **more: Any) -> dict[str, Any]:
    return {moment: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], **more}]}


def test_hooks_run_at_their_moments_with_the_state(bundle: Bundle, tmp_path: Path) -> None:
    of_host = ("prestart", "createRuntime", "poststart", "poststop")
    hooks = {name: _hook(name, f"cat > {tmp_path}/{name}")[name] for name in of_host}
    inside = {name: _hook(name, f"cat > /{name}")[name] for name in ("startContainer",)}
    bundle.spec["hooks"] = hooks | inside
    bundle.spec["annotations"] = {"of": "mine"}
    bundle.create("sleep", "1000")
    told = {name: json.loads((tmp_path / name).read_text()) for name in ("prestart", "createRuntime")}
    assert {state["status"] for state in told.values()} == {"creating"}
    assert told["prestart"]["pid"] == bundle.state()["pid"]
    assert told["prestart"]["annotations"] == {"of": "mine"}
    assert not (tmp_path / "poststart").exists()
    bundle.start()
    assert json.loads((bundle.rootfs / "startContainer").read_text())["status"] == "created"
    assert json.loads((tmp_path / "poststart").read_text())["status"] == "running"
    bundle.runtime("delete", "--force", bundle.id)
    assert json.loads((tmp_path / "poststop").read_text())["status"] == "stopped"


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_leaves_no_container(bundle: Bundle, moment: str) -> None:
    bundle.spec["hooks"] = _hook(moment, "echo reason >&2; exit 9")
    said = bundle.refusal()
    assert (moment in said, "9" in said, "reason" in said) == (True, True, True)
    assert not _cgroups(bundle)


def test_a_hook_that_hangs_is_killed_with_what_it_started(bundle: Bundle, tmp_path: Path) -> None:
    bundle.spec["hooks"] = _hook("createRuntime", f"sleep 98 & echo $! > {tmp_path}/pid; wait", timeout=1)
    assert "longer than 1" in bundle.refusal()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/exe").exists()


def test_a_poststop_hook_that_fails_holds_nothing_up(bundle: Bundle) -> None:
    bundle.spec["hooks"] = _hook("poststop", "exit 9")
    assert bundle.runs("true").returncode == 0
    assert bundle.runtime("state", bundle.id).returncode == 1


# Crashes, and more than one at a time


def test_what_a_killed_create_has_made_can_be_deleted(bundle: Bundle, tmp_path: Path) -> None:
    bundle.spec["hooks"] = _hook("createRuntime", f"touch {tmp_path}/hanging; sleep 1")
    bundle.write()
    bundle.runtime.containers.append(bundle.id)
    words = _command(bundle, "create", "--bundle", bundle.directory, bundle.id)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        wait_until((tmp_path / "hanging").exists)
        pid = bundle.state()["pid"]
        process.kill()
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists())
    assert _cgroups(bundle)
    assert bundle.runtime("delete", "--force", bundle.id).returncode == 0
    assert not _cgroups(bundle)
    wait_until(lambda: "sleep\0001\0" not in _command_lines())


def _command_lines() -> str:
    lines = ""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines += process.read_text(errors="replace") + "\n"
        except OSError:
            continue
    return lines


def test_one_of_many_creates_of_an_id_wins(bundle: Bundle) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    bundle.runtime.containers.append(bundle.id)
    codes: list[int] = []
    words = _command(bundle, "create", "--bundle", bundle.directory, bundle.id)

    def create() -> None:
        codes.append(subprocess.run(words, timeout=30, **NO_STREAMS).returncode)

    creators = [threading.Thread(target=create) for _ in range(4)]
    for creator in creators:
        creator.start()
    for creator in creators:
        creator.join()
    assert sorted(codes) == [0, 1, 1, 1]
    assert bundle.state()["status"] == "created"


def test_what_is_written_down_is_for_root_alone(running: Bundle) -> None:
    directory = running.runtime.root / running.id
    assert directory.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in directory.iterdir())


# What a container can reach of the runtime


def test_a_waiting_process_holds_nothing_of_the_hosts(bundle: Bundle) -> None:
    """Whoever may trace it, in a container that has the power to, finds no way out of the container in it."""
    bundle.create("sleep", "1000")
    pid = bundle.state()["pid"]
    held = {os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}
    assert {name.partition(":")[0] for name in held} == {"/dev/null", "socket"}
    assert os.stat(f"/proc/{pid}/root").st_ino == bundle.rootfs.stat().st_ino


def test_the_runtime_cannot_be_looked_into_from_inside(bundle: Bundle) -> None:
    bundle.create("sleep", "1000")
    look = "for link in exe root cwd fd/0; do readlink /proc/1/$link && echo $link; done; ls /proc/1/root/"
    done = bundle.runtime("exec", bundle.id, "sh", "-c", look)
    assert done.stdout == "", done.said


def test_the_interpreter_cannot_be_written_to_from_inside(bundle: Bundle) -> None:
    """CVE-2019-5736: the program is the runtime's own executable, kept open and written to when it runs no more."""
    bundle.create("sleep", "1000")
    mount = os.statvfs(f"/proc/{bundle.state()['pid']}/exe")
    assert mount.f_flag & os.ST_RDONLY


def test_a_tight_filter_leaves_the_runtime_its_calls(bundle: Bundle) -> None:
    """It is loaded last: one that forbids what waiting for the start needs forbids it to the program only."""
    forbidden = ["accept", "accept4", "socket", "close_range", "recvfrom", "recvmsg"]
    rules = [{"names": forbidden, "action": "SCMP_ACT_KILL_PROCESS"}]
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    bundle.process["noNewPrivileges"] = True
    bundle.create("sleep", "1000")
    assert bundle.start().returncode == 0
    assert bundle.state()["status"] == "running"
    wait_until(lambda: "sleep" in Path(f"/proc/{bundle.state()['pid']}/comm").read_text())


def _install(place: Path, sources: Path) -> Path:
    shutil.copytree(Path(cutaway.__path__[0]), sources / "cutaway")
    place.mkdir()
    freeze = Path(__file__).parents[2] / "packaging/freeze.py"
    subprocess.run([sys.executable, freeze, place], check=True, env=os.environ | {"PYTHONPATH": str(sources)})
    return place / "cutaway-oci"


def test_the_installed_command_needs_its_sources_no_more(bundle: Bundle, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    bundle.runtime.command = str(_install(tmp_path / "bin", sources))
    shutil.rmtree(sources)
    assert bundle.says("echo", "frozen") == "frozen"


def test_an_installed_command_that_is_replaced_while_it_runs_goes_on(tmp_path: Path) -> None:
    """What it has not imported yet it takes from the sources: places in another file of modules are not its own."""
    command = _install(tmp_path / "bin", tmp_path / "sources")
    launcher = command.read_text().replace("main()\n", "")
    script = f"{launcher}import os; os.replace('other', 'bin/cutaway-oci.modules')\nimport cutaway.kernel.ps as later\n"
    (tmp_path / "other").write_bytes(bytes(1 << 20))
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"{script}print(later.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(tmp_path / "sources/cutaway/kernel/ps.py")
