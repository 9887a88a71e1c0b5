"""OCI's `linux.resources`, which are worded for version 1, in the words of version 2, converted as runc does."""

from __future__ import annotations

import math

from cutaway.kernel.cgroups.writes import (
    UnsupportedResource,
    Write,
    device_values,
    given,
    grows,
    limit,
    pids,
    rdma,
    setting,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cutaway.kernel.cgroups.writes import Translation


def _memory(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    _refuse("memory", wanted, "kernel", "kernelTCP", "disableOOMKiller")
    if wanted.get("swappiness") is not None:
        raise UnsupportedResource("memory.swappiness: cgroup v2 has no such limit")
    return given(
        _limit("memory", "memory.swap.max", _swap(wanted.get("limit") or 0, wanted.get("swap") or 0)),
        _limit("memory", "memory.max", wanted.get("limit") or None),
        _limit("memory", "memory.low", wanted.get("reservation") or None),
    )


def _swap(memory: int, memory_and_swap: int) -> int | None:
    """Version 1, and OCI, limit memory and swap together, version 2 swap alone; None: not asked for."""
    if memory_and_swap == 0:
        return -1 if memory == -1 else None
    if memory_and_swap == -1 or memory == -1:
        return memory_and_swap
    if memory == 0:
        raise UnsupportedResource("a limit of memory and swap needs a limit of memory")
    if memory_and_swap < memory:
        raise UnsupportedResource(f"memory and swap ({memory_and_swap}) must not be less than memory ({memory})")
    return memory_and_swap - memory


def _cpu(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:
    _refuse("cpu", wanted, "realtimePeriod", "realtimeRuntime")
    weight = limit("cpu", "cpu.weight", _weight(wanted.get("shares") or 0))
    idle = setting("cpu", "cpu.idle", wanted.get("idle"))
    most = _most(wanted.get("quota") or 0, wanted.get("period") or 0, current)
    burst = setting("cpu", "cpu.max.burst", wanted.get("burst"))
    return given(
        *([weight, idle] if wanted.get("idle") else [idle, weight]),  # an idle cgroup refuses a weight
        *([most, burst] if grows(most, current) else [burst, most]),  # the burst must not exceed the quota
    )


def _weight(shares: int) -> int | None:
    """Shares of 2 to 262144, 1024 by default, to a weight of 1 to 10000, 100 by default; None: not asked for."""
    if shares == 0:
        return None
    if not 2 < shares < 262144:
        return 1 if shares <= 2 else 10000
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _most(quota: int, period: int, current: Mapping[str, str]) -> Write | None:
    if not quota and not period:
        return None
    runtime = _text(quota) if quota else current.get("cpu.max", "max").split()[0]
    return Write("cpu", "cpu.max", f"{runtime} {period}" if period else runtime)


def _cpuset(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    return [Write("cpuset", f"cpuset.{key}", wanted[key]) for key in ("cpus", "mems") if wanted.get(key)]


def _io(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    _refuse("blockIO", wanted, "leafWeight")
    for device in wanted.get("weightDevice") or []:
        _refuse("blockIO.weightDevice", device, "leafWeight")
    weights = [_io_weight("", wanted["weight"])] if wanted.get("weight") else []
    weights += [
        _io_weight(f"{device} ", weight) for device, weight in device_values(wanted.get("weightDevice"), "weight")
    ]
    throttles = [
        Write("io", "io.max", f"{device} {key}={rate or 'max'}")
        for section, key in _THROTTLES.items()
        for device, rate in device_values(wanted.get(section), "rate")
    ]
    return weights + throttles


_THROTTLES = {
    "throttleReadBpsDevice": "rbps",
    "throttleWriteBpsDevice": "wbps",
    "throttleReadIOPSDevice": "riops",
    "throttleWriteIOPSDevice": "wiops",
}


def _io_weight(device: str, weight: int) -> Write:
    """BFQ's weights are OCI's (10 to 1000); where it is not loaded, those of the kernel's own go from 1 to 10000."""
    converted = 1 + (weight - 10) * 9999 // 990
    return Write("io", "io.bfq.weight", f"{device}{weight}", otherwise=("io.weight", f"{device}{converted}"))


def _hugetlb(wanted: list[Mapping[str, Any]], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    return [
        Write("hugetlb", f"hugetlb.{pages['pageSize']}.{kind}max", pages["limit"])
        for pages in wanted
        for kind in ("", "rsvd.")  # what is touched; what is only reserved, so that mmap fails and not the first touch
    ]


def _refuse(section: str, wanted: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        if wanted.get(key):
            raise UnsupportedResource(f"{section}.{key}: cgroup v2 has no such limit")


def _limit(controller: str, file: str, value: int | None) -> Write | None:
    return setting(controller, file, None if value is None else _text(value))


def _text(value: int) -> str:
    return "max" if value < 0 else str(value)


TRANSLATIONS: dict[str, Translation] = {
    "memory": _memory,
    "cpu": _cpu,
    "cpuset": _cpuset,
    "pids": pids,
    "io": _io,
    "hugetlb": _hugetlb,
    "rdma": rdma,
}
"""By controller."""
