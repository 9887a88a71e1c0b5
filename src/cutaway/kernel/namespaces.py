"""Namespaces: each isolates one kind of global resource for the processes inside. `namespaces(7)`.

A process gets new ones when it is cloned or by unsharing, and joins existing ones through a descriptor of
`/proc/PID/ns/*` or of another process (`pidfd`).
"""

from __future__ import annotations

import errno
import os
import struct

from cutaway.kernel.errors import KernelError
from cutaway.kernel.native import Library, addressof, c_int, get_errno
from cutaway.kernel.syscalls import NUMBERS, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # `signal` imports `enum`

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

CLONE_FS = 0x00000200
"""Not a namespace, but unshared with one: the root and working directories and the umask. `clone(2)`"""
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x200000000

FLAGS = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "mnt": CLONE_NEWNS,
    "time": CLONE_NEWTIME,
}
"""The name under `/proc/PID/ns` and the flag that makes a new one, in an order that is safe to join in."""

_SIGKILL = 9
_SIGCHLD = 17
_SIGSTOP = 19
_MOST_OUTPUT = 4096
_python = Library(holds_the_lock=True)


def unshare(flags: int) -> None:
    """Moves the calling thread into new namespaces. `unshare(2)`"""
    call("unshare", flags, subject=_names(flags))


def setns(descriptor: int, flags: int = 0) -> None:
    """Joins the namespace that `descriptor` is of, or those in `flags` of the process it is a pidfd of. `setns(2)`"""
    call("setns", descriptor, flags, subject=_names(flags))


def clone(flags: int = 0, cgroup: int = -1) -> tuple[int, int]:
    """Forks into new namespaces: `(pid, pidfd)` in the parent, `(0, -1)` in the child. `clone3(2)`

    `cgroup`: a descriptor of the cgroup v2 directory the child is born in. With CLONE_PARENT in `flags` it is a child
    of the caller's parent. The process must have one thread: a child has only the thread that cloned it, and would wait
    for ever for what another one held.
    """
    pidfd = c_int(-1)
    into = CLONE_INTO_CGROUP if cgroup >= 0 else 0
    arguments = struct.pack(
        "11Q",
        flags | CLONE_PIDFD | into,
        addressof(pidfd),
        0, 0,  # child_tid, parent_tid
        0 if flags & CLONE_PARENT else _SIGCHLD,  # a sibling takes the signal that its creator has
        0, 0, 0,  # stack, stack_size, tls
        0, 0,  # set_tid, set_tid_size
        max(cgroup, 0),
    )  # fmt: skip
    _python.PyOS_BeforeFork()
    pid = _python.syscall(NUMBERS["clone3"], arguments, len(arguments))
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        return 0, -1
    number = get_errno()
    _python.PyOS_AfterFork_Parent()
    if pid == -1:
        raise KernelError(number, "clone3", _names(flags))
    return pid, pidfd.value


def map_ids(pid: int, uid_mappings: list[dict[str, int]], gid_mappings: list[dict[str, int]]) -> None:
    """Says who users and groups of process `pid`'s new user namespace are outside; each may be said once.

    Mappings are as in the OCI runtime-spec. An ordinary user may map their own group only, and must give up
    `setgroups(2)` inside for it; others, as /etc/subuid and /etc/subgid allow them, are mapped by `newuidmap(1)` and
    `newgidmap(1)`. Raises `KernelError`. `user_namespaces(7)`
    """
    user, group = os.geteuid(), os.getegid()
    if user and not _is_alone(group, gid_mappings):
        _have_mapped("gid", pid, gid_mappings)
    else:
        _map_groups(pid, _lines(gid_mappings))
    if user and not _is_alone(user, uid_mappings):
        _have_mapped("uid", pid, uid_mappings)
    else:
        _write(f"/proc/{pid}/uid_map", _lines(uid_mappings))


def _is_alone(own: int, mappings: list[dict[str, int]]) -> bool:
    return [(each["hostID"], each["size"]) for each in mappings] == [(own, 1)]


def _map_groups(pid: int, lines: str) -> None:
    try:
        _write(f"/proc/{pid}/gid_map", lines)
    except PermissionError:
        _write(f"/proc/{pid}/setgroups", "deny")
        _write(f"/proc/{pid}/gid_map", lines)


def _have_mapped(kind: str, pid: int, mappings: list[dict[str, int]]) -> None:
    program, words = f"new{kind}map", [str(pid), *_lines(mappings).split()]
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    try:
        redirected = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        helper = os.posix_spawnp(program, [program, *words], os.environ, file_actions=redirected)
        if os.waitpid(helper, 0)[1]:
            said = os.pread(output, _MOST_OUTPUT, 0).decode(errors="replace").strip()
            hint = f"{said}; all but the user's own must be in /etc/sub{kind}, as in NAME:300000:65536"
            raise KernelError(errno.EPERM, program, " ".join(words), hint)
    except FileNotFoundError:
        hint = "an ordinary user needs it to map more than themselves: install it (Debian's package uidmap)"
        raise KernelError(errno.ENOENT, "posix_spawnp", program, hint) from None
    finally:
        os.close(output)


def user_namespace(uid_mappings: list[dict[str, int]], gid_mappings: list[dict[str, int]]) -> int:
    """A descriptor of a new user namespace that no process is in, for the mappings of an idmapped mount."""
    pid, pidfd = clone(CLONE_NEWUSER)
    if pid == 0:
        signal.pause()
    try:
        map_ids(pid, uid_mappings, gid_mappings)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, _SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)


def mappings_of(path: str) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Those of users and of groups of the user namespace at `path`, as in the OCI runtime-spec. Only for a process in a
    namespace the kernel tells them."""
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            setns(namespace, CLONE_NEWUSER)
            os.kill(os.getpid(), _SIGSTOP)
        finally:
            os._exit(1)
    os.close(namespace)
    try:
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return _mappings(pid, "uid"), _mappings(pid, "gid")
    finally:
        os.kill(pid, _SIGKILL)
        os.waitpid(pid, 0)


def _mappings(pid: int, kind: str) -> list[dict[str, int]]:
    with open(f"/proc/{pid}/{kind}_map") as lines:
        return [dict(zip(("containerID", "hostID", "size"), map(int, line.split()), strict=True)) for line in lines]


def set_time_offsets(offsets: dict[str, list[int]]) -> None:
    """How far the clocks of the time namespace that the caller has unshared, and that its children will be in, are from
    the host's: `{"boottime": [seconds, nanoseconds], "monotonic": …}`. `time_namespaces(7)`"""
    lines = "".join(f"{clock} {seconds} {nanoseconds}\n" for clock, (seconds, nanoseconds) in offsets.items())
    _write("/proc/self/timens_offsets", lines)


def _lines(mappings: list[dict[str, int]]) -> str:
    return "".join(f"{each['containerID']} {each['hostID']} {each['size']}\n" for each in mappings)


def _write(path: str, text: str) -> None:
    """In one write, which these files must have."""
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(text.encode())
    except OSError as error:
        raise KernelError(error.errno or 0, "write", f"{path}, {text.strip()!r}") from None


def identity(kind: str, pid: int | str = "self") -> int:
    """The inode number that names the namespace of `kind` (a key of `FLAGS`) which process `pid` is in."""
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def _names(flags: int) -> str:
    return "|".join(name for name, flag in FLAGS.items() if flags & flag)
