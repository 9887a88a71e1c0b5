"""What makes a process the container's program, seen from the program and from its neighbours."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cutaway.kernel import capabilities, mounts, seccomp
from cutaway.kernel.errors import KernelError
from cutaway.kernel.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    clone,
    unshare,
)
from cutaway.kernel.signals import stop_ignoring_reserved
from cutaway.kernel.syscalls import call
from cutaway.plan.operation import Context, Operation, dump, load
from cutaway.plan.process import (
    BecomeInit,
    CannotInvoke,
    ChangeDirectory,
    CloseDescriptors,
    CommandNotFound,
    DropCapabilities,
    Exec,
    LoadSeccomp,
    NewKeyring,
    NewSession,
    OpenTerminal,
    SetDomainname,
    SetHostname,
    SetNoNewPrivileges,
    SetOomScore,
    SetRlimits,
    SetSysctl,
    SetUser,
)
from tests.children import PATH, exit_status, in_child, run, wait_until

FEW = ["CAP_CHOWN", "CAP_KILL"]
EVERY = [
    SetHostname("box"),
    SetDomainname("box.example"),
    SetSysctl("net.ipv4.ip_forward", "1"),
    SetOomScore(100),
    SetRlimits([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": -1}]),
    NewSession(),
    NewKeyring("_ses.box"),
    SetUser(1000, 1000, [5], 0o22),
    DropCapabilities(FEW, FEW, FEW),
    SetNoNewPrivileges(),
    LoadSeccomp(filter="00"),
    OpenTerminal(80, 24),
    ChangeDirectory("/a b"),
    CloseDescriptors(),
    BecomeInit(),
    Exec(["echo", "it's"], ["PATH=/bin"]),
]


class In(Operation):
    """New namespaces, for the child of a test."""

    flags: int

    def apply(self, context: Context) -> None:  # noqa: ARG002
        unshare(self.flags)
        if self.flags & CLONE_NEWNS:
            mounts.mount("", "/", flags=mounts.MS_REC | mounts.MS_PRIVATE)


class Do(Operation):
    """A test's own code among the operations."""

    act: Callable[[Context], object]

    def apply(self, context: Context) -> None:
        self.act(context)


def sh(script: str, *env: str) -> Exec:
    return Exec(["sh", "-c", script], [PATH, *env])


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize("operation", EVERY, ids=lambda operation: type(operation).__name__)
def test_every_operation_can_be_kept_and_explained(operation: Operation) -> None:
    assert load(dump([operation])) == [operation]
    assert operation.why().endswith(".")
    assert operation.manual
    operation.undo(Context())
    operation.undo(Context())
    assert subprocess.run(["sh", "-n", "-c", operation.shell()]).returncode == 0


def test_names() -> None:
    before = os.uname().nodename
    code, output = run(In(CLONE_NEWUTS), SetHostname("box"), SetDomainname("example"), sh("hostname; domainname"))
    assert (code, output) == (0, "box\nexample\n")
    assert os.uname().nodename == before


def test_sysctl_is_of_the_namespace() -> None:
    before = Path("/proc/sys/net/ipv4/conf/lo/rp_filter").read_text()
    setting = [SetSysctl("net.ipv4.conf.lo.rp_filter", "2"), SetSysctl("net/ipv4/conf/lo/arp_filter", "1")]
    code, output = run(In(CLONE_NEWNET), *setting, sh("cd /proc/sys/net/ipv4/conf/lo; cat rp_filter arp_filter"))
    assert (code, output) == (0, "2\n1\n")
    assert Path("/proc/sys/net/ipv4/conf/lo/rp_filter").read_text() == before


def test_sysctl_of_ipc_and_errors() -> None:
    assert run(In(CLONE_NEWIPC), SetSysctl("kernel.shmmni", "77"), sh("cat /proc/sys/kernel/shmmni")) == (0, "77\n")
    code, output = run(In(CLONE_NEWNET), SetSysctl("net.ipv4.no_such", "1"))
    assert (code, "write(/proc/sys/net/ipv4/no_such, 1): ENOENT" in output) == (99, True)


