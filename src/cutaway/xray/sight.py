"""One look at every process there is: namespaces, parents, cgroups. Everything else is asked of what was seen here.

Processes end while they are looked at, and others may not be looked at by everyone: who has ended is not there, and
what may not be seen is None.
"""

from __future__ import annotations

import os
from functools import cached_property

from cutaway.kernel import procfs

KINDS = ("pid", "mnt", "net", "uts", "ipc", "user", "cgroup", "time")
_LONGEST = 1 << 16
"""Characters of a command line that are looked at: a process may put megabytes there."""


class Seen:
    """A process as it was. `namespaces`: inode numbers by kind; None where they may not be seen."""

    def __init__(self, pid: int, namespaces: dict[str, int] | None, cgroups: dict[str, str]) -> None:
        self.pid, self.namespaces, self.cgroups = pid, namespaces, cgroups
        self.stat = procfs.stat(pid)

    @property
    def parent(self) -> int:
        return self.stat.parent

    @cached_property
    def inner_pids(self) -> list[int]:
        """Its PIDs from the reader's namespace to its own."""
        try:
            return procfs.status(self.pid).pids
        except (ProcessLookupError, KeyError):
            return [self.pid]

    @cached_property
    def arguments(self) -> list[str]:
        """Its command line; empty where it has ended, or has none."""
        return arguments(self.pid)

    @property
    def command(self) -> str:
        """The command line as one text, its name in brackets where it has none."""
        return " ".join(self.arguments).rstrip() or f"[{self.stat.command}]"


class Sight:
    """All processes outside the host's own namespaces, by PID. `host`: the namespaces that are not a container's: those
    of process 1, and those of whoever looks."""

    def __init__(self) -> None:
        self.host = _host_namespaces()
        self.parents: dict[int, int] = {}
        self.processes: dict[int, Seen] = {}
        self.inodes: set[int] = set()
        """Of every namespace that a process was seen in."""
        for pid in procfs.pids():
            try:
                self._see(pid)
            except (ProcessLookupError, ValueError, IndexError):  # it has ended
                pass

    def _see(self, pid: int) -> None:
        try:
            namespaces = _namespaces(pid)
        except PermissionError:
            namespaces = None
        if namespaces:
            self.inodes.update(namespaces.values())
            if all(inode in self.host[kind] for kind, inode in namespaces.items()):
                return
        seen = Seen(pid, namespaces, procfs.cgroups(pid))
        if namespaces or len(seen.inner_pids) > 1:
            self.processes[pid] = seen

    def own(self, seen: Seen) -> dict[str, int]:
        """The namespaces of a process that are not the host's."""
        return {kind: inode for kind, inode in (seen.namespaces or {}).items() if inode not in self.host[kind]}

    def find(self, pid: int) -> Seen | None:
        """A process inside; None where it is the host's, or has ended."""
        return self.processes.get(pid)


def arguments(pid: int) -> list[str]:
    """The command line of any process; empty where it has ended or has none."""
    try:
        return [word[:_LONGEST] for word in procfs.command_line(pid)]
    except (ProcessLookupError, PermissionError):
        return []


def _namespaces(pid: int) -> dict[str, int]:
    try:
        return {kind: _inode(os.readlink(f"/proc/{pid}/ns/{kind}")) for kind in _KINDS_HERE}
    except FileNotFoundError:
        raise ProcessLookupError from None


def _inode(link: str) -> int:
    return int(link[link.index("[") + 1 : -1])


def _host_namespaces() -> dict[str, set[int]]:
    found: dict[str, set[int]] = {kind: set() for kind in _KINDS_HERE}
    for pid in (1, os.getpid()):
        try:
            for kind, inode in _namespaces(pid).items():
                found[kind].add(inode)
        except (PermissionError, ProcessLookupError):  # without root rights, or /proc hides others (hidepid)
            pass
    return found


_KINDS_HERE = tuple(kind for kind in KINDS if os.path.lexists(f"/proc/self/ns/{kind}"))
"""Those that this kernel has: time namespaces since 5.6."""
