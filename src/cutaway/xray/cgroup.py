"""What a container may use, beside what it uses: its cgroup, of either version. `cgroups(7)`

A limit may also be set on a parent (a pod, a slice): what counts is the tightest on the way up. Where version 1 has the
controllers, version 2 may still count pressure: `Documentation/accounting/psi.rst`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cutaway.kernel import procfs
from cutaway.kernel.cgroups import host_layout
from cutaway.kernel.cgroups.files import read, read_limit
from cutaway.xray.model import Cgroup, Cpu, Disk, Memory, Pressure, Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from cutaway.kernel.cgroups.hierarchy import Hierarchy
    from cutaway.xray.finding import Group

    Found = TypeVar("Found")

_NANOSECONDS = 1e9
_LIMIT_V1, _LIMIT_V2 = "memory.limit_in_bytes", "memory.max"
_RESOURCES = ("cpu", "memory", "io")


def of_group(group: Group, *, brief: bool = False) -> Cgroup:
    """The cgroup of a container as it is now; what cannot be read is as if it had not been used. `brief`: what a list
    has room for, memory and CPU time."""
    paths = _paths(group)
    own = bool(group.mark.path) or _differs_from_keepers(group, paths)
    ask = _Reader(paths)
    path = group.mark.path or paths.get("memory") or next(iter(paths.values()), "/")
    found = Cgroup(version=_version(), path=path, own=own)
    if own and brief:
        found.memory = ask("memory", "memory", _memory_in_use) or found.memory
        found.cpu = _time_used(ask)
    elif own:
        _fill(found, ask, paths)
    return found


def _fill(found: Cgroup, ask: _Reader, paths: dict[str, str]) -> None:
    found.memory = ask("memory", "memory", _memory) or found.memory
    found.cpu = _cpu(ask)
    found.tasks = ask("pids", "pids", _tasks) or found.tasks
    found.disks = ask("blkio", "io", _disks) or []
    found.frozen = bool(ask("freezer", "freezer", lambda hierarchy, path: hierarchy.is_frozen(path)))
    unified, path = host_layout().unified, paths.get("", "/").strip("/")
    if unified and path:
        found.pressure = list(_pressure(unified.directory(path)))


def host_version() -> str:
    """What this host has: "v1", "v2", "hybrid", or "" where no cgroups are mounted."""
    try:
        return _version()
    except OSError:
        return ""


def _version() -> str:
    versions = {hierarchy.version for hierarchy in host_layout().hierarchies}
    return "hybrid" if len(versions) > 1 else f"v{versions.pop()}"


def _paths(group: Group) -> dict[str, str]:
    """Its path in each hierarchy by controller ("" for version 2): the part that the engine made, where that is
    known."""
    marked = group.mark.path
    found: dict[str, str] = {}
    for controllers, path in group.init.cgroups.items():
        ours = path[: path.index(marked) + len(marked)] if marked and marked in path else path
        found |= dict.fromkeys(controllers.split(","), ours)
    return found


def _differs_from_keepers(group: Group, paths: dict[str, str]) -> bool:
    """Whether an unmarked cgroup is the container's: whoever started it is in another."""
    path = paths.get("memory") or paths.get("", "/")
    try:
        keepers = procfs.cgroups(group.keeper)
    except (ProcessLookupError, PermissionError):
        return False
    theirs = {name: each for names, each in keepers.items() for name in names.split(",")}
    return path.strip("/") != "" and path != (theirs.get("memory") or theirs.get("", "/"))


class _Reader:
    """Asks the hierarchy that has a controller about the container's path in it; None where that cannot be."""

    def __init__(self, paths: dict[str, str]) -> None:
        self._paths = paths

    def __call__(self, on_v1: str, on_v2: str, ask: Callable[[Hierarchy, str], Found]) -> Found | None:
        layout = host_layout()
        hierarchy = layout.find(on_v1, version=1) or layout.find(on_v2, version=2)
        if hierarchy is None:
            return None
        path = self._paths.get(on_v1 if hierarchy.version == 1 else "", "/").strip("/")
        if not path or path.startswith(".."):
            return None
        try:
            return ask(hierarchy, path)
        except (OSError, ValueError, KeyError):  # it is gone, or not for us to read
            return None


def _memory_in_use(hierarchy: Hierarchy, path: str) -> Memory:
    """Use and limit alone."""
    usage, limit = ("usage_in_bytes", _LIMIT_V1) if hierarchy.version == 1 else ("current", _LIMIT_V2)
    directory = hierarchy.directory(path)
    return Memory(usage=int(read(f"{directory}/memory.{usage}")), limit=read_limit(f"{directory}/{limit}"))