def test_writes_go_to_procfs_alone(directory: Path) -> None:
    """Where something else is at /proc, or over a file of it, nothing is written there (CVE-2019-19921,
    CVE-2025-52881)."""

    def refusal(cover: Callable[[Context], object], *operations: Operation) -> str:
        code, output = run(In(CLONE_NEWNS | CLONE_NEWNET), Do(cover), *operations)
        assert code == 99
        return output

    sysctl, file = (
        SetSysctl("net.ipv4.ip_unprivileged_port_start", "77"),
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    )
    target = directory / "target"
    target.write_text("untouched")

    def fake(context: Context) -> None:  # noqa: ARG001
        """A tmpfs: its root has the inode number that procfs's has."""
        mounts.mount("tmpfs", "/proc", "tmpfs")
        for path in (file, "/proc/self/oom_score_adj"):
            os.makedirs(os.path.dirname(path))
            Path(path).touch()

    def part(context: Context) -> None:  # noqa: ARG001
        mounts.mount("/proc/sys", "/proc", flags=mounts.MS_BIND)

    def over_the_file(context: Context) -> None:  # noqa: ARG001
        mounts.mount(str(target), file, flags=mounts.MS_BIND)

    assert "not the kernel's procfs" in refusal(fake, sysctl)
    assert "not the kernel's procfs" in refusal(part, sysctl)
    uncovered = sh(f"umount {file}; cat {file}")
    assert run(In(CLONE_NEWNS | CLONE_NEWNET), Do(over_the_file), sysctl, uncovered) == (0, "77\n")
    assert "not the kernel's procfs" in refusal(fake, SetOomScore(500))
    assert target.read_text() == "untouched"


def test_the_host_s_procfs_is_preferred(directory: Path) -> None:
    """It is out of the container's reach, and there before the container has one."""
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)

    def score(_: Context) -> None:
        with open(os.open("proc/self/oom_score_adj", os.O_RDONLY, dir_fd=host)) as file:
            os.write(1, file.read().encode())
        os._exit(0)

    empty_root = Do(lambda _: os.chroot(directory))
    assert run(empty_root, SetOomScore(321), Do(score), context=Context(host=host)) == (0, "321\n")
    os.close(host)


def test_oom_score() -> None:
    assert run(SetOomScore(700), sh("cat /proc/self/oom_score_adj")) == (0, "700\n")

    def without_the_right(_: Context) -> None:
        capabilities.capset(0, 0, 0)

    code, output = run(Do(without_the_right), SetOomScore(-900))
    assert code == 99
    assert "lowering the score needs CAP_SYS_RESOURCE" in output


def test_rlimits() -> None:
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 100},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]
    assert run(SetRlimits(limits), sh("ulimit -n; ulimit -Hn; ulimit -Hc")) == (0, "10\n100\n0\n")


