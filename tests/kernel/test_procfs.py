"""What procfs tells of processes, mounts and the machine, against what else tells it."""

from __future__ import annotations

import ctypes
import mmap
import os
import pty
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cutaway.kernel import procfs
from cutaway.kernel.syscalls import call
from tests.kernel.members import burn, eventually


@contextmanager
def asleep(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command, once it is executed and waits (for its standard input, which never comes); ended at the end."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, **options) as process:
        try:
            assert eventually(lambda: bool(procfs.command_line(process.pid)) and procfs.stat(process.pid).state == "S")
            yield process
        finally:
            process.kill()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with asleep("sleep", "1000") as process:
        yield process


@pytest.fixture
def ended() -> int:
    """The PID of a process that has ended and was reaped."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
        return process.pid


@pytest.fixture
def zombie() -> Iterator[int]:
    """The PID of a process that has ended with 3 and was not reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    os.waitpid(pid, 0)


class TestStat:
    def test_is_what_the_process_knows_of_itself(self) -> None:
        stat = procfs.stat()
        assert (stat.pid, stat.parent) == (os.getpid(), os.getppid())
        assert (stat.group, stat.session) == (os.getpgrp(), os.getsid(0))
        assert stat.state == "R"
        assert stat.threads == threading.active_count()
        assert stat.nice == os.nice(0)
        times = os.times()
        assert stat.user_time == pytest.approx(times.user, abs=0.5)
        assert stat.system_time == pytest.approx(times.system, abs=0.5)
        assert stat.virtual_size > 1 << 20

    @pytest.mark.parametrize("name", ["a) R 1 (b", "two\nlines", ") ) 0 0", "(", "a b c", "käse"], ids=repr)
    def test_a_name_made_to_mislead_does_not(self, name: str) -> None:
        with asleep("sh", "-c", f"printf %s '{name}' >/proc/$$/comm; read x") as process:
            command = name.encode()[:15].decode(errors="ignore")
            assert eventually(lambda: procfs.stat(process.pid).command == command)
            assert procfs.stat(process.pid).parent == os.getpid()

    def test_counts_cpu_seconds(self) -> None:
        before = procfs.stat()
        burn(0.1)
        after = procfs.stat()
        used = (after.user_time + after.system_time) - (before.user_time + before.system_time)
        assert used == pytest.approx(0.1, abs=0.03)

    def test_of_a_zombie_tells_how_it_ended(self, zombie: int) -> None:
        stat = procfs.stat(zombie)
        assert stat.state == "Z"
        assert os.waitstatus_to_exitcode(stat.exit_status) == 3


class TestIdentity:
    def test_of_a_living_process_lives(self, sleeper: subprocess.Popen[bytes]) -> None:
        identity = procfs.identity(sleeper.pid)
        assert identity.is_alive()
        assert identity == procfs.identity(sleeper.pid)
        sleeper.kill()
        sleeper.wait()
        assert not identity.is_alive()

    def test_of_a_zombie_does_not(self, zombie: int) -> None:
        assert not procfs.identity(zombie).is_alive()

    def test_of_another_process_of_the_same_pid_does_not(self, sleeper: subprocess.Popen[bytes]) -> None:
        now = procfs.identity(sleeper.pid)
        before = procfs.Identity(now.pid, now.start_time - 1)
        assert before != now and not before.is_alive()


class TestEnding:
    def test_is_a_zombie_and_nothing_alive(self, zombie: int, sleeper: subprocess.Popen[bytes]) -> None:
        assert procfs.is_ending(zombie)
        assert not procfs.is_ending(sleeper.pid)

    def test_is_what_waits_for_the_others_of_its_namespace(self) -> None:
        """A first process, once killed, waits for who was put in from outside to be reaped there."""
        with asleep("unshare", "--pid", "--fork", "sleep", "1000") as outer:
            assert eventually(lambda: bool(procfs.children(outer.pid)))
            (first,) = procfs.children(outer.pid)
            with asleep("nsenter", f"--pid=/proc/{first}/ns/pid", "--no-fork", "sh", "-c", "sleep 1000 & read x"):
                os.kill(first, signal.SIGKILL)
                assert eventually(lambda: procfs.is_ending(first))
                assert procfs.identity(first).is_alive()


ABOUT_A_PROCESS: list[Callable[[int], object]] = [
    procfs.stat, procfs.status, procfs.command_line, procfs.environment, procfs.cgroups, procfs.namespaces,
    procfs.descriptors, procfs.children, procfs.limits, procfs.proportional_size, procfs.link_traffic, procfs.mounts,
    procfs.identity, procfs.is_ending,
]  # fmt: skip


@pytest.mark.parametrize("question", ABOUT_A_PROCESS, ids=lambda question: question.__name__)
class TestEnded:
    def test_is_one_exception_whatever_is_asked(self, question: Callable[[int], object], ended: int) -> None:
        with pytest.raises(ProcessLookupError, match=f"process {ended} has ended"):
            question(ended)

    def test_or_an_answer_of_a_zombie(self, question: Callable[[int], object], zombie: int) -> None:
        try:
            question(zombie)
        except ProcessLookupError:
            pass

    def test_or_of_one_that_ends_meanwhile(self, question: Callable[[int], object]) -> None:
        with subprocess.Popen(["sleep", "0.01"]) as process:
            threading.Thread(target=process.wait).start()
            with pytest.raises(ProcessLookupError):
                while True:
                    question(process.pid)


class TestStatus:
    def test_says_who_it_is(self) -> None:
        def become_nobody() -> None:
            os.setgroups([7, 9])
            os.setresgid(11, 12, 13)
            os.setresuid(21, 22, 23)

        with asleep("sleep", "1000", preexec_fn=become_nobody) as process:
            status = procfs.status(process.pid)
        assert status.uids == [21, 22, 22, 22]  # executing makes the saved ones what is effective
        assert status.gids == [11, 12, 12, 12]
        assert status.groups == [7, 9]
        assert set(status.capabilities) == {"inheritable", "permitted", "effective", "bounding", "ambient"}
        assert status.capabilities["effective"] == 0 != status.capabilities["bounding"]
        assert status.rss > 0
        assert (status.no_new_privileges, status.seccomp) == (False, 0)

    @pytest.mark.parametrize(
        "send", [os.kill, lambda _, number: signal.raise_signal(number)], ids=["process", "thread"]
    )
    def test_says_which_signals_wait(self, send: Callable[[int, int], object]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        try:
            send(os.getpid(), signal.SIGUSR1)
            assert procfs.status().pending == 1 << signal.SIGUSR1 - 1
            assert signal.sigwait([signal.SIGUSR1])
            assert procfs.status().pending == 0
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])

    def test_says_what_it_has_renounced(self) -> None:
        no_new_privileges, umask = 38, 0o27

        def renounce() -> None:
            ctypes.CDLL(None).prctl(no_new_privileges, 1, 0, 0, 0)
            os.umask(umask)

        with asleep("sleep", "1000", preexec_fn=renounce) as process:
            status = procfs.status(process.pid)
        assert status.no_new_privileges
        assert status.umask == umask

    def test_knows_its_pid_inside_a_pid_namespace(self) -> None:
        with asleep("unshare", "--pid", "--fork", "--kill-child", "sleep", "1000") as process:
            assert eventually(lambda: [procfs.stat(pid).command for pid in procfs.children(process.pid)] == ["sleep"])
            (child,) = procfs.children(process.pid)
            assert procfs.status(child).pids == [child, 1]
            assert procfs.namespaces(child)["pid"] != procfs.namespaces()["pid"]
            process.kill()


