"""`events`: what a container uses, again and again, and when memory ran out, as JSON lines in runc's words."""

from __future__ import annotations

import os
import sys
import time
from select import POLLIN, poll

from cutaway.runtime.command.container import Container
from cutaway.runtime.command.document import text_of
from cutaway.runtime.command.failure import Failure
from cutaway.runtime.command.stats import stats
from cutaway.runtime.command.undoing import cgroup_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cutaway.kernel.cgroups import Cgroup
    from cutaway.runtime.command.main import Invocation

_INTERVAL = "5s"
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


def events(invocation: Invocation) -> int:
    """`events ID`: until the container ends; with `--stats` once."""
    container = Container.find(invocation.root, invocation.operands[0])
    interval = seconds(invocation.options["interval"] or _INTERVAL)
    if not container.is_alive():
        raise Failure("container not running")
    cgroup = cgroup_of(container)
    if invocation.options["stats"]:
        _tell(container, "stats", stats(cgroup))
        return 0
    _follow(container, cgroup, interval)
    return 0


def seconds(duration: str) -> float:
    """`1.5s`, `500ms`, `1m30s`: Go's way to write a duration. Raises `Failure`."""
    interval, rest = 0.0, duration
    try:
        while rest:
            after = rest.lstrip("0123456789.")
            number, rest = rest[: len(rest) - len(after)], after.lstrip("nuµmsh")
            interval += float(number) * _UNITS[after[: len(after) - len(rest)]]
    except (ValueError, KeyError):
        raise Failure(f'invalid duration "{duration}": expected one as 5s or 500ms') from None
    if interval <= 0:
        raise Failure("duration interval must be greater than 0")
    return interval


def _follow(container: Container, cgroup: Cgroup, interval: float) -> None:
    """Until its first process ends."""
    waiting = poll()
    end, memory = container.pidfd(), _memory_notices(cgroup)
    for descriptor in (end, memory):
        if descriptor >= 0:
            waiting.register(descriptor, POLLIN)
    kills, due = cgroup.oom_kills(), time.monotonic() + interval
    while True:
        ready = {descriptor for descriptor, _ in waiting.poll(max(0, due - time.monotonic()) * 1000)}
        if memory in ready:
            os.read(memory, 1 << 16)
        if (now := cgroup.oom_kills()) > kills:
            _tell(container, "oom", None)
            kills = now
        if end in ready:
            return
        if time.monotonic() >= due:
            _tell(container, "stats", stats(cgroup))
            due += interval


def _memory_notices(cgroup: Cgroup) -> int:
    """A descriptor that becomes readable when memory runs out; -1 where the host does not count memory."""
    hierarchy = cgroup.layout.find("memory")
    if hierarchy is None:
        return -1
    directory = hierarchy.directory(cgroup.path)
    if hierarchy.version == 2:
        from cutaway.kernel.inotify import IN_MODIFY, watch

        return watch(f"{directory}/memory.events", IN_MODIFY)
    notice = os.eventfd(0, os.EFD_CLOEXEC)
    control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    cgroup.write("memory", "cgroup.event_control", f"{notice} {control}")
    return notice


def _tell(container: Container, kind: str, content: dict[str, Any] | None) -> None:
    """One line, at once."""
    sys.stdout.write(text_of({"type": kind, "id": container.id} | ({"data": content} if content else {})) + "\n")
    sys.stdout.flush()