def test_raising_a_hard_limit_says_what_to_do() -> None:
    def without_the_right(_: Context) -> None:
        SetRlimits([{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 50}]).apply(Context())
        held = capabilities.capget()[1] & ~capabilities.mask(["CAP_SYS_RESOURCE"])
        capabilities.capset(held, held, 0)

    raising = SetRlimits([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": -1}])
    code, output = run(Do(without_the_right), raising, sh("true"))
    assert code == 99
    assert "raising a hard limit needs CAP_SYS_RESOURCE" in output
    assert "ask for 50 at most" in output
    same = SetRlimits([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 50}])
    assert run(Do(without_the_right), same, sh("ulimit -n")) == (0, "10\n")


@pytest.mark.parametrize(
    ("limit", "complaint"),
    [
        ({"type": "RLIMIT_FLY", "soft": 1, "hard": 1}, "RLIMIT_FLY is not a resource limit"),
        ({"type": "RLIMIT_NOFILE", "soft": 5, "hard": 1}, "prlimit(RLIMIT_NOFILE): EINVAL"),
    ],
)
def test_senseless_limits(limit: dict[str, object], complaint: str) -> None:
    code, output = run(SetRlimits([limit]))
    assert code == 99
    assert complaint in output


def test_session() -> None:
    def leads() -> bool:
        NewSession().apply(Context())
        return os.getsid(0) == os.getpid()

    assert in_child(leads)


def test_keyring_is_its_own() -> None:
    """Neither the starter's nor that of another container which asks for one of the same name."""

    def session_keyring() -> int:
        return call("keyctl", 0, -3, 0)  # KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING

    def joined() -> int:
        NewKeyring("_ses.box").apply(Context())
        return session_keyring()

    def three() -> set[int]:
        return {session_keyring(), joined(), in_child(joined)}

    assert len(in_child(three)) == 3


def test_user(directory: Path) -> None:
    script = "id -u; id -g; id -G; umask; touch $D/made; stat -c %u:%g:%a $D/made"
    os.chmod(directory, 0o777)
    code, output = run(SetUser(1000, 1001, [5, 6], 0o27), sh(script, f"D={directory}"))
    assert (code, output.splitlines()) == (0, ["1000", "1001", "1001 5 6", "0027", "1000:1001:640"])


def test_another_user_has_no_capabilities_left() -> None:
    fields = "grep -E 'Cap(Eff|Prm|Inh|Amb)' /proc/self/status | cut -f2 | sort -u"
    assert run(SetUser(1000, 1000), sh(fields)) == (0, "0" * 16 + "\n")


def test_no_group_of_the_engine_s_is_left() -> None:
    before = Do(lambda _: os.setgroups([7, 8]))
    assert run(before, SetUser(0, 0), sh("id -G")) == (0, "0\n")


@pytest.mark.parametrize(("uid", "gid"), [(4294967295, 0), (0, 4294967295), (-1, -1)])
def test_a_user_that_means_leave_it_does_not_leave_root(uid: int, gid: int) -> None:
    code, output = run(SetUser(uid, gid), sh("id"))
    assert code == 99
    assert "uid=" not in output
    assert run(SetUser(-1, 1000), sh("id"))[0] == 99


def test_pipes_are_given_to_the_user_and_files_are_not(directory: Path) -> None:
    assert run(SetUser(1000, 1000), sh("echo again > /dev/stdout")) == (0, "again\n")
    file = directory / "output"
    file.touch()
    to_file = Do(lambda _: os.dup2(os.open(file, os.O_WRONLY), 1))
    assert run(to_file, SetUser(1000, 1000), sh("true"))[0] == 0
    assert file.stat().st_uid == 0


def told_sets(*operations: Operation) -> dict[str, list[str]]:
    code, output = run(*operations, sh("grep ^Cap /proc/self/status"))
    assert code == 0, output
    return {line[3:6]: capabilities.names(int(line.split()[1], 16)) for line in output.splitlines()}


def test_capabilities_of_root() -> None:
    sets = told_sets(SetUser(0, 0), DropCapabilities(FEW, FEW, FEW))
    assert sets == {"Inh": [], "Prm": FEW, "Eff": FEW, "Bnd": FEW, "Amb": []}


def test_capabilities_of_another_user() -> None:
    sets = told_sets(SetUser(1000, 1000), DropCapabilities(FEW, [], []))
    assert sets == {"Inh": [], "Prm": [], "Eff": [], "Bnd": FEW, "Amb": []}


def test_ambient_capabilities_of_another_user() -> None:
    sets = told_sets(SetUser(1000, 1000), DropCapabilities(FEW, FEW, FEW, FEW, ["CAP_KILL"]))
    assert sets == {"Inh": FEW, "Prm": ["CAP_KILL"], "Eff": ["CAP_KILL"], "Bnd": FEW, "Amb": ["CAP_KILL"]}


def test_nothing_named_is_nothing_kept() -> None:
    assert set(map(tuple, told_sets(SetUser(0, 0), DropCapabilities()).values())) == {()}


def test_capabilities_that_are_not_to_be_had() -> None:
    give_up = Do(lambda _: capabilities.capset(1 << 8, 1 << 8, 0))  # CAP_SETPCAP
    code, output = run(give_up, DropCapabilities(FEW, FEW, FEW))
    assert code == 99
    assert "lacking CAP_CHOWN, CAP_KILL" in output


def test_no_new_privileges() -> None:
    assert run(SetNoNewPrivileges(), sh("grep NoNewPrivs /proc/self/status"))[1].split() == ["NoNewPrivs:", "1"]


def refusing(*names: str) -> str:
    rule = {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EDQUOT}
    return seccomp.compile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}).hex()