class TestOneProcess:
    def test_command_line_keeps_empty_arguments(self) -> None:
        arguments = ["sh", "-c", "read x; :", "", "a b", ""]
        with asleep(*arguments) as process:
            assert procfs.command_line(process.pid) == arguments

    def test_environment(self) -> None:
        with asleep("sleep", "1000", env={"A": "1=2", "B": ""}) as process:
            assert procfs.environment(process.pid) == {"A": "1=2", "B": ""}

    def test_namespaces_are_the_inodes_of_their_files(self) -> None:
        assert procfs.namespaces()["net"] == os.stat("/proc/self/ns/net").st_ino

    def test_descriptors_are_counted(self, sleeper: subprocess.Popen[bytes]) -> None:
        assert procfs.descriptors(sleeper.pid) == 3

    def test_children_of_any_thread(self) -> None:
        found: list[list[int]] = []

        def fork() -> None:
            with asleep("sleep", "1000") as process:
                found.append([process.pid])
                found.append(procfs.children())

        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        assert found[0][0] in found[1]

    def test_limits(self) -> None:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        with asleep("sleep", "1000", preexec_fn=limit) as process:
            limits = procfs.limits(process.pid)
        assert limits["Max open files"] == (100, 200)
        assert limits["Max core file size"] == (0, 0)
        assert limits["Max cpu time"] == (None, None)

    def test_shared_memory_counts_in_part(self) -> None:
        size = 16 << 20
        shared = mmap.mmap(-1, size)
        alone = procfs.proportional_size()
        for page in range(0, size, mmap.PAGESIZE):
            shared[page] = 1
        assert procfs.proportional_size() - alone == pytest.approx(size, rel=0.2)
        ready, done = os.pipe()
        pid = os.fork()
        if pid == 0:
            sum(shared[page] for page in range(0, size, mmap.PAGESIZE))
            os.write(done, b".")
            signal.pause()
        os.read(ready, 1)
        assert procfs.proportional_size() - alone < 0.8 * size
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(done)

    def test_traffic_of_its_links(self) -> None:
        before = procfs.link_traffic()["lo"]
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            client.sendall(b"x" * 5000)
        after = procfs.link_traffic()["lo"]
        assert after.sent_bytes - before.sent_bytes >= 5000
        assert after.received_bytes - before.received_bytes == after.sent_bytes - before.sent_bytes
        assert after.sent_packets > before.sent_packets
        assert after.sent_errors == after.received_dropped == 0


