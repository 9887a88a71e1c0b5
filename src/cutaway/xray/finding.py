"""Which processes are one container.

The kernel knows no containers, only processes and the namespaces they are in. Processes are one container that are in
one PID namespace of their own; where that is shared (with the host, or with another container), in one cgroup of an
engine; and where there is neither, in the same namespaces. A mount namespace alone makes none: many services have one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.kernel import procfs
from cutaway.xray import engines
from cutaway.xray.engines import Mark
from cutaway.xray.sight import arguments

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from cutaway.xray.sight import Seen, Sight

_NOT_ALONE = frozenset({"mnt", "cgroup", "time"})
"""Namespaces that one has without being a container."""
_CLIMB = 64
"""How many ancestors are looked at, at most."""


class Group:
    """The processes of one container, the first of which is `init`; `mark` says whose it is; `within`: the one it runs
    in."""

    def __init__(self, members: list[Seen]) -> None:
        self.members = members
        self.init = min(members, key=lambda seen: (seen.inner_pids[-1] != 1, seen.stat.start_time, seen.pid))
        self.mark = Mark()
        self.within: Group | None = None
        self.keeper = self.init.parent

    def __contains__(self, pid: int) -> bool:
        return any(seen.pid == pid for seen in self.members)


def groups(sight: Sight) -> list[Group]:
    """The containers, in the order they were started."""
    by_key: dict[Hashable, list[Seen]] = {}
    for seen in sight.processes.values():
        by_key.setdefault(_key(seen, sight), []).append(seen)
    _add_visitors(by_key)
    found = [Group(members) for key, members in by_key.items() if key]
    owners = {seen.pid: group for group in found for seen in group.members}
    keepers = [group for group in found if _only_keeps(group, found, sight)]
    found = [group for group in found if group not in keepers]
    for group in found:
        _climb(group, owners, keepers)
    for group in found:
        group.mark = _mark(group)
    return sorted(found, key=lambda group: (group.init.stat.start_time, group.init.pid))


def _add_visitors(by_key: dict[Hashable, list[Seen]]) -> None:
    """Puts processes that have entered a container from elsewhere, and stayed in a cgroup of their own, with those that
    they see."""
    marked = {key[:2]: key for key in by_key if isinstance(key, tuple) and key[0] == "pid" and key[-1]}
    for key in [key for key in by_key if isinstance(key, tuple) and key[0] == "pid" and not key[-1]]:
        if key[:2] in marked:
            by_key[marked[key[:2]]] += by_key.pop(key)


def _key(seen: Seen, sight: Sight) -> Hashable:
    """What processes of one container have in common; None for those of none."""
    mark = engines.of_cgroup(_path(seen))
    if seen.namespaces is None:
        return ("cgroup", mark.path) if mark.path else ("init", _inner_init(seen, sight))
    own = sight.own(seen)
    if "pid" in own:
        return ("pid", own["pid"], mark.path)
    if mark.path and "mnt" in own:
        return ("cgroup", mark.path)
    if own.keys() <= _NOT_ALONE:
        return None
    return tuple(sorted(own.items()))


def _inner_init(seen: Seen, sight: Sight) -> int:
    """The nearest ancestor that is process 1 of a namespace, of a process of which only the status may be seen."""
    while seen.inner_pids[-1] != 1 and (parent := sight.find(seen.parent)):
        seen = parent
    return seen.pid


def _path(seen: Seen) -> str:
    """The path of its cgroup: the longest, as not every engine makes one in every hierarchy."""
    return max(seen.cgroups.values(), key=lambda path: (len(engines.of_cgroup(path).path), len(path)), default="/")


def _only_keeps(group: Group, others: Iterable[Group], sight: Sight) -> bool:
    """Whether it only waits for a container it has started, as `unshare --fork` does in the namespaces it made."""
    own = sight.own(group.init)
    if "pid" in own or len(group.members) > 1:
        return False
    return any(other.init.parent in group and own.items() <= sight.own(other.init).items() for other in others)


def _climb(group: Group, owners: dict[int, Group], keepers: list[Group]) -> None:
    """Finds out what the container runs in: what one of its ancestors is in."""
    pid = group.init.parent
    for _ in range(_CLIMB):
        owner = owners.get(pid)
        if owner is None:
            return
        if owner not in keepers and owner is not group:
            group.within = owner
            return
        pid = owner.init.parent if owner in keepers else 0


def _mark(group: Group) -> Mark:
    """Whose it is: what the cgroup says, completed by the parent's command line, then by the environment."""
    path, outer = engines.of_cgroup(_path(group.init)), group.within
    if outer and engines.of_cgroup(_path(outer.init)).path == path.path:
        path = Mark()  # the cgroup is that of the container around it
    keeper = engines.of_keeper(arguments(group.keeper))
    if not keeper.engine and not path.engine:
        keeper = engines.of_keeper(_grandparent(group))
    engine = path.engine or keeper.engine or engines.of_environment(group.init.pid).engine or _own_program(group)
    same = not keeper.engine or keeper.engine == engine or not path.engine
    name = (
        (keeper.name if same else "") or path.name or (engines.of_attribute(path.path) if engine == "cutaway" else "")
    )
    return Mark(engine, path.id or keeper.id, name, path.path)


def _grandparent(group: Group) -> list[str]:
    """systemd-nspawn has a process between itself and the container's."""
    try:
        return arguments(procfs.stat(group.keeper).parent)
    except (ProcessLookupError, IndexError, ValueError):
        return []


def _own_program(group: Group) -> str:
    """`unshare` without `--fork` becomes the program, and bubblewrap is process 1 inside."""
    engine = engines.of_keeper(group.init.arguments).engine
    return engine if engine in ("unshare", "bubblewrap") else engines.UNKNOWN
