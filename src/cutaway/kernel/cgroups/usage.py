"""What a cgroup has used and may use, in the same words for both versions."""

from __future__ import annotations


class CpuUsage:
    """CPU time in nanoseconds since the cgroup was made; `per_cpu` is empty on v2, which does not count it."""

    __slots__ = ("per_cpu", "system", "total", "user")

    def __init__(self, total: int = 0, user: int = 0, system: int = 0, per_cpu: list[int] | None = None) -> None:
        self.total, self.user, self.system, self.per_cpu = total, user, system, per_cpu or []


class Throttling:
    """How often a CPU quota held the processes up: of `periods`, in `throttled_periods`, for `time` nanoseconds."""

    __slots__ = ("periods", "throttled_periods", "time")

    def __init__(self, periods: int = 0, throttled_periods: int = 0, time: int = 0) -> None:
        self.periods, self.throttled_periods, self.time = periods, throttled_periods, time


class MemoryUsage:
    """Memory in bytes: `usage` (page cache included), `limit` (None: unlimited), `max_usage` ever seen, `swap` used.

    `inactive_file` is page cache the kernel can take back at once: `docker stats` shows `usage - inactive_file`.
    `failures` counts how often the limit was met (v1 of Linux 6.18 does not count any more), `oom_kills` how many
    processes that killed. `stat` is the whole of `memory.stat`, in the version's own words.
    """

    __slots__ = ("failures", "inactive_file", "limit", "max_usage", "oom_kills", "stat", "swap", "swap_limit", "usage")

    def __init__(
        self,
        usage: int = 0,
        limit: int | None = None,
        max_usage: int = 0,
        inactive_file: int = 0,
        swap: int = 0,
        swap_limit: int | None = None,
        failures: int = 0,
        oom_kills: int = 0,
        stat: dict[str, int] | None = None,
    ) -> None:
        self.usage, self.limit, self.max_usage, self.inactive_file = usage, limit, max_usage, inactive_file
        self.swap, self.swap_limit = swap, swap_limit
        self.failures, self.oom_kills, self.stat = failures, oom_kills, stat or {}


class PidsUsage:
    """How many tasks (threads included) there are, and may be (None: as many as the machine takes)."""

    __slots__ = ("current", "limit")

    def __init__(self, current: int = 0, limit: int | None = None) -> None:
        self.current, self.limit = current, limit


class BlockUsage:
    """What went to and from one block device, in bytes and in operations."""

    __slots__ = ("major", "minor", "read_bytes", "read_operations", "write_bytes", "write_operations")

    def __init__(self, major: int, minor: int) -> None:
        self.major, self.minor = major, minor
        self.read_bytes = self.write_bytes = self.read_operations = self.write_operations = 0


class Usage:
    """All of it, at one moment."""

    __slots__ = ("block", "cpu", "memory", "pids", "throttling")

    def __init__(
        self, cpu: CpuUsage, throttling: Throttling, memory: MemoryUsage, pids: PidsUsage, block: list[BlockUsage]
    ) -> None:
        self.cpu, self.throttling, self.memory, self.pids, self.block = cpu, throttling, memory, pids, block
