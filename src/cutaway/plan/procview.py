"""Operations that give containers a /proc of their own measure, through lxcfs.

lxcfs is a file system in user space: a process that answers for `meminfo`, `stat` and others of /proc by who asks, with
what the cgroup of the asker's PID 1 may have. Its files are bound over the kernel's. When it dies they are dead, until
they are bound anew. `lxcfs(1)`, <https://github.com/lxc/lxcfs>
"""

from __future__ import annotations

import errno
import os
from time import monotonic, sleep

from cutaway.kernel import mounts
from cutaway.kernel.errors import KernelError
from cutaway.kernel.openat2 import open_in_root
from cutaway.kernel.statfs import filesystem_type
from cutaway.plan.mounts import BindMount, unmount_all
from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

FUSE_SUPER_MAGIC = 0x65735546
FILES = (
    "/proc/cpuinfo", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
    "/sys/devices/system/cpu/online",
)  # fmt: skip
"""What is bound from lxcfs over the kernel's own."""
OPTIONS = ["ro", "nosuid", "nodev", "noexec", "bind", "private"]
_FLAGS = ["--enable-loadavg", "--enable-cfs", "--enable-pidfd"]
_PATIENCE = 10.0  # seconds


class ServeProcView(Operation):
    """Runs lxcfs, `program`, mounted on `directory`, which is made. It outlives who started it.

    Undone, that very process is ended: the one that was started with this directory and wrote `pid_file`.
    """

    directory: str
    program: str
    pid_file: str
    log: str
    manual = "lxcfs(1)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        if not os.path.exists("/dev/fuse"):
            raise KernelError(errno.ENOENT, "open", "/dev/fuse", "the kernel has no FUSE: `modprobe fuse` may load it")
        os.makedirs(self.directory, 0o755, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        streams = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self.log, flags, 0o640),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        command = [self.program, "--foreground", *_FLAGS, f"--pidfile={self.pid_file}", self.directory]
        pid = os.posix_spawn(self.program, command, {"PATH": os.defpath}, file_actions=streams, setsid=True)
        self._await_mount(pid)

    def _await_mount(self, pid: int) -> None:
        deadline = monotonic() + _PATIENCE
        while not self.is_mounted():
            if os.waitpid(pid, os.WNOHANG)[0] or monotonic() > deadline:
                raise KernelError(errno.EIO, "mount", f"lxcfs on {self.directory}", self._last_words())
            sleep(0.005)

    def _last_words(self) -> str:
        with open(self.log, errors="replace") as log:
            return log.read().rstrip().rpartition("\n")[2]

    def is_mounted(self) -> bool:
        """Whether it answers."""
        try:
            directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            os.stat("proc/meminfo", dir_fd=directory)
            return filesystem_type(directory) == FUSE_SUPER_MAGIC
        except OSError:
            return False
        finally:
            os.close(directory)

    def process(self) -> int:
        """A pidfd of lxcfs, to be closed; -1 where it has ended."""
        try:
            with open(self.pid_file, encoding="ascii") as file:
                pid = int(file.read())
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return -1
        if self._is_ours(pid):
            return pidfd
        os.close(pidfd)
        return -1

    def _is_ours(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return os.fsencode(self.directory) in file.read().split(b"\0")
        except OSError:
            return False

    def undo(self, context: Context) -> None:  # noqa: ARG002
        pidfd = self.process()
        if pidfd >= 0:
            try:
                _end(pidfd)
                reap(pidfd)
            finally:
                os.close(pidfd)
        unmount_all(self.directory)
        for remove, path in ((os.unlink, self.pid_file), (os.unlink, self.log), (os.rmdir, self.directory)):
            try:
                remove(path)
            except FileNotFoundError:
                pass

    def shell(self) -> str:
        directory, pid_file = _quote(self.directory), _quote(self.pid_file)
        return f"mkdir -p {directory}\n{_quote(self.program)} {' '.join(_FLAGS)} --pidfile={pid_file} {directory}"

    def shell_undo(self) -> str:
        return f"kill $(cat {_quote(self.pid_file)})\nwhile umount {_quote(self.directory)} 2>/dev/null; do :; done"

    def why(self) -> str:
        return "The kernel's /proc/meminfo is about the host; lxcfs answers for it by the limits of whoever reads it."


class RenewBindMount(BindMount):
    """Puts a file of a new lxcfs in the place of a dead one's, in the mount namespace that the process is in; what the
    container has mounted or unmounted there itself stays as it is."""

    def apply(self, context: Context) -> None:
        if self._is_dead(context.root):
            mounts.unmount(self.target, mounts.MNT_DETACH | mounts.UMOUNT_NOFOLLOW)
            super().apply(context)

    def _is_dead(self, root: int) -> bool:
        try:
            os.close(open_in_root(root, self.target, os.O_RDONLY | os.O_NONBLOCK))
        except OSError as error:
            return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        return False

    def why(self) -> str:
        return f"The lxcfs that answered for {self.target} has died; another does from here on."


def reap(pidfd: int) -> None:
    """Takes note of the end of lxcfs, if it has ended and is this process's child: not one of an engine before."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        pass


def _end(pidfd: int) -> None:
    import select

    from cutaway.kernel.pidfd import send_signal

    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    for number, seconds in ((_signal.SIGTERM, 2), (_signal.SIGKILL, 8)):
        try:
            send_signal(pidfd, number)
        except ProcessLookupError:
            return
        if waiting.poll(seconds * 1000):
            return


def _quote(word: str) -> str:
    from shlex import quote  # imports `re`; only a script needs it

    return quote(word)
