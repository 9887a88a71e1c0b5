"""Engines and scripts as they are: they close what others leave open, ignore signals, hurry, and hand over too much."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cutaway.kernel.cgroups import Cgroup, host_layout
from cutaway.runtime.command.events import seconds
from tests.children import wait_until
from tests.conformance.bundles import Bundle
from tests.conformance.test_config import mounted
from tests.conformance.test_config_linux import Agent

NULL: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)


@pytest.fixture
def running(bundle: Bundle) -> Iterator[Bundle]:
    bundle.create("sleep", "1000")
    assert bundle.start().returncode == 0
    yield bundle


def through_shell(bundle: Bundle, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the runtime, called by a script as `"$@"`."""
    command = ["sh", "-c", script, "sh", *bundle.runtime.words, *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)


def device_lines(bundle: Bundle) -> str:
    """What the container may do with devices, as version 1 shows it."""
    hierarchy = host_layout().find("devices")
    if hierarchy is None or hierarchy.version == 2:
        pytest.skip("version 2 keeps device rules in a program, which cannot be read")
    return Path(hierarchy.directory(bundle.linux["cgroupsPath"]), "devices.list").read_text()


class TestPaused:
    @pytest.mark.vm
    @pytest.mark.parametrize("words", [("kill",), ("kill", "--all")])
    def test_is_killed_all_the_same(self, running: Bundle, words: tuple[str, ...]) -> None:
        assert running.runtime("pause", running.id).returncode == 0
        assert running.runtime(*words, running.id, "KILL").returncode == 0
        wait_until(lambda: running.state()["status"] == "stopped")

    @pytest.mark.vm
    def test_is_deleted_by_force(self, running: Bundle) -> None:
        running.runtime("pause", running.id)
        assert running.runtime("delete", "--force", running.id).said == ""
        assert running.runtime("state", running.id).returncode == 1

    def test_stays_paused_for_any_other_signal(self, running: Bundle) -> None:
        running.runtime("pause", running.id)
        assert running.runtime("kill", running.id, "USR1").returncode == 0
        assert running.state()["status"] == "paused"

    def test_is_not_started(self, bundle: Bundle) -> None:
        bundle.create("sleep", "1000")
        bundle.runtime("pause", bundle.id)
        assert bundle.state()["status"] == "paused"
        assert "cannot start a container in the paused state" in bundle.start().stderr
        bundle.runtime("resume", bundle.id)
        assert bundle.start().returncode == 0


class TestUpdate:
    """Engines hand over all of `linux.resources` to change one limit."""

    @pytest.mark.parametrize("allow", [True, False])
    def test_leaves_devices_alone(self, running: Bundle, tmp_path: Path, allow: bool) -> None:
        before = device_lines(running)
        wanted = {"devices": [{"allow": allow, "access": "rwm"}], "memory": {"limit": 32 << 20}}
        (tmp_path / "wanted").write_text(json.dumps(wanted))
        assert running.runtime("update", "-r", str(tmp_path / "wanted"), running.id).said == ""
        assert device_lines(running) == before
        assert running.runtime("exec", running.id, "sh", "-c", "echo >/dev/null").returncode == 0

    def test_of_no_number_of_processes_is_none(self, running: Bundle) -> None:
        assert running.runtime("update", "--pids-limit", "0", running.id).returncode == 0
        assert running.runtime("exec", running.id, "sh", "-c", "true | true").returncode == 0