MKDIR = "mkdir /tmp/never 2>&1 | grep -o 'quota exceeded'"


def test_filter_is_loaded_in_either_place() -> None:
    loading = LoadSeccomp(refusing("mkdir", "mkdirat"))
    drop = [SetUser(1000, 1000), DropCapabilities(FEW)]
    assert run(loading, *drop, sh(MKDIR)) == (0, "quota exceeded\n")
    assert run(*drop, SetNoNewPrivileges(), loading, sh(MKDIR)) == (0, "quota exceeded\n")
    code, output = run(*drop, loading, sh(MKDIR))
    assert code == 99
    assert "SECCOMP_SET_MODE_FILTER" in output


def test_filter_out_of_a_descriptor() -> None:
    file = os.memfd_create("filter")
    os.write(file, bytes.fromhex(refusing("mkdir", "mkdirat")))
    loading = LoadSeccomp(descriptor="filter", flags=["SECCOMP_FILTER_FLAG_LOG"])
    for _ in range(2):  # the second container finds the file as the first did
        assert run(loading, sh(MKDIR), context=Context({"filter": file})) == (0, "quota exceeded\n")
    os.close(file)


def test_an_empty_filter_is_not_taken_for_none() -> None:
    assert run(LoadSeccomp(), sh("true"))[0] == 99


def test_listener_goes_out() -> None:
    rule = {"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}
    program = seccomp.compile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}).hex()
    ours, theirs = socket.socketpair()
    context = Context({"listener": theirs.fileno()})
    assert run(LoadSeccomp(program, listener="listener"), Exec(["true"], [PATH]), context=context)[0] == 0
    with ours, theirs:
        _, descriptors, _, _ = socket.recv_fds(ours, 100, 5)
    (listener,) = descriptors
    assert os.readlink(f"/proc/self/fd/{listener}") == "anon_inode:seccomp notify"
    os.close(listener)


def test_directory_is_made_and_entered(directory: Path) -> None:
    path = f"{directory}/not/yet there"
    code, output = run(ChangeDirectory(path, make=False), sh("pwd"))
    assert code == 99
    assert "ENOENT" in output
    assert run(ChangeDirectory(path), sh("pwd")) == (0, path + "\n")


def test_a_directory_outside_the_root_is_refused(directory: Path) -> None:
    """Where a descriptor of the host's is left open, its name under /proc leads there (CVE-2024-21626)."""
    host = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    (directory / "proc").mkdir()

    def enter(_: Context) -> None:
        mounts.mount(str(directory), str(directory), flags=mounts.MS_BIND)
        mounts.mount("proc", str(directory / "proc"), "proc")
        (directory / "work").symlink_to(f"/proc/self/fd/{host}")
        root = os.open(directory, os.O_PATH)
        mounts.enter_root(root)

    for path in (f"/proc/self/fd/{host}", "/work", f"/proc/self/fd/{host}/.."):
        code, output = run(In(CLONE_NEWNS), Do(enter), ChangeDirectory(path), Exec(["/bin/true"], []))
        (directory / "work").unlink()
        assert code == 99
        assert "outside of the container's root" in output
    os.close(host)


@pytest.mark.parametrize(("path", "said"), [("/etc/passwd", "ENOTDIR"), ("/proc/none", "ENOENT")])
def test_directories_that_cannot_be_entered(path: str, said: str) -> None:
    code, output = run(ChangeDirectory(path))
    assert code == 99
    assert said in output


