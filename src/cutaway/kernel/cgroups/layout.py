"""Which cgroup hierarchies a host has: version 1, version 2, or both at once (hybrid). `cgroups(7)`"""

from __future__ import annotations

from cutaway.kernel import procfs
from cutaway.kernel.cgroups.files import read
from cutaway.kernel.cgroups.v1 import Version1
from cutaway.kernel.cgroups.v2 import Version2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cutaway.kernel.cgroups.hierarchy import Hierarchy
    from cutaway.kernel.procfs import MountPoint


_OF_EVERY_UNIFIED = ("cgroup", "freezer", "devices")
"""What version 2 can do without a controller, where version 1 does not do it."""


class Layout:
    """The hierarchies of a host; `unified` is that of version 2, if there is one."""

    def __init__(self, hierarchies: Iterable[Hierarchy]) -> None:
        self.hierarchies = tuple(hierarchies)
        self.unified = next((each for each in self.hierarchies if isinstance(each, Version2)), None)
        self._of: dict[str, Hierarchy] = dict.fromkeys(_OF_EVERY_UNIFIED, self.unified) if self.unified else {}
        self._of |= {controller: each for each in self.hierarchies for controller in each.controllers}

    def __str__(self) -> str:
        shown = (f"v{each.version} {controller}" for each in self.hierarchies for controller in each.controllers)
        return f"the host's cgroups ({', '.join(shown)})"

    def find(self, controller: str, version: int = 0) -> Hierarchy | None:
        """The hierarchy with `controller` (of `version`, unless 0); None where there is none."""
        found = self._of.get(controller)
        return found if found and version in (0, found.version) else None

    def plain(self) -> list[list[Any]]:
        """As plain values: `[[version, mount point, controllers], …]`."""
        return [[each.version, each.mount_point, list(each.controllers)] for each in self.hierarchies]

    @classmethod
    def of(cls, plain: Iterable[list[Any]]) -> Layout:
        """The inverse of `plain`."""
        kinds = {1: Version1, 2: Version2}
        return cls(kinds[version](mount_point, tuple(names)) for version, mount_point, names in plain)


_host: Layout | None = None


def host_layout() -> Layout:
    """What this host has, as its mounts say; asked once. Raises `FileNotFoundError` where cgroups are not mounted."""
    global _host
    if _host is None:
        _host = read_layout(procfs.mounts())
    return _host


def read_layout(mounts: Iterable[MountPoint]) -> Layout:
    """What the `mounts` say; of a hierarchy mounted twice, the first counts."""
    found: dict[str, Hierarchy] = {}
    for mount in mounts:
        if mount.filesystem == "cgroup2":
            found.setdefault("", Version2(mount.target, _v2_controllers(mount)))
        elif mount.filesystem == "cgroup":
            hierarchy = Version1(mount.target, _v1_controllers(mount))
            found.setdefault(hierarchy.name, hierarchy)
    if not found:
        raise FileNotFoundError("no cgroups: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    return Layout(found.values())


def _v1_controllers(mount: MountPoint) -> tuple[str, ...]:
    """Its controllers, or its name, from among its mount options."""
    with open("/proc/cgroups", encoding="utf-8") as lines:
        known = {line.split()[0] for line in lines}
    return tuple(option for option in mount.super_options if option in known or option.startswith("name="))


def _v2_controllers(mount: MountPoint) -> tuple[str, ...]:
    return tuple(read(f"{mount.target}/cgroup.controllers").split())
