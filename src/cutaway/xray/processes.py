"""The processes of a container, as a tree, with both of their PIDs and users. `pid_namespaces(7)`,
`user_namespaces(7)`"""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

from cutaway.kernel import procfs
from cutaway.kernel.openat2 import open_in_root
from cutaway.xray.model import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.xray.finding import Group
    from cutaway.xray.sight import Seen

_LARGEST_PASSWD = 1 << 20


def of_group(group: Group) -> list[Process]:
    """The tree of its processes, parents before children, each level in the order of PIDs."""
    members = {seen.pid: seen for seen in group.members}
    children: dict[int, list[Seen]] = {}
    for seen in group.members:
        children.setdefault(seen.parent if seen.parent in members else 0, []).append(seen)
    users, boot_time = _Users(group.init.pid), procfs.boot_time()
    found = []
    for seen, depth in _walk(children, 0, 0):
        try:
            found.append(_process(seen, depth, users, boot_time))
        except (ProcessLookupError, KeyError):  # it has ended
            pass
    return found


def _walk(children: dict[int, list[Seen]], parent: int, depth: int) -> Iterator[tuple[Seen, int]]:
    waiting = [(seen, depth) for seen in _in_order(children.get(parent, []))]
    while waiting:
        seen, depth = waiting.pop()
        yield seen, depth
        waiting += [(child, depth + 1) for child in _in_order(children.get(seen.pid, []))]


def _in_order(members: list[Seen]) -> list[Seen]:
    """Last first, as they are taken from the end."""
    return sorted(members, key=lambda seen: (seen.inner_pids[-1], seen.pid), reverse=True)


def _process(seen: Seen, depth: int, users: _Users, boot_time: int) -> Process:
    now, who = seen.stat, procfs.status(seen.pid)
    return Process(
        pid=seen.pid,
        inner_pid=who.pids[-1],
        parent=now.parent,
        depth=depth,
        user=_host_name(who.uids[1]),
        inner_user=users.name(who.uids[1]),
        state=now.state,
        started=boot_time + now.start_time / procfs.TICKS_PER_SECOND,
        memory=who.rss,
        cpu_time=now.user_time + now.system_time,
        threads=now.threads,
        command=seen.command,
    )


def user_mapping(pid: int) -> list[tuple[int, int, int]]:
    """The ranges of its user namespace: first inside, first outside, how many; all to itself without one of its own."""
    try:
        with open(f"/proc/{pid}/uid_map", encoding="ascii") as lines:
            return [(int(inside), int(outside), int(count)) for inside, outside, count in map(str.split, lines)]
    except OSError:
        return []


class _Users:
    """The names of users inside a container, from its own `/etc/passwd`."""

    def __init__(self, pid: int) -> None:
        self._mapping, self._names = user_mapping(pid), _passwd(pid)

    def name(self, uid: int) -> str:
        """What a user of the host is inside."""
        for inside, outside, count in self._mapping:
            if outside <= uid < outside + count:
                return self._names.get(uid - outside + inside, str(uid - outside + inside))
        return "nobody"


def _host_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _passwd(pid: int) -> dict[int, str]:
    """Names by user number. The file is the container's and may be anything: a fifo, a link out of it, endless."""
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        file = open_in_root(root, "etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return {}
    finally:
        os.close(root)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return {}
        text = os.read(file, _LARGEST_PASSWD).decode(errors="replace")
    except OSError:
        return {}
    finally:
        os.close(file)
    fields = (line.split(":") for line in text.splitlines())
    return {int(parts[2]): parts[0] for parts in fields if len(parts) > 2 and parts[2].isdecimal()}