def test_descriptors_close() -> None:
    def leave_open(_: Context) -> None:
        for number in (3, 50, 300):
            os.dup2(os.open("/etc/passwd", os.O_RDONLY), number)

    listing = sh("ls /proc/$$/fd")
    assert "300" in run(Do(leave_open), listing)[1].split()
    assert set(run(Do(leave_open), CloseDescriptors(), listing)[1].split()) <= {"0", "1", "2"}
    kept = set(run(Do(leave_open), CloseDescriptors(first=4), listing)[1].split())
    assert "3" in kept
    assert not kept & {"50", "300"}


def test_exec_finds_the_program_and_gives_it_its_environment(directory: Path) -> None:
    hidden = directory / "hidden"
    hidden.mkdir()
    (hidden / "tool").write_text("#!/bin/sh\necho wrong\n")  # not executable: the search goes on
    (directory / "tool").write_text("#!/bin/sh\nexec env\n")
    (directory / "tool").chmod(0o755)
    env = [f"PATH=/nowhere:{hidden}:{directory}:/usr/bin", "A=b=c", "TWICE=1", "TWICE=2", "no equals sign"]
    code, output = run(Exec(["tool"], env))
    assert code == 0
    assert {line for line in output.splitlines() if not line.startswith(("PWD", "PATH", "_", "SHLVL", "OLDPWD"))} == {
        "A=b=c",
        "TWICE=2",
    }


def test_exec_leaves_signals_as_programs_expect_them() -> None:
    def meddle(_: Context) -> None:
        stop_ignoring_reserved()  # as the spawner does when it starts: pytest's parent may have left them ignored
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD})

    code, output = run(Do(meddle), Exec(["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"], [PATH]))
    assert code == 0
    assert [line.split()[1] for line in output.splitlines()] == ["0" * 16, "0" * 16]


@pytest.mark.parametrize(
    ("program", "kind", "exit_code", "text"),
    [
        ("nowhere", CommandNotFound, 127, 'exec: "nowhere": executable file not found in $PATH'),
        ("", CommandNotFound, 127, 'exec: "": executable file not found in $PATH'),
        ("/nowhere", CommandNotFound, 127, 'exec: "/nowhere": stat /nowhere: no such file or directory'),
        ("/etc/passwd/x", CommandNotFound, 127, "no such file or directory"),
        ("/etc", CannotInvoke, 126, 'exec: "/etc": permission denied'),
        ("/etc/passwd", CannotInvoke, 126, 'exec: "/etc/passwd": permission denied'),
        ("{}/script", CommandNotFound, 127, "script is there, but not the interpreter or loader it names"),
        ("{}/empty", CannotInvoke, 126, "exec format error"),
        ("plain", CannotInvoke, 126, 'exec: "plain": permission denied'),
    ],
)
def test_exec_tells_not_found_from_not_executable(
    directory: Path, program: str, kind: type[OSError], exit_code: int, text: str
) -> None:
    (directory / "script").write_text("#!/no/such/interpreter\n")
    (directory / "empty").touch()
    (directory / "plain").touch()
    for name in ("script", "empty"):
        (directory / name).chmod(0o755)
    path = program.format(directory)

    def attempt() -> tuple[str, int, str]:
        try:
            Exec([path], [f"PATH={directory}:/usr/bin"]).apply(Context())
        except (CommandNotFound, CannotInvoke) as error:
            return type(error).__name__, error.exit_code, str(error)
        return "", 0, ""

    name, code, said = in_child(attempt)
    assert (name, code) == (kind.__name__, exit_code)
    assert text in said


