"""What `events` says that a container uses, in runc's words (`types/events.go`), whichever version counts it."""

from __future__ import annotations

import os

from cutaway.kernel.cgroups.files import read_keyed, read_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cutaway.kernel.cgroups import BlockUsage, Cgroup, CpuUsage, MemoryUsage

_UNLIMITED = (1 << 64) - 1
_CPUSET = ("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
           "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level")  # fmt: skip
_KILOBYTES = {1 << 20: "GB", 1 << 10: "MB", 1: "KB"}


def stats(cgroup: Cgroup) -> dict[str, Any]:
    """At this moment."""
    usage = cgroup.usage()
    return {
        "cpu": {
            "usage": _cpu(usage.cpu) | _per_cpu(cgroup),
            "throttling": {
                "periods": usage.throttling.periods,
                "throttledPeriods": usage.throttling.throttled_periods,
                "throttledTime": usage.throttling.time,
            },
        },
        "cpuset": _cpuset(cgroup),
        "memory": _memory(usage.memory) | _by_kind(cgroup),
        "pids": {"current": usage.pids.current, "limit": usage.pids.limit or 0},
        "blkio": {
            "ioServiceBytesRecursive": _block(usage.block, "bytes"),
            "ioServicedRecursive": _block(usage.block, "operations"),
        },
        "hugetlb": _huge_pages(cgroup),
    }


def _cpu(cpu: CpuUsage) -> dict[str, Any]:
    return {"total": cpu.total, "percpu": cpu.per_cpu, "kernel": cpu.system, "user": cpu.user}


def _per_cpu(cgroup: Cgroup) -> dict[str, Any]:
    """Who spent it, which version 1 alone counts for each CPU: lines of its number and two times."""
    if not cgroup.layout.find("cpuacct", version=1):
        return {}
    spent = [line.split()[1:] for line in cgroup.read("cpuacct", "cpuacct.usage_all").splitlines()[1:]]
    return {"percpu_user": [int(user) for user, _ in spent], "percpu_kernel": [int(system) for _, system in spent]}


def _cpuset(cgroup: Cgroup) -> dict[str, Any]:
    if not cgroup.layout.find("cpuset", version=1):
        return {}
    from cutaway.kernel.scheduling import numbers_in

    switches = {name: read_number(f"{cgroup.directory('cpuset')}/cpuset.{name}") for name in _CPUSET}
    return {name: numbers_in(cgroup.read("cpuset", f"cpuset.{name}")) for name in ("cpus", "mems")} | switches


def _memory(memory: MemoryUsage) -> dict[str, Any]:
    return {
        "cache": memory.stat.get("cache", memory.stat.get("file", 0)),
        "usage": {
            "usage": memory.usage,
            "limit": memory.limit or _UNLIMITED,
            "max": memory.max_usage,
            "failcnt": memory.failures,
        },
        "swap": {"usage": memory.swap, "limit": memory.swap_limit or _UNLIMITED, "failcnt": 0},
        "raw": memory.stat,
    }


def _by_kind(cgroup: Cgroup) -> dict[str, Any]:
    """What version 1 counts besides; its swap is memory and swap together."""
    if not cgroup.layout.find("memory", version=1):
        return {}
    kinds = {"usage": "memory", "swap": "memory.memsw", "kernel": "memory.kmem", "kernelTCP": "memory.kmem.tcp"}
    return {kind: _counter(f"{cgroup.directory('memory')}/{prefix}") for kind, prefix in kinds.items()}


def _counter(prefix: str) -> dict[str, int]:
    files = {"usage": "usage_in_bytes", "limit": "limit_in_bytes", "max": "max_usage_in_bytes", "failcnt": "failcnt"}
    return {name: read_number(f"{prefix}.{file}") for name, file in files.items()}


def _huge_pages(cgroup: Cgroup) -> dict[str, Any]:
    """For each size of page that the machine has, as `2MB`."""
    hierarchy = cgroup.layout.find("hugetlb")
    if not hierarchy:
        return {}
    prefixes = {size: f"{hierarchy.directory(cgroup.path)}/hugetlb.{size}" for size in _sizes_of_huge_pages()}
    if hierarchy.version == 1:
        return {size: _counter(prefix) for size, prefix in prefixes.items()}
    return {
        size: {"usage": read_number(f"{prefix}.current"), "failcnt": read_keyed(f"{prefix}.events").get("max", 0)}
        for size, prefix in prefixes.items()
    }


def _sizes_of_huge_pages() -> Iterator[str]:
    for name in os.listdir("/sys/kernel/mm/hugepages"):
        kilobytes = int(name.removeprefix("hugepages-").removesuffix("kB"))
        unit = next(unit for unit in _KILOBYTES if kilobytes >= unit)
        yield f"{kilobytes // unit}{_KILOBYTES[unit]}"


def _block(devices: list[BlockUsage], kind: str) -> list[dict[str, Any]]:
    return [
        {"major": each.major, "minor": each.minor, "op": way.capitalize(), "value": getattr(each, f"{way}_{kind}")}
        for each in devices
        for way in ("read", "write")
    ]