class TestTheCaller:
    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_may_have_closed_the_standard_streams(self, bundle: Bundle, closed: str) -> None:
        bundle.process["args"] = ["sleep", "1000"]
        bundle.write()
        bundle.runtime.containers.append(bundle.id)
        quiet = f'"$@" >/dev/null 2>&1 {closed}'
        assert through_shell(bundle, quiet, "create", "--bundle", str(bundle.directory), bundle.id).returncode == 0
        pid = bundle.state()["pid"]
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        for words in (["start"], ["state"], ["kill"]):
            assert through_shell(bundle, quiet, *words, bundle.id).returncode == 0, words

    def test_may_ignore_that_children_end(self, bundle: Bundle) -> None:
        hook = {"path": "/bin/true"}
        bundle.spec["hooks"] = {"createRuntime": [hook], "poststart": [hook]}
        bundle.process["args"] = ["true"]
        bundle.write()
        command = [*bundle.runtime.words, "run", "--bundle", str(bundle.directory), bundle.id]
        done = subprocess.run(
            command, **NULL, timeout=30, check=False, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        )
        assert done.returncode == 0

    def test_may_name_files_from_where_it_is(self, bundle: Bundle, tmp_path: Path) -> None:
        bundle.process["args"] = ["sleep", "1000"]
        bundle.write()
        bundle.runtime.containers.append(bundle.id)
        options = ["--log", "log", "--log-format", "json"]
        create = ["create", "--bundle", str(bundle.directory), "--pid-file", "pid", bundle.id]
        subprocess.run([*bundle.runtime.words, *options, *create], **NULL, timeout=30, check=True, cwd=tmp_path)
        assert int((tmp_path / "pid").read_text()) == bundle.state()["pid"]
        again = subprocess.run(
            [*bundle.runtime.words, *options, *create], **NULL, timeout=30, check=False, cwd=tmp_path
        )
        assert again.returncode == 1
        assert "already exists" in json.loads((tmp_path / "log").read_text())["msg"]

    @pytest.mark.parametrize("said", ["1", "junk", "99999999999999999999"])
    def test_may_have_an_environment_that_is_meant_for_others(self, running: Bundle, said: str) -> None:
        environment = os.environ | {"LISTEN_FDS": said}
        done = running.runtime("exec", running.id, "echo", "here", env=environment)
        assert (done.returncode, done.stdout) == (0, "here\n")

    def test_may_pass_on_sockets_that_it_was_activated_by(self, bundle: Bundle) -> None:
        run = shlex.join([*bundle.runtime.words, "run", "--bundle", str(bundle.directory), bundle.id])
        bundle.process["args"] = ["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID $$; cat <&3; cat <&4"]
        bundle.write()
        given = f"echo a >a; echo b >b; LISTEN_FDS=2 LISTEN_PID=$$ exec {run} 3<a 4<b"
        done = subprocess.run(
            ["sh", "-c", given], cwd=bundle.directory, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stdout) == (0, "2 1 1\na\nb\n"), done.stderr
        assert "LISTEN" not in bundle.says("env")

    def test_may_be_told_that_the_container_is_ready(self, bundle: Bundle) -> None:
        with _notified(bundle) as (host, environment):
            done = bundle.runs("sh", "-ec", _TELL, env=environment)
            assert (done.returncode, done.said) == (0, "/run/notify/notify.sock\n")
            assert host.recv(1 << 10).endswith(b"READY=1")
            bundle.process["env"].append("NOTIFY_SOCKET=/of/the/engine")
            assert bundle.runs("sh", "-c", "echo $NOTIFY_SOCKET", env=environment).said == "/of/the/engine\n"

    def test_need_not_tell_a_further_process_where_to_say_that_it_is_ready(self, bundle: Bundle) -> None:
        with _notified(bundle) as (_, environment):
            bundle.create("sleep", "1000")
            assert bundle.runtime("start", bundle.id).returncode == 0
            done = bundle.runtime("exec", bundle.id, "env", env=environment)
            assert (done.returncode, "NOTIFY_SOCKET" in done.said) == (0, False)

    @pytest.mark.parametrize("named", ["@abstract", "/nowhere", ""])
    def test_is_warned_where_it_cannot_be_told(self, bundle: Bundle, named: str) -> None:
        log = bundle.directory / "log"
        bundle.runtime.options = ("--log", str(log))
        with _notified(bundle) as (_, environment):
            if named:
                environment["NOTIFY_SOCKET"] = named
            else:
                bundle.without_namespace("mount")
                bundle.spec["mounts"] = []
            done = bundle.runs("echo", "here", env=environment)
        assert (done.returncode, done.said) == (0, "here\n")
        assert "level=warning" in log.read_text() and "NOTIFY_SOCKET" in log.read_text()

    def test_may_put_options_after_the_id(self, running: Bundle) -> None:
        assert running.runtime("kill", running.id, "KILL", "--all").returncode == 0
        assert running.runtime("delete", running.id, "--force").returncode == 0

    @pytest.mark.parametrize("verb", ["create", "run", "exec", "list"])
    @pytest.mark.parametrize("asked", ["--help", "-h"])
    def test_may_ask_for_help(self, bundle: Bundle, verb: str, asked: str) -> None:
        done = bundle.runtime(verb, asked)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"cutaway-oci {verb}" in done.stdout and "Incorrect" not in done.stdout

    def test_need_not_listen(self, bundle: Bundle) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([*bundle.runtime.words, "state", "nope"], stderr=writing, timeout=30, check=False)
        os.close(writing)
        assert done.returncode == 1


_TELL = "echo $NOTIFY_SOCKET; ln -s $NOTIFY_SOCKET /dev/log; exec logger READY=1"


