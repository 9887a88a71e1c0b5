"""A hierarchy: one mounted tree of cgroups, whose directories are groups of processes and whose files limit them.

What both versions have in common is here; `v1` and `v2` hold what differs. `cgroups(7)`
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import os
import time

from cutaway.kernel import procfs
from cutaway.kernel.cgroups.files import members
from cutaway.kernel.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from cutaway.kernel.cgroups.usage import BlockUsage, CpuUsage, MemoryUsage, Throttling

MOMENT = 0.0005
"""Seconds between two looks at what the kernel gives no notice of."""


class Hierarchy:
    """A tree of cgroups of one version, mounted at `mount_point`, with its `controllers`.

    A v1 hierarchy without a controller has its name as one: `name=systemd`. A `path` is relative to `mount_point`, a
    `deadline` in seconds of `time.monotonic()`. What the kernel refuses is raised as `KernelError`.
    """

    version: ClassVar[int]

    def __init__(self, mount_point: str, controllers: tuple[str, ...]) -> None:
        self.mount_point, self.controllers = mount_point, controllers

    @property
    def name(self) -> str:
        """What `/proc/PID/cgroup` calls it."""
        return ",".join(self.controllers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mount_point!r}, {self.controllers!r})"

    def directory(self, path: str) -> str:
        """The directory that is the cgroup."""
        return f"{self.mount_point}/{path}"

    def create(self, path: str) -> None:
        """Makes the cgroup and its parents, ready for processes; nothing where it is there."""
        raise NotImplementedError

    def join_file(self, path: str) -> str:
        """The file to which a process writes "0" to join."""
        raise NotImplementedError

    def freeze(self, path: str, deadline: float) -> None:
        """Stops every process in the cgroup and below; raises `TimeoutError`, having thawed it, where one will not."""
        raise NotImplementedError

    def thaw(self, path: str) -> None:
        """Lets the processes run on."""
        raise NotImplementedError

    def is_frozen(self, path: str) -> bool:
        """Whether every process in the cgroup is stopped."""
        raise NotImplementedError

    def cpu(self, path: str) -> CpuUsage:
        """CPU time used."""
        raise NotImplementedError

    def throttling(self, path: str) -> Throttling:
        """How a CPU quota made itself felt."""
        raise NotImplementedError

    def memory(self, path: str) -> MemoryUsage:
        """Memory and swap in use, and their limits."""
        raise NotImplementedError

    def oom_kills(self, path: str) -> int:
        """How many processes were killed for want of memory."""
        raise NotImplementedError

    def block(self, path: str) -> list[BlockUsage]:
        """What went to and from each block device."""
        raise NotImplementedError

    def remove(self, path: str, deadline: float) -> None:
        """Removes the cgroup and those below it once their processes have ended; nothing where it is absent.

        Raises `KernelError` (EBUSY) where processes are in it at the `deadline`.
        """
        directory = self.directory(path)
        while not _removed(directory):
            for child in _children(directory):
                self.remove(f"{path}/{child}", deadline)
            _wait_for_end(members(directory), deadline)
            if time.monotonic() >= deadline and not _removed(directory):
                raise KernelError(errno.EBUSY, "rmdir", f"{directory}, with the processes {members(directory)}")

    def processes(self, path: str) -> list[int]:
        """The PIDs of all processes in the cgroup and below it; none where it is absent."""
        return [pid for directory, _, _ in os.walk(self.directory(path)) for pid in members(directory)]

    def kill(self, path: str) -> None:
        """Sends SIGKILL to every process in the cgroup and below it, all frozen meanwhile so that none can fork."""
        if not self.processes(path):
            return
        try:
            self.freeze(path, time.monotonic() + 1)
        except TimeoutError:  # one hangs in the kernel, and cannot fork there either
            pass
        try:
            for pid in self.processes(path):
                self._kill(path, pid)
        finally:
            self.thaw(path)

    def _kill(self, path: str, pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self._holds(path, pid):
                _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    def _holds(self, path: str, pid: int) -> bool:
        """Whether the process is in the cgroup or below it, and `pid` not another's by now."""
        return f"/{path}/" in procfs.cgroups(pid).get(self.name, "") + "/"


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise KernelError(error.errno or 0, "rmdir", directory) from None
    return True


def _children(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _wait_for_end(pids: list[int], deadline: float) -> None:
    """Returns once the processes have ended, or at the `deadline`."""
    from select import POLLIN, poll

    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ended = poll()
            ended.register(pidfd, POLLIN)
            ended.poll(max(0, deadline - time.monotonic()) * 1000)
        finally:
            os.close(pidfd)
    time.sleep(MOMENT)
