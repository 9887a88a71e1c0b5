"""Version 2: one hierarchy for all controllers. Kernel's `Documentation/admin-guide/cgroup-v2.rst`"""

from __future__ import annotations

import os
import time

from cutaway.kernel.cgroups.files import RefusedWrite, read, read_keyed, read_limit, read_number, write
from cutaway.kernel.cgroups.hierarchy import Hierarchy
from cutaway.kernel.cgroups.usage import BlockUsage, CpuUsage, MemoryUsage, Throttling
from cutaway.kernel.errors import KernelError

_MICROSECOND = 1000
"""The unit of `cpu.stat`, in nanoseconds."""


class Version2(Hierarchy):
    """The hierarchy of version 2."""

    version = 2

    @property
    def name(self) -> str:
        return ""

    def create(self, path: str) -> None:
        directory = self.mount_point
        for part in path.split("/"):
            self._delegate(directory)
            directory += f"/{part}"
            try:
                os.mkdir(directory)
            except FileExistsError:
                pass
            except OSError as error:
                raise KernelError(error.errno or 0, "mkdir", directory) from None

    def _delegate(self, directory: str) -> None:
        """Gives the cgroups below `directory` the controllers that they do not have yet. One that is refused (a cgroup
        with processes of its own passes none on) is missed only by who wants to limit something by it."""
        control = f"{directory}/cgroup.subtree_control"
        passed_on = read(control).split() if self.controllers else []
        for controller in self.controllers:
            if controller not in passed_on:
                try:
                    write(control, f"+{controller}")
                except RefusedWrite:
                    pass

    def join_file(self, path: str) -> str:
        return f"{self.directory(path)}/cgroup.procs"

    def freeze(self, path: str, deadline: float) -> None:
        write(f"{self.directory(path)}/cgroup.freeze", "1")
        if not self._wait_for("frozen 1", path, deadline):
            self.thaw(path)
            raise TimeoutError(f"cannot freeze {self.directory(path)}: a process in it does not stop")

    def thaw(self, path: str) -> None:
        write(f"{self.directory(path)}/cgroup.freeze", "0")

    def is_frozen(self, path: str) -> bool:
        return read_keyed(f"{self.directory(path)}/cgroup.events")["frozen"] == 1

    def kill(self, path: str) -> None:
        directory = self.directory(path)
        try:
            write(f"{directory}/cgroup.kill", "1")
        except FileNotFoundError:  # a kernel before 5.14, or a cgroup that is gone
            super().kill(path)

    def cpu(self, path: str) -> CpuUsage:
        stat = read_keyed(f"{self.directory(path)}/cpu.stat")
        total, user, system = (stat.get(f"{kind}_usec", 0) * _MICROSECOND for kind in ("usage", "user", "system"))
        return CpuUsage(total, user, system)

    def throttling(self, path: str) -> Throttling:
        stat = read_keyed(f"{self.directory(path)}/cpu.stat")
        throttled = stat.get("throttled_usec", 0) * _MICROSECOND
        return Throttling(stat.get("nr_periods", 0), stat.get("nr_throttled", 0), throttled)

    def memory(self, path: str) -> MemoryUsage:
        directory = self.directory(path)
        stat, events = read_keyed(f"{directory}/memory.stat"), read_keyed(f"{directory}/memory.events")
        return MemoryUsage(
            usage=read_number(f"{directory}/memory.current"),
            limit=read_limit(f"{directory}/memory.max"),
            max_usage=read_number(f"{directory}/memory.peak"),
            inactive_file=stat.get("inactive_file", 0),
            swap=read_number(f"{directory}/memory.swap.current"),
            swap_limit=read_limit(f"{directory}/memory.swap.max"),
            failures=events.get("max", 0),
            oom_kills=events.get("oom_kill", 0),
            stat=stat,
        )

    def oom_kills(self, path: str) -> int:
        return read_keyed(f"{self.directory(path)}/memory.events").get("oom_kill", 0)

    def block(self, path: str) -> list[BlockUsage]:
        return [_block_usage(*line.split()) for line in read(f"{self.directory(path)}/io.stat").splitlines()]

    def _wait_for(self, event: str, path: str, deadline: float) -> bool:
        """Whether `cgroup.events` has the line `event` before the `deadline`; the kernel wakes who polls it."""
        from select import POLLPRI, poll

        descriptor = os.open(f"{self.directory(path)}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            changed = poll()
            changed.register(descriptor, POLLPRI)
            while event not in os.pread(descriptor, 4096, 0).decode().splitlines():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                changed.poll(remaining * 1000)
            return True
        finally:
            os.close(descriptor)


def _block_usage(device: str, *amounts: str) -> BlockUsage:
    usage = BlockUsage(*map(int, device.split(":")))
    counted = dict(amount.split("=") for amount in amounts)
    usage.read_bytes, usage.write_bytes = int(counted.get("rbytes", 0)), int(counted.get("wbytes", 0))
    usage.read_operations, usage.write_operations = int(counted.get("rios", 0)), int(counted.get("wios", 0))
    return usage
