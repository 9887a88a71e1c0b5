"""The eight namespaces of a container: which are its own, which it shares, and with whom; as `lsns(8)`, but
readable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.kernel import procfs
from cutaway.xray.model import KeptNamespace, Namespace
from cutaway.xray.sight import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cutaway.xray.finding import Group
    from cutaway.xray.sight import Sight


class Sharers:
    """Which containers are in a namespace, by its inode number."""

    def __init__(self, named: Iterable[tuple[str, Group]]) -> None:
        self._of: dict[int, list[tuple[str, int]]] = {}
        for name, group in named:
            for inode in (group.init.namespaces or {}).values():
                self._of.setdefault(inode, []).append((name, group.init.pid))

    def besides(self, group: Group, inode: int) -> list[str]:
        """The names of the other containers in the namespace."""
        return [name for name, pid in self._of.get(inode, []) if pid != group.init.pid]


def of_group(group: Group, sight: Sight, sharers: Sharers) -> list[Namespace]:
    """All kinds that this kernel has. Without the right to look, nothing but its PID namespace can be told."""
    seen = group.init
    if seen.namespaces is None:
        return [Namespace(kind, None, True if kind == "pid" and len(seen.inner_pids) > 1 else None) for kind in KINDS]
    found = []
    for kind, inode in seen.namespaces.items():
        own = inode not in sight.host[kind]
        found.append(Namespace(kind, inode, own, sharers.besides(group, inode) if own else ["the host"]))
    return found


def kept(sight: Sight) -> list[KeptNamespace]:
    """Namespaces that no process is in and a mount keeps, as `ip netns add` makes them."""
    found = []
    for mount in procfs.mounts():
        kind, _, number = mount.root.partition(":[")
        if mount.filesystem == "nsfs" and number[:-1].isdecimal() and int(number[:-1]) not in sight.inodes:
            found.append(KeptNamespace(kind, int(number[:-1]), mount.target))
    return list({each.inode: each for each in found}.values())