@contextlib.contextmanager
def _notified(bundle: Bundle) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A socket at which somebody is to say that he is ready, and the environment that says so. `sd_notify(3)`"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.settimeout(10)
        host.bind(str(bundle.directory / "notify"))
        yield host, {**os.environ, "NOTIFY_SOCKET": str(bundle.directory / "notify")}


class TestHurry:
    def test_a_start_that_fails_leaves_a_stopped_container(self, bundle: Bundle) -> None:
        """An engine deletes it at once, and must not find it created still."""
        (bundle.rootfs / "junk").write_bytes(b"\0junk")
        (bundle.rootfs / "junk").chmod(0o755)
        bundle.create("/junk")
        assert "exec format error" in bundle.start().stderr
        assert bundle.state()["status"] == "stopped"
        assert bundle.runtime("delete", bundle.id).said == ""

    def test_a_hook_that_hangs_does_not_hold_up_a_deletion_by_force(self, bundle: Bundle, tmp_path: Path) -> None:
        begun = tmp_path / "begun"
        script = f"echo $$ >{begun}; exec sleep 1000"
        bundle.spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
        bundle.write()
        command = [*bundle.runtime.words, "create", "--bundle", str(bundle.directory), bundle.id]
        with subprocess.Popen(command, **NULL) as creating:
            try:
                wait_until(lambda: begun.exists() and begun.read_text() != "")
                assert bundle.runtime("delete", "--force", bundle.id).said == ""
                assert bundle.runtime("state", bundle.id).returncode == 1
            finally:
                os.kill(int(begun.read_text()), signal.SIGKILL)
        assert creating.returncode == 1
        assert os.listdir(bundle.runtime.root) == []

    def test_a_deletion_by_force_takes_what_is_left_of_that_id_alone(self, bundle: Bundle) -> None:
        """Not what is kept for all: compiled filters are in a directory beside the containers'."""
        bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
        assert bundle.runs("true").returncode == 0
        root = bundle.runtime.root
        (kept,) = os.listdir(root)
        assert os.listdir(root / kept)
        left = root / f"{bundle.id}~0123abcd"
        left.mkdir()
        (left / "state.json.new").write_text("{")
        for identifier in (bundle.id, "seccomp", "s"):
            assert bundle.runtime("delete", "--force", identifier).said == ""
        assert os.listdir(root) == [kept]
        assert os.listdir(root / kept)

    def test_a_poststart_hook_may_change_the_container(self, bundle: Bundle) -> None:
        update = {
            "path": bundle.runtime.command,
            "args": [*bundle.runtime.words, "update", "--pids-limit", "30", bundle.id],
        }
        bundle.spec["hooks"] = {"poststart": [update | {"timeout": 20}]}
        bundle.create("sleep", "1000")
        assert bundle.start().said == ""

    def test_how_the_program_ended_counts_more_than_what_cannot_be_removed(self, bundle: Bundle) -> None:
        """Somebody else's process is in its cgroup, which is theirs to end."""
        hierarchy = host_layout().find("pids")
        assert hierarchy
        directory = Path(hierarchy.directory(bundle.linux["cgroupsPath"]))
        directory.mkdir()
        with subprocess.Popen(["sleep", "1000"]) as other:
            try:
                (directory / "cgroup.procs").write_text(str(other.pid))
                done = bundle.runs("sh", "-c", "exit 7")
            finally:
                other.kill()
        assert (done.returncode, "unable to remove container" in done.stderr) == (7, True)
        assert bundle.runtime("delete", bundle.id).said == ""


@pytest.mark.parametrize(
    ("said", "meant"), [("5s", 5), ("500ms", 0.5), ("1m30s", 90), ("1h0m", 3600), ("1.5µs", 1.5e-6)]
)
def test_a_duration_is_written_as_in_go(said: str, meant: float) -> None:
    assert seconds(said) == pytest.approx(meant)


@pytest.mark.parametrize("said", ["5", "s", "1x", "1m30", "-1s", "0s", "1..5s"])
def test_what_is_no_duration_is_refused(running: Bundle, said: str) -> None:
    assert "duration" in running.runtime("events", "--stats", "--interval", said, running.id).stderr


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_does_not_have_is_refused(bundle: Bundle, value: float) -> None:
    bundle.spec["annotations"] = {"a": value}
    assert "is no JSON value" in bundle.refusal()


def test_without_a_section_for_linux_there_is_nothing_of_its_own(bundle: Bundle) -> None:
    del bundle.spec["linux"], bundle.spec["mounts"]
    assert bundle.says("sh", "-c", "echo here") == "here"