def _memory(hierarchy: Hierarchy, path: str) -> Memory:
    found = hierarchy.memory(path)
    file = _LIMIT_V1 if hierarchy.version == 1 else _LIMIT_V2
    limit, limited_by = _tightest(hierarchy, path, found.limit, lambda directory: read_limit(f"{directory}/{file}"))
    return Memory(
        usage=found.usage,
        working=max(found.usage - found.inactive_file, 0),
        peak=found.max_usage,
        limit=int(limit) if limit is not None else None,
        limited_by=limited_by,
        swap=found.swap,
        swap_limit=found.swap_limit,
        limit_hits=found.failures,
        oom_kills=found.oom_kills,
    )


def _tightest(
    hierarchy: Hierarchy, path: str, own: float | None, limit_of: Callable[[str], float | None]
) -> tuple[float | None, str]:
    """The tightest limit from here up, and the parent whose it is, "" where it is the cgroup's own."""
    best, limited_by = own, ""
    parent = os.path.dirname(path)
    while parent:
        try:
            limit = limit_of(hierarchy.directory(parent))
        except OSError:
            break
        if limit is not None and (best is None or limit < best):
            best, limited_by = limit, f"/{parent}"
        parent = os.path.dirname(parent)
    return best, limited_by


def _time_used(ask: _Reader) -> Cpu:
    found = Cpu()
    spent = ask("cpuacct", "cpu", lambda hierarchy, path: hierarchy.cpu(path))
    if spent:
        found.time, found.user_time = spent.total / _NANOSECONDS, spent.user / _NANOSECONDS
        found.system_time = spent.system / _NANOSECONDS
    return found


def _cpu(ask: _Reader) -> Cpu:
    found, spent = ask("cpu", "cpu", _cpu_limits) or Cpu(), _time_used(ask)
    found.time, found.user_time, found.system_time = spent.time, spent.user_time, spent.system_time
    found.cpus = ask("cpuset", "cpuset", _cpuset) or ""
    return found


def _cpu_limits(hierarchy: Hierarchy, path: str) -> Cpu:
    directory = hierarchy.directory(path)
    held = hierarchy.throttling(path)
    quota = _quota_v1 if hierarchy.version == 1 else _quota_v2
    limit, _ = _tightest(hierarchy, path, quota(directory), quota)
    weight, default = ("cpu.shares", 1024) if hierarchy.version == 1 else ("cpu.weight", 100)
    return Cpu(
        limit=limit,
        weight=read_limit(f"{directory}/{weight}"),
        default_weight=default,
        periods=held.periods,
        throttled_periods=held.throttled_periods,
        throttled_time=held.time / _NANOSECONDS,
    )


def _quota_v1(directory: str) -> float | None:
    quota, period = read_limit(f"{directory}/cpu.cfs_quota_us"), read_limit(f"{directory}/cpu.cfs_period_us")
    return quota / period if quota and period else None


def _quota_v2(directory: str) -> float | None:
    quota, period = read(f"{directory}/cpu.max").split()
    return None if quota == "max" else int(quota) / int(period)


def _cpuset(hierarchy: Hierarchy, path: str) -> str:
    directory = hierarchy.directory(path)
    for file in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        try:
            return read(f"{directory}/{file}")
        except FileNotFoundError:
            pass
    return ""


def _tasks(hierarchy: Hierarchy, path: str) -> Tasks:
    directory = hierarchy.directory(path)
    limit, _ = _tightest(
        hierarchy, path, read_limit(f"{directory}/pids.max"), lambda parent: read_limit(f"{parent}/pids.max")
    )
    return Tasks(int(read(f"{directory}/pids.current")), int(limit) if limit is not None else None)


def _disks(hierarchy: Hierarchy, path: str) -> list[Disk]:
    return [
        Disk(_disk_name(each.major, each.minor), each.read_bytes, each.write_bytes,
             each.read_operations, each.write_operations)
        for each in hierarchy.block(path)
    ]  # fmt: skip


def _disk_name(major: int, minor: int) -> str:
    try:
        return _device_name(f"/sys/dev/block/{major}:{minor}/uevent")
    except (OSError, KeyError, ValueError):
        return f"{major}:{minor}"


def _device_name(path: str) -> str:
    return dict(line.split("=", 1) for line in read(path).splitlines())["DEVNAME"]


def _pressure(directory: str) -> Iterator[Pressure]:
    for resource in _RESOURCES:
        try:
            lines = dict(line.split(" ", 1) for line in read(f"{directory}/{resource}.pressure").splitlines())
        except (OSError, ValueError):  # not counted
            continue
        some, full = (_averages(lines.get(kind, "")) for kind in ("some", "full"))
        yield Pressure(resource, *some, *full)


def _averages(line: str) -> tuple[float, float]:
    values = dict(part.split("=") for part in line.split())
    return float(values.get("avg10", 0)), float(values.get("avg60", 0))
