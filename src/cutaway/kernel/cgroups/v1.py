"""Version 1: a hierarchy of its own for each controller. Kernel's `Documentation/admin-guide/cgroup-v1/`"""

from __future__ import annotations

import os
import time

from cutaway.kernel.cgroups.files import read, read_keyed, read_limit, read_number, write
from cutaway.kernel.cgroups.hierarchy import MOMENT, Hierarchy
from cutaway.kernel.cgroups.usage import BlockUsage, CpuUsage, MemoryUsage, Throttling
from cutaway.kernel.errors import KernelError


class Version1(Hierarchy):
    """A hierarchy of version 1."""

    version = 1

    def create(self, path: str) -> None:
        directory = self.directory(path)
        try:
            os.mkdir(directory)
        except FileExistsError:
            pass
        except OSError as error:
            if not (path and isinstance(error, FileNotFoundError)):
                raise KernelError(error.errno or 0, "mkdir", directory) from None
            self.create(os.path.dirname(path))
            self.create(path)
        if path and "cpuset" in self.controllers:
            for file in ("cpuset.cpus", "cpuset.mems"):
                _inherit(directory, file)

    def join_file(self, path: str) -> str:
        # "0" in `tasks` moves the writing thread alone, and takes no lock that all of the system's forks wait for, as
        # `cgroup.procs` does: 0.02 ms instead of up to 1.6.
        return f"{self.directory(path)}/tasks"

    def freeze(self, path: str, deadline: float) -> None:
        while not self._freeze(path):
            if time.monotonic() > deadline:
                self.thaw(path)
                raise TimeoutError(f"cannot freeze {self.directory(path)}: a process in it does not stop")
            time.sleep(MOMENT)

    def _freeze(self, path: str) -> bool:
        write(f"{self.directory(path)}/freezer.state", "FROZEN")  # again: who was forking meanwhile was missed
        return self.is_frozen(path)

    def thaw(self, path: str) -> None:
        write(f"{self.directory(path)}/freezer.state", "THAWED")

    def is_frozen(self, path: str) -> bool:
        return read(f"{self.directory(path)}/freezer.state") == "FROZEN"

    def cpu(self, path: str) -> CpuUsage:
        directory = self.directory(path)
        return CpuUsage(
            total=read_number(f"{directory}/cpuacct.usage"),
            user=read_number(f"{directory}/cpuacct.usage_user"),
            system=read_number(f"{directory}/cpuacct.usage_sys"),
            per_cpu=[int(spent) for spent in read(f"{directory}/cpuacct.usage_percpu").split()],
        )

    def throttling(self, path: str) -> Throttling:
        stat = read_keyed(f"{self.directory(path)}/cpu.stat")
        return Throttling(stat.get("nr_periods", 0), stat.get("nr_throttled", 0), stat.get("throttled_time", 0))

    def memory(self, path: str) -> MemoryUsage:
        directory = self.directory(path)
        stat = read_keyed(f"{directory}/memory.stat")
        limit, total = (
            read_limit(f"{directory}/memory.limit_in_bytes"),
            read_limit(f"{directory}/memory.memsw.limit_in_bytes"),
        )
        return MemoryUsage(
            usage=read_number(f"{directory}/memory.usage_in_bytes"),
            limit=limit,
            max_usage=read_number(f"{directory}/memory.max_usage_in_bytes"),
            inactive_file=stat["total_inactive_file"],
            swap=stat.get("total_swap", 0),
            swap_limit=None if limit is None or total is None else total - limit,
            failures=read_number(f"{directory}/memory.failcnt") + read_number(f"{directory}/memory.memsw.failcnt"),
            oom_kills=self.oom_kills(path),
            stat=stat,
        )

    def oom_kills(self, path: str) -> int:
        return read_keyed(f"{self.directory(path)}/memory.oom_control").get("oom_kill", 0)

    def block(self, path: str) -> list[BlockUsage]:
        devices: dict[str, BlockUsage] = {}
        for file, unit in ("io_service_bytes", "bytes"), ("io_serviced", "operations"):
            for line in read(f"{self.directory(path)}/blkio.throttle.{file}_recursive").splitlines():
                device, direction, amount = f"{line} -".split()[:3]
                if direction in ("Read", "Write"):
                    usage = devices.setdefault(device, BlockUsage(*map(int, device.split(":"))))
                    setattr(usage, f"{direction.lower()}_{unit}", int(amount))
        return list(devices.values())


def _inherit(directory: str, file: str) -> str:
    """A new cpuset is empty and takes no process until it is given what its parent has."""
    value = read(f"{directory}/{file}")
    if not value:
        value = _inherit(os.path.dirname(directory), file)
        write(f"{directory}/{file}", value)
    return value
