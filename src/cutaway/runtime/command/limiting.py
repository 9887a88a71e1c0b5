"""`pause`, `resume` and `update`: what a running container may use, down to no time at all."""

from __future__ import annotations

import sys

from cutaway.plan.cgroups import FreezeCgroup, update_operations
from cutaway.plan.operation import Context
from cutaway.plan.plan import apply, undo
from cutaway.runtime.command import document
from cutaway.runtime.command.container import Container
from cutaway.runtime.command.failure import Failure
from cutaway.runtime.command.undoing import cgroup_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cutaway.plan.operation import Operation
    from cutaway.runtime.command.main import Invocation

_SECTIONS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "cpuset-cpus": ("cpu", "cpus"),
    "cpuset-mems": ("cpu", "mems"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def pause(invocation: Invocation) -> int:
    """`pause ID`: stops every process where it is."""
    container = Container.find(invocation.root, invocation.operands[0], lock=True)
    if container.status() not in ("created", "running"):
        raise Failure("container not running")
    _freezing(container).apply(Context())
    return 0


def resume(invocation: Invocation) -> int:
    """`resume ID`: lets them run on."""
    container = Container.find(invocation.root, invocation.operands[0], lock=True)
    if not container.is_frozen():
        raise Failure("container not paused")
    _freezing(container).undo(Context())
    return 0


def update(invocation: Invocation) -> int:
    """`update ID`: other limits, from `--resources` (a file, or `-`) or from the other options. All of them or none."""
    container = Container.find(invocation.root, invocation.operands[0], lock=True)
    if not container.is_alive():
        raise Failure("container not running")
    operations = update_operations(cgroup_of(container), _changes(_wanted(invocation.options)))
    if container.facts.get("unit"):
        operations[:0] = _told_to_systemd(container, operations)
    try:
        apply(operations, Context())
    except OSError:
        undo(operations, Context())
        raise
    return 0


def _freezing(container: Container) -> FreezeCgroup:
    cgroup = cgroup_of(container)
    return FreezeCgroup(cgroup.path, cgroup.layout.plain())


def _told_to_systemd(container: Container, operations: list[Operation]) -> list[Operation]:
    """What has systemd know of the limits it knows: it would otherwise take them back."""
    from cutaway.plan.systemd import SOCKET, set_properties_operation
    from cutaway.runtime.systemd import bandwidth, properties

    cgroup = cgroup_of(container)
    told = properties(operations, cgroup.layout, bandwidth(cgroup))
    socket = container.facts.get("systemd", SOCKET)  # which older versions did not write down
    return [set_properties_operation(container.facts["unit"], told, socket)] if told else []


def _wanted(options: dict[str, Any]) -> dict[str, Any]:
    """OCI's `linux.resources`."""
    if options["resources"]:
        return _read(options["resources"])
    wanted: dict[str, dict[str, Any]] = {}
    for option, (section, key) in _SECTIONS.items():
        value = options[option]
        if value not in ("", None):
            wanted.setdefault(section, {})[key] = _bytes(option, value) if section == "memory" else value
    return wanted


def _changes(wanted: dict[str, Any]) -> dict[str, Any]:
    """As runc understands them: engines hand over all of a container's `linux.resources` to change one of them. Devices
    stay as they are, to which each container has some beyond its rules; no number of processes is none to change."""
    return {
        section: limits
        for section, limits in wanted.items()
        if section != "devices" and not (section == "pids" and limits.get("limit") == 0)
    }


def _read(path: str) -> dict[str, Any]:
    from cutaway.runtime.specification import check_resources

    try:
        wanted: dict[str, Any] = document.parse(sys.stdin.read()) if path == "-" else document.read(path)
    except ValueError as error:
        raise Failure(f"{path}: {error}") from None
    check_resources(wanted)
    return wanted


def _bytes(option: str, text: str) -> int:
    """`512m`, `512 MiB` in bytes; -1 is no limit."""
    number, unit = text.rstrip("bikmgtpBIKMGTP "), text.lstrip("-0123456789. ").lower().replace("ib", "b")
    try:
        return int(float(number) * _UNITS[unit.removesuffix("b") if len(unit) > 1 else unit])
    except (ValueError, KeyError):
        raise Failure(f"invalid value for {option}: {text}") from None