class TestMounts:
    def test_a_mount_is_told_as_it_was_made(self, tmp_path: Path) -> None:
        target = tmp_path / "with blank\tand \\040 tab"
        target.mkdir()
        call("mount", "some name", str(target), "tmpfs", 2, "size=1m")  # MS_NOSUID
        try:
            (mount,) = [each for each in procfs.mounts() if each.target == str(target)]
        finally:
            call("umount2", str(target), 0)
        assert (mount.filesystem, mount.source, mount.root) == ("tmpfs", "some name", "/")
        assert "nosuid" in mount.options and "size=1024k" in mount.super_options
        assert mount.parent in [each.identity for each in procfs.mounts()]

    def test_what_is_bound_and_shared_is_told(self, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.mkdir()
        target.mkdir()
        bind, shared = 4096, 1 << 20
        call("mount", str(source), str(target), None, bind, None)
        call("mount", None, str(target), None, shared, None)
        try:
            (mount,) = [each for each in procfs.mounts() if each.target == str(target)]
        finally:
            call("umount2", str(target), 0)
        assert mount.root.endswith(str(source).removeprefix("/tmp"))
        assert any(tag.startswith("shared:") for tag in mount.propagation)
        device = os.stat(source).st_dev
        assert mount.device == f"{os.major(device)}:{os.minor(device)}" or os.major(device) == 0


class TestPs:
    """Against `ps(1)`."""

    FIELDS = ("pid", "ppid", "uid", "comm", "tty", "stat", "vsz", "rss", "times", "etimes", "args")

    def ps(self, pid: int) -> dict[str, str]:
        texts = [subprocess.run(["ps", "-o", f"{field}=", "-p", str(pid)], capture_output=True, text=True, check=True)
                 for field in self.FIELDS]  # fmt: skip
        return dict(zip(self.FIELDS, (text.stdout.strip() for text in texts), strict=True))

    def agree(self, pid: int) -> procfs.PsEntry:
        assert eventually(lambda: procfs.ps([pid])[0].state == self.ps(pid)["stat"])  # it may still be starting
        (entry,), ps = procfs.ps([pid]), self.ps(pid)
        assert (entry.pid, entry.parent, entry.uid) == (int(ps["pid"]), int(ps["ppid"]), int(ps["uid"]))
        assert (entry.name, entry.terminal, entry.state) == (ps["comm"], ps["tty"], ps["stat"])
        assert (entry.virtual_size // 1024, entry.command) == (int(ps["vsz"]), ps["args"])
        assert entry.rss // 1024 == int(ps["rss"])
        assert entry.cpu_time == pytest.approx(int(ps["times"]), abs=1.1)
        assert time.time() - entry.started == pytest.approx(int(ps["etimes"]), abs=2.1)
        return entry

    def test_of_a_job_in_the_background(self, sleeper: subprocess.Popen[bytes]) -> None:
        entry = self.agree(sleeper.pid)
        assert entry.cpu == pytest.approx(0, abs=50)
        assert 0 < entry.memory < 1

    def test_of_a_nice_session_leader_on_a_terminal(self) -> None:
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvp("nice", ["nice", "-n", "5", "sleep", "1000"])
        try:
            assert eventually(lambda: procfs.stat(pid).command == "sleep" and procfs.stat(pid).state == "S")
            entry = self.agree(pid)
            assert entry.terminal.startswith("pts/")
            assert entry.state == "SNs+"
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(terminal)

    def test_of_one_without_a_command_line(self, zombie: int) -> None:
        (entry,) = procfs.ps([zombie])
        assert entry.command == f"[{procfs.stat(zombie).command}]"

    def test_leaves_out_who_has_ended(self, ended: int) -> None:
        assert [entry.pid for entry in procfs.ps([ended, os.getpid()])] == [os.getpid()]

    def test_busy_is_busy(self) -> None:
        pid = os.fork()
        if pid == 0:
            while True:
                pass
        try:
            assert eventually(lambda: procfs.ps([pid])[0].cpu > 10)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    @pytest.mark.parametrize(
        ("major", "minor", "name"),
        [(0, 0, "?"), (136, 5, "pts/5"), (137, 1, "pts/257"), (5, 1, "console"), (250, 9, "?")],
    )
    def test_terminals_have_names(self, major: int, minor: int, name: str) -> None:
        assert procfs.terminal_name(os.makedev(major, minor)) == name


class TestMachine:
    def test_memory_is_in_bytes(self) -> None:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert procfs.memory()["MemTotal"] == pytest.approx(pages, rel=0.01)

    def test_was_started_when_its_uptime_says(self) -> None:
        assert procfs.uptime() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=0.1)
        assert procfs.boot_time() + procfs.uptime() == pytest.approx(time.time(), abs=2.1)

    def test_load(self) -> None:
        assert procfs.load_average() == pytest.approx(os.getloadavg(), abs=0.5)

    def test_lists_all_processes(self, sleeper: subprocess.Popen[bytes]) -> None:
        assert {os.getpid(), sleeper.pid, 1} <= set(procfs.pids())