class Terminal:
    """The other end of a container's terminal, in a mount namespace that has a root with a devpts."""

    def __init__(self, directory: Path, *operations: Operation) -> None:
        self._root = directory
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            context = Context({"console": theirs.fileno()})
            try:
                for operation in (In(CLONE_NEWNS), Do(self._furnish), NewSession(), *operations):
                    operation.apply(context)
            except BaseException as error:
                theirs.send(f"{type(error).__name__}: {error}".encode())
            os._exit(99)
        theirs.close()
        with ours:
            self.message, descriptors, _, _ = socket.recv_fds(ours, 1000, 1)
        self.master = descriptors[0] if descriptors else -1

    def _furnish(self, context: Context) -> None:
        mounts.mount("tmpfs", str(self._root), "tmpfs")
        (self._root / "dev/pts").mkdir(parents=True)
        mounts.mount("devpts", str(self._root / "dev/pts"), "devpts", data="newinstance,ptmxmode=0666,mode=0620,gid=5")
        context.root = os.open(self._root, os.O_PATH)

    def ended(self) -> tuple[int, str]:
        """Exit status and all output."""
        output = b""
        try:
            while self.master >= 0 and (piece := os.read(self.master, 4096)):
                output += piece
        except OSError:  # EIO: the last slave is closed
            pass
        if self.master >= 0:
            os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), output.decode().replace("\r", "")


def test_terminal(directory: Path) -> None:
    script = (
        f"tty; stty size; stat -c %u:%g:%a $(tty); stat -c %t:%T {directory}/dev/console; : > /dev/tty && echo mine"
    )
    terminal = Terminal(directory, OpenTerminal(100, 40, uid=1000), sh(script))
    assert terminal.message == b"/dev/pts/ptmx"
    code, output = terminal.ended()
    assert code == 0
    assert output.split() == [f"{directory}/dev/pts/0", "40", "100", "1000:5:620", "88:0", "mine"]


def test_terminal_without_console(directory: Path) -> None:
    terminal = Terminal(directory, OpenTerminal(console=False), sh(f"ls {directory}/dev"))
    assert terminal.ended() == (0, "pts\n")


def test_terminal_interrupts(directory: Path) -> None:
    terminal = Terminal(directory, OpenTerminal(), sh("echo ready; exec cat"))
    assert os.read(terminal.master, 100).startswith(b"ready")
    os.write(terminal.master, b"\x03")
    code, _ = terminal.ended()
    assert code == -signal.SIGINT


def test_terminal_belongs_to_the_program_of_an_init(directory: Path) -> None:
    """^C would reach it twice if PID 1 were in the terminal's foreground as well."""
    script = "set -- $(cat /proc/$$/stat); [ $5 = $$ ] && [ $8 = $$ ] && echo foreground"
    terminal = Terminal(directory, OpenTerminal(), BecomeInit(), sh(script))
    assert terminal.ended() == (0, "foreground\n")


def test_terminal_is_of_a_devpts_or_there_is_none(directory: Path) -> None:
    """An image's own /dev/pts/ptmx, a link or a device of that name, is no way out (CVE-2025-52565)."""

    def replace(_: Context) -> None:
        mounts.unmount(str(directory / "dev/pts"), mounts.MNT_DETACH)
        (directory / "dev/pts/ptmx").symlink_to("/dev/pts/ptmx")

    terminal = Terminal(directory, Do(replace), OpenTerminal())
    assert terminal.message.startswith(b"KernelError") or b"ELOOP" in terminal.message
    assert terminal.ended() == (99, "")

    def fake(_: Context) -> None:
        mounts.unmount(str(directory / "dev/pts"), mounts.MNT_DETACH)
        os.mknod(directory / "dev/pts/ptmx", 0o020666, os.makedev(1, 3))

    terminal = Terminal(directory, Do(fake), OpenTerminal())
    assert b"not the ptmx of a devpts" in terminal.message
    assert terminal.ended() == (99, "")


def test_console_that_is_a_link_is_covered_not_followed(directory: Path) -> None:
    def link(_: Context) -> None:
        (directory / "victim").write_text("victim")
        (directory / "dev/console").symlink_to("/victim")

    terminal = Terminal(directory, Do(link), OpenTerminal(), sh(f"cat {directory}/victim"))
    assert terminal.ended() == (0, "victim")