def test_one_string_may_hold_several_options(bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", "mode=701,size=64k", "noexec")
    (mount,) = mounted(bundle, "/mnt")
    assert {"mode=701", "size=64k", "noexec"} <= set(mount.options)


def test_an_overlay_of_more_directories_than_the_kernel_takes_in_one_string(bundle: Bundle, tmp_path: Path) -> None:
    layers = [tmp_path / f"layer:{number}-{'x' * 60}" for number in range(8)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"file-{number}").touch()
    joined = ":".join(str(layer).replace(":", r"\:") for layer in layers)
    bundle.mount("/mnt", "overlay", "overlay", f"lowerdir={joined}")
    assert bundle.says("ls", "/mnt").split() == [f"file-{number}" for number in range(8)]


class TestAFilter:
    """Profiles that allow less than our own making of a container would like."""

    @pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
    @pytest.mark.parametrize(
        ("name", "unprivileged"), [("close_range", True), ("close_range", False), ("rt_sigaction", True)]
    )
    def test_without_a_call_that_is_not_the_programs(
        self, bundle: Bundle, name: str, number: int, unprivileged: bool
    ) -> None:
        bundle.process["noNewPrivileges"] = unprivileged
        rule = {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": number}
        bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
        assert bundle.says("echo", "run") == "run"
        bundle.create("sh", "-c", "echo started > /note; sleep 1000")
        (bundle.rootfs / "note").touch()
        assert bundle.start().returncode == 0
        wait_until(lambda: (bundle.rootfs / "note").read_text() == "started\n")
        assert bundle.runtime("exec", bundle.id, "echo", "executed").stdout == "executed\n"

    @pytest.mark.parametrize("unprivileged", [True, False])
    def test_is_announced_by_a_process_that_waited_to_be_started(self, bundle: Bundle, unprivileged: bool) -> None:
        bundle.process["noNewPrivileges"] = unprivileged
        with Agent(bundle) as agent:
            bundle.create("sh", "-c", "mkdir /x 2> /note; sleep 1000")
            (bundle.rootfs / "note").touch()
            pid = bundle.state()["pid"]
            assert bundle.start().returncode == 0
            wait_until(lambda: "No space left" in (bundle.rootfs / "note").read_text())
            assert bundle.runtime("delete", "--force", bundle.id).returncode == 0
        assert [state["pid"] for state in agent.states] == [pid]


class TestCpus:
    """Those that the caller may run on are nothing to its containers."""

    @pytest.fixture
    def one_cpu(self) -> Iterator[set[int]]:
        """This process may run on one only; yields which there are."""
        if len(all_of_them := os.sched_getaffinity(0)) == 1:
            pytest.skip("this machine has one CPU")
        os.sched_setaffinity(0, {min(all_of_them)})
        yield all_of_them
        os.sched_setaffinity(0, all_of_them)

    @pytest.mark.vm
    def test_are_all_there_for_run_and_exec(self, bundle: Bundle, one_cpu: set[int]) -> None:
        assert int(bundle.says("nproc")) == len(one_cpu)
        bundle.create("sleep", "1000")
        assert bundle.start().returncode == 0
        assert bundle.runtime("exec", bundle.id, "nproc").stdout == f"{len(one_cpu)}\n"


class TestExec:
    def test_reads_its_process_from_a_pipe(self, running: Bundle) -> None:
        process = json.dumps({"args": ["echo", "hi"], "cwd": "/", "env": ["PATH=/bin"]})
        reader, writer = os.pipe()
        os.write(writer, process.encode())
        os.close(writer)
        try:
            done = running.runtime("exec", "--process", f"/dev/fd/{reader}", running.id, pass_fds=[reader])
        finally:
            os.close(reader)
        assert done.stdout == "hi\n", done.said

    def test_raises_ambient_capabilities_where_some_are_inheritable(self, bundle: Bundle) -> None:
        bundle.process["capabilities"] = {
            "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SYSLOG"],
            "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "effective": ["CAP_KILL"],
            "inheritable": ["CAP_CHOWN", "CAP_SYSLOG"],
            "ambient": ["CAP_CHOWN"],
        }
        bundle.create("sleep", "1000")
        assert bundle.start().returncode == 0
        said = bundle.runtime("exec", "--cap", "CAP_SYSLOG", bundle.id, "cat", "/proc/self/status").stdout
        assert f"CapAmb:\t{1 << 34 | 1:016x}" in said

    @pytest.mark.parametrize("users", [False, True])
    def test_has_a_terminal_of_the_size_that_was_asked_for(self, bundle: Bundle, users: bool) -> None:
        if users:
            mapping = [{"containerID": 0, "hostID": 100000, "size": 1000}]
            bundle.with_namespace("user")
            bundle.linux |= {"uidMappings": mapping, "gidMappings": mapping}
            os.chown(bundle.rootfs, 100000, 100000)
        bundle.mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620")
        bundle.create("sleep", "1000")
        assert bundle.start().returncode == 0
        process = {"terminal": True, "consoleSize": {"height": 10, "width": 110}, "cwd": "/", "env": ["PATH=/bin"]}
        script = "stty size; stat -c %u:%t $(tty); echo END; read line"
        shown = in_terminal_of_exec(bundle, process | {"args": ["sh", "-c", script]})
        assert shown.split() == ["10", "110", "0:88", "END"]


def in_terminal_of_exec(bundle: Bundle, process: dict[str, Any]) -> str:
    """What it writes to its terminal up to END."""
    file, path = bundle.directory / "process.json", str(bundle.directory / "console.sock")
    file.write_text(json.dumps(process))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(20)
        done = bundle.runtime("exec", "--detach", "--console-socket", path, "--process", str(file), bundle.id)
        assert done.returncode == 0, done.said
        connection, _ = listener.accept()
        with connection:
            _, (master,), _, _ = socket.recv_fds(connection, 4096, 1)
    shown = b""
    while b"END" not in shown:
        shown += os.read(master, 4096)
    os.close(master)
    return shown.decode()


class TestUserNamespaces:
    def test_one_that_is_joined_may_come_with_mappings(self, bundle: Bundle) -> None:
        """As podman and containerd write them, for runtimes that ask for some."""
        command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "sleep", "1000"]
        with subprocess.Popen(command) as donor:
            try:
                inside = Path(f"/proc/{donor.pid}/task/{donor.pid}/children")
                wait_until(lambda: inside.read_text())
                bundle.with_namespace("user", path=f"/proc/{inside.read_text().split()[0]}/ns/user")
                mapping = [{"containerID": 0, "hostID": 0, "size": 1}]
                bundle.linux |= {"uidMappings": mapping, "gidMappings": mapping}
                assert bundle.says("id", "-u") == "0"
            finally:
                donor.kill()


