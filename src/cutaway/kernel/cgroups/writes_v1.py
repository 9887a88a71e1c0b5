"""OCI's `linux.resources` in the words of version 1, controller by controller."""

from __future__ import annotations

from cutaway.kernel.cgroups.writes import Write, device_values, given, grows, limit, pids, rdma, setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cutaway.kernel.cgroups.writes import Translation

_MEMSW = "memory.memsw.limit_in_bytes"


def _memory(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:
    memory = limit("memory", "memory.limit_in_bytes", wanted.get("limit"))
    memsw = limit("memory", _MEMSW, wanted.get("swap"))
    if memory and memory.value == "-1" and not memsw and _MEMSW in current:
        memsw = Write("memory", _MEMSW, "-1")  # memory and swap together bound memory alone
    return given(
        *([memsw, memory] if grows(memsw, current) else [memory, memsw]),
        limit("memory", "memory.soft_limit_in_bytes", wanted.get("reservation")),
        limit("memory", "memory.kmem.limit_in_bytes", wanted.get("kernel")),
        limit("memory", "memory.kmem.tcp.limit_in_bytes", wanted.get("kernelTCP")),
        setting("memory", "memory.swappiness", wanted.get("swappiness")),
        Write("memory", "memory.oom_control", 1) if wanted.get("disableOOMKiller") else None,
        Write("memory", "memory.use_hierarchy", 1) if wanted.get("useHierarchy") else None,
    )


def _cpu(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:
    shares = limit("cpu", "cpu.shares", wanted.get("shares"))
    idle = setting("cpu", "cpu.idle", wanted.get("idle"))
    return given(
        *([shares, idle] if wanted.get("idle") else [idle, shares]),  # an idle cgroup refuses shares
        *_bandwidth(wanted, current),
        limit("cpu", "cpu.rt_period_us", wanted.get("realtimePeriod")),
        limit("cpu", "cpu.rt_runtime_us", wanted.get("realtimeRuntime")),
    )


def _bandwidth(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write | None]:
    """In an order in which the quota's part of the period never exceeds the parent's, nor the burst the quota."""
    period = limit("cpu", "cpu.cfs_period_us", wanted.get("period"))
    quota = limit("cpu", "cpu.cfs_quota_us", wanted.get("quota"))
    burst = setting("cpu", "cpu.cfs_burst_us", wanted.get("burst"))
    part = [period, quota] if grows(period, current, "100000") else [quota, period]
    return [*part, burst] if grows(quota, current) else [burst, *part]


def _cpuset(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    return [Write("cpuset", f"cpuset.{key}", wanted[key]) for key in ("cpus", "mems") if wanted.get(key)]


def _blkio(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    of_all = given(
        limit("blkio", "blkio.bfq.weight", wanted.get("weight")),
        limit("blkio", "blkio.leaf_weight", wanted.get("leafWeight")),
    )
    of_devices = [
        Write("blkio", f"blkio.{file}", f"{device} {value}")
        for section, key, file in _BLKIO_OF_DEVICES
        for device, value in device_values(wanted.get(section), key)
    ]
    return of_all + of_devices


_BLKIO_OF_DEVICES = (
    ("weightDevice", "weight", "bfq.weight_device"),
    ("weightDevice", "leafWeight", "leaf_weight_device"),
    ("throttleReadBpsDevice", "rate", "throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "rate", "throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "rate", "throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "rate", "throttle.write_iops_device"),
)


def _hugetlb(wanted: list[Mapping[str, Any]], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    return [
        Write("hugetlb", f"hugetlb.{pages['pageSize']}.{kind}limit_in_bytes", pages["limit"])
        for pages in wanted
        for kind in ("", "rsvd.")  # what is touched; what is only reserved, so that mmap fails and not the first touch
    ]


def _net_cls(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    return given(limit("net_cls", "net_cls.classid", wanted.get("classID")))


def _net_prio(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    links = wanted.get("priorities") or []
    return [Write("net_prio", "net_prio.ifpriomap", f"{link['name']} {link['priority']}") for link in links]


TRANSLATIONS: dict[str, Translation] = {
    "memory": _memory,
    "cpu": _cpu,
    "cpuset": _cpuset,
    "pids": pids,
    "blkio": _blkio,
    "hugetlb": _hugetlb,
    "net_cls": _net_cls,
    "net_prio": _net_prio,
    "rdma": rdma,
}
"""By controller."""