def start_with_init(script: str, *before: Operation) -> tuple[int, int, int]:
    """PID, and the ends to read and write, of a shell under an init in a PID namespace with a /proc of its own."""
    output, their_output = os.pipe()
    their_input, text = os.pipe()
    pid, pidfd = clone(CLONE_NEWPID | CLONE_NEWNS)
    if pid == 0:
        try:
            mounts.mount("", "/", flags=mounts.MS_REC | mounts.MS_PRIVATE)
            mounts.mount("proc", "/proc", "proc")
            os.dup2(their_input, 0)
            os.dup2(their_output, 1)
            for operation in (*before, BecomeInit(), CloseDescriptors(), sh(script)):
                operation.apply(Context())
        finally:
            os._exit(99)
    for descriptor in (their_output, their_input, pidfd):
        os.close(descriptor)
    return pid, output, text


def outcome(pid: int, output: int, text: int) -> tuple[int, str]:
    with open(output) as channel:
        said = channel.read()
    os.close(text)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def test_init_passes_the_exit_code_on() -> None:
    assert outcome(*start_with_init("echo $$; exit 7")) == (7, "2\n")
    assert outcome(*start_with_init("kill -9 $$")) == (137, "")


def test_init_reaps_orphans() -> None:
    """An orphan ends; once the shell's next child has PID 1 for its own parent's reaper, no zombie is left."""
    script = "(sh -c 'exit 3' &) ; until ! grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; echo none"
    assert outcome(*start_with_init(script)) == (0, "none\n")


def test_init_passes_signals_on() -> None:
    pid, output, text = start_with_init(
        "trap 'echo term' TERM; trap 'echo usr1; exit 5' USR1; echo ready; while :; do read x; done"
    )
    assert os.read(output, 6) == b"ready\n"
    os.kill(pid, signal.SIGTERM)
    assert os.read(output, 5) == b"term\n"
    os.kill(pid, signal.SIGUSR1)
    assert outcome(pid, output, text) == (5, "usr1\n")


def test_init_ends_everything_with_the_program() -> None:
    pid, output, text = start_with_init("sleep 1000 & exit 0")
    assert outcome(pid, output, text) == (0, "")  # the sleeper held the pipe open


def test_init_cannot_be_looked_into() -> None:
    """Root of the container, without CAP_SYS_PTRACE, reaches neither the interpreter nor a descriptor through it."""
    few = ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]
    script = (
        "readlink /proc/1/exe || echo refused; ls /proc/1/fd; tr -d '\\0' < /proc/1/cmdline; echo; cat /proc/1/comm"
    )
    started = start_with_init(f"exec 2>/dev/null; {script}", SetUser(0, 0), DropCapabilities(few, few, few))
    assert outcome(*started) == (0, "refused\ninit\ninit\n")


def test_init_holds_nothing(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    pid, output, text = start_with_init("echo ready; read x")
    os.close(file)
    assert os.read(output, 6) == b"ready\n"
    wait_until(lambda: os.listdir(f"/proc/{pid}/fd") == [])
    os.write(text, b"\n")
    assert outcome(pid, output, text) == (0, "")


def test_shell_script_gives_the_same_identity() -> None:
    """The script's faces, put together, make the process that the operations make."""
    operations = [
        SetUser(1000, 1001, [5, 6]),
        DropCapabilities(FEW, [], []),
        SetNoNewPrivileges(),
        Exec(["grep", "-E", "^(Uid|Gid|Groups|Cap|NoNewPrivs)", "/proc/self/status"], [PATH]),
    ]
    code, output = run(*operations)
    assert code == 0
    script = "\n".join(operation.shell() for operation in operations)
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout == output


def test_errors_name_the_call() -> None:
    def forbidden() -> None:
        os.setresuid(1000, 1000, 1000)
        with pytest.raises(KernelError, match=r"sethostname\(box\): EPERM"):
            SetHostname("box").apply(Context())
        with pytest.raises(KernelError, match="setgroups"):
            SetUser(0, 0, [5]).apply(Context())

    assert exit_status(forbidden) == 0