@pytest.mark.parametrize("path", ["/a\0b", "a\0b"])
def test_a_cgroup_that_is_no_path_leaves_nothing(bundle: Bundle, path: str) -> None:
    bundle.linux["cgroupsPath"] = path
    assert "linux.cgroupsPath" in bundle.refusal()


def test_numbers_that_nothing_has_are_refused_at_once(bundle: Bundle) -> None:
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0-9876543210"}
    assert "linux.memoryPolicy.nodes" in bundle.refusal()


def test_killed_ends_all_where_no_pid_namespace_does(bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    bundle.create("sh", "-c", "sleep 1000 & sleep 1000 & exec sleep 1000")
    assert bundle.start().returncode == 0
    cgroup = Cgroup(bundle.linux["cgroupsPath"])
    wait_until(lambda: len(cgroup.processes()) == 3)
    assert bundle.runtime("kill", bundle.id, "KILL").returncode == 0
    wait_until(lambda: not cgroup.processes())


def test_words_of_podman_for_volumes_are_taken(bundle: Bundle, tmp_path: Path) -> None:
    for word in ("copy", "nocopy"):
        bundle.bind(tmp_path, f"/{word}", "rbind", word)
    assert bundle.runs("true").returncode == 0


def test_a_volume_follows_the_host_where_the_root_does(bundle: Bundle, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume], check=True)
    try:
        subprocess.run(["mount", "--make-shared", volume], check=True)
        (volume / "later").mkdir()
        bundle.linux["rootfsPropagation"] = "rslave"
        bundle.bind(volume, "/volume", "rbind")
        bundle.create("sleep", "1000")
        assert bundle.start().returncode == 0
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume / "later"], check=True)
        (volume / "later/file").touch()
        assert bundle.runtime("exec", bundle.id, "ls", "/volume/later").stdout == "file\n"
        assert bundle.runtime("delete", "--force", bundle.id).returncode == 0
    finally:
        subprocess.run(["umount", "-R", volume], check=True)


def test_a_hybrid_hosts_version_2_is_not_shown(bundle: Bundle) -> None:
    """A systemd inside would want to write there, and not start."""
    if len({each.version for each in host_layout().hierarchies}) == 1:
        pytest.skip("this host is not hybrid")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    assert "unified" not in bundle.says("ls", "/sys/fs/cgroup").split()
    bundle.without_namespace("cgroup")
    assert "unified" not in bundle.says("ls", "/sys/fs/cgroup").split()


def test_of_several_homes_the_last_one_counts(bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin", "HOME=/x", "HOME="]
    assert bundle.shell("echo $HOME") not in ("/x", "")
