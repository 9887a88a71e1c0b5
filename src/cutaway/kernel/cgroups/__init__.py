"""Control groups: sets of processes that are limited, counted, frozen and killed together. `cgroups(7)`

A `Cgroup` is one path in every hierarchy of the host, of whichever version: the two differ below this file only.
"""

from __future__ import annotations

import errno
import os
import time

from cutaway.kernel.cgroups.files import RefusedWrite, read, read_limit, read_number, write
from cutaway.kernel.cgroups.layout import Layout, host_layout, read_layout
from cutaway.kernel.cgroups.usage import BlockUsage, CpuUsage, MemoryUsage, PidsUsage, Throttling, Usage
from cutaway.kernel.cgroups.writes import UnsupportedResource, Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cutaway.kernel.cgroups.hierarchy import Hierarchy

__all__ = [
    "BlockUsage", "Cgroup", "CpuUsage", "Layout", "MemoryUsage", "PidsUsage", "RefusedWrite", "Throttling",
    "UnsupportedResource", "Usage", "Write", "host_layout", "normal", "read_layout",
]  # fmt: skip


_GONE = (errno.ENOENT, errno.ENODEV)
"""A file of a cgroup that is not there any more, or went after the file was opened."""
_TRIES = 10
"""How often a parent may go meanwhile, as nobody used it, before making a cgroup is given up."""


def normal(path: str) -> str:
    """A cgroup's path without slashes at its ends, which cannot leave the hierarchy; `ValueError` for the root."""
    inside = os.path.normpath(f"/{path}").strip("/")
    if not inside:
        raise ValueError(f"{path!r} is the root cgroup, which is the host's own")
    return inside


class Cgroup:
    """The cgroup at `path`, relative to where each hierarchy of `layout` (this host's) is mounted.

    What the kernel refuses is raised as `KernelError`; a cgroup that is not there as its kind `FileNotFoundError`.
    """

    def __init__(self, path: str, layout: Layout | None = None) -> None:
        self.path, self.layout = normal(path), layout or host_layout()

    def __repr__(self) -> str:
        return f"Cgroup({self.path!r})"

    @property
    def directories(self) -> list[str]:
        """Its directory in each hierarchy."""
        return [hierarchy.directory(self.path) for hierarchy in self.layout.hierarchies]

    def directory(self, controller: str) -> str:
        """Its directory in the hierarchy of `controller`; raises `UnsupportedResource` where the host has none."""
        return self._with(controller).directory(self.path)

    def exists(self) -> bool:
        """Whether it is there, in any hierarchy."""
        return any(map(os.path.isdir, self.directories))

    def create(self) -> None:
        """Makes it, and its parents, ready to take processes and limits; nothing where it is there."""
        for hierarchy in self.layout.hierarchies:
            for tries_left in reversed(range(_TRIES)):
                try:
                    hierarchy.create(self.path)
                    break
                except OSError as error:
                    if error.errno not in _GONE or not tries_left:
                        raise

    def remove(self, timeout: float = 10) -> None:
        """Removes it and those below it, waiting up to `timeout` seconds for the last process to end; nothing where it
        is absent. Raises `KernelError` (EBUSY), with the processes, where some have not ended by then."""
        deadline = time.monotonic() + timeout
        for hierarchy in self.layout.hierarchies:
            hierarchy.remove(self.path, deadline)

    def remove_unused(self) -> None:
        """Removes it where it has neither processes nor cgroups below it: a parent that nobody needs any more."""
        for directory in self.directories:
            try:
                os.rmdir(directory)
            except OSError:
                pass

    def join(self, root: int | None = None) -> None:
        """Moves the calling process, which must have one thread, in. `root`: a descriptor of the host's root directory,
        where the caller sees another."""
        for hierarchy in self.layout.hierarchies:
            file = hierarchy.join_file(self.path)
            write(file if root is None else file.lstrip("/"), "0", root=root)

    def processes(self) -> list[int]:
        """The PIDs of the processes in it and below it; none where it is absent."""
        return self._freezable.processes(self.path)

    def kill(self) -> None:
        """Sends SIGKILL to every process in it and below it, frozen or not; nothing where it is absent."""
        (self.layout.unified or self._freezable).kill(self.path)
        try:
            self.thaw()  # who is frozen by version 1 does not die before
        except FileNotFoundError:
            pass

    def freeze(self, timeout: float = 10) -> None:
        """Stops all its processes where they are, without their notice; raises `TimeoutError`, having thawed them
        again, where one does not stop within `timeout` seconds."""
        self._freezable.freeze(self.path, time.monotonic() + timeout)

    def thaw(self) -> None:
        """Lets its processes run on."""
        self._freezable.thaw(self.path)

    @property
    def is_frozen(self) -> bool:
        """Whether all its processes are stopped."""
        return self._freezable.is_frozen(self.path)

    def read(self, controller: str, file: str) -> str:
        """What a control file holds."""
        return read(f"{self.directory(controller)}/{file}")

    def write(self, controller: str, file: str, value: str) -> None:
        """Writes a control file; raises `RefusedWrite`, which says what is wrong with the value."""
        write(f"{self.directory(controller)}/{file}", value)

    def usage(self) -> Usage:
        """What it uses and may use at this moment; zero and unlimited where the host has no such controller."""
        return Usage(self.cpu(), self.throttling(), self.memory(), self.pids(), self.block())

    def cpu(self) -> CpuUsage:
        """CPU time used."""
        hierarchy = self.layout.find("cpuacct") or self.layout.unified
        return hierarchy.cpu(self.path) if hierarchy else CpuUsage()

    def throttling(self) -> Throttling:
        """How a CPU quota made itself felt."""
        hierarchy = self.layout.find("cpu")
        return hierarchy.throttling(self.path) if hierarchy else Throttling()

    def memory(self) -> MemoryUsage:
        """Memory and swap in use, their limits, and how often those were met."""
        hierarchy = self.layout.find("memory")
        return hierarchy.memory(self.path) if hierarchy else MemoryUsage()

    def oom_kills(self) -> int:
        """How many of its processes were killed for want of memory."""
        hierarchy = self.layout.find("memory")
        return hierarchy.oom_kills(self.path) if hierarchy else 0

    def pids(self) -> PidsUsage:
        """How many tasks there are, and may be."""
        if not self.layout.find("pids"):
            return PidsUsage()
        directory = self.directory("pids")
        return PidsUsage(read_number(f"{directory}/pids.current"), read_limit(f"{directory}/pids.max"))

    def block(self) -> list[BlockUsage]:
        """What went to and from each block device."""
        hierarchy = self.layout.find("blkio") or self.layout.find("io")
        return hierarchy.block(self.path) if hierarchy else []

    @property
    def _freezable(self) -> Hierarchy:
        return self._with("freezer")

    def _with(self, controller: str) -> Hierarchy:
        hierarchy = self.layout.find(controller)
        if hierarchy is None:
            raise UnsupportedResource(f"{self.layout} have no {controller} controller")
        return hierarchy
