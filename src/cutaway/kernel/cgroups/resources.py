"""What a cgroup is to be limited to, as OCI's `linux.resources` say it, on the host at hand."""

from __future__ import annotations

from cutaway.kernel.cgroups import writes_v1, writes_v2
from cutaway.kernel.cgroups.writes import UnsupportedResource, Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cutaway.kernel.cgroups.layout import Layout

_SECTIONS = (
    ("memory", "memory", "memory"),
    ("cpu", "cpu", "cpu"),
    ("cpu", "cpuset", "cpuset"),
    ("pids", "pids", "pids"),
    ("blockIO", "blkio", "io"),
    ("hugepageLimits", "hugetlb", "hugetlb"),
    ("network", "net_cls", ""),
    ("network", "net_prio", ""),
    ("rdma", "rdma", "rdma"),
)
"""A section of `linux.resources`, and the controllers that it speaks of in version 1 and in version 2."""

BOUNDS = ("memory.memsw.limit_in_bytes", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max")
"""The files of which the order of writes to an existing cgroup depends."""


def writes(resources: Mapping[str, Any], layout: Layout, current: Mapping[str, str] | None = None) -> list[Write]:
    """The control files to write, in order; `devices` apart, which are no files in version 2.

    `current`: what those of `BOUNDS` hold now, by name, where the cgroup has limits already. Raises
    `UnsupportedResource` for what this host's cgroups cannot do.
    """
    asked = [
        write
        for section, on_v1, on_v2 in _SECTIONS
        if resources.get(section)
        for write in _translated(resources[section], layout, on_v1, on_v2, current or {})
    ]
    unified = (resources.get("unified") or {}).items()
    asked += [_unified(file, line, layout) for file, value in unified for line in value.splitlines() or [value]]
    for write in asked:
        if "/" in write.file:
            raise UnsupportedResource(f"{write.file!r} is not the name of a control file")
    return asked


def _translated(wanted: Any, layout: Layout, on_v1: str, on_v2: str, current: Mapping[str, str]) -> list[Write]:
    hierarchy = layout.find(on_v1, version=1) or layout.find(on_v2, version=2)
    if hierarchy is None:
        missing = writes_v1.TRANSLATIONS[on_v1](wanted, current)
        if missing:
            raise UnsupportedResource(f"{missing[0].file}: {layout} have no {on_v1} controller")
        return []
    if hierarchy.version == 1:
        return writes_v1.TRANSLATIONS[on_v1](wanted, current)
    return writes_v2.TRANSLATIONS[on_v2](wanted, current)


def _unified(file: str, value: str, layout: Layout) -> Write:
    """A file of version 2, named as it is; `cgroup.…` are those of every cgroup."""
    controller = file.partition(".")[0]
    if layout.find(controller, version=2) is None:
        raise UnsupportedResource(f"unified {file}: {layout} have no {controller} controller of v2")
    return Write(controller, file, value)
