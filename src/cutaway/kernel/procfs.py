"""procfs: the kernel's account of every process and mount, as text files. `proc(5)`"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class MountPoint:
    """One line of `/proc/PID/mountinfo`.

    `root` is what of the file system is mounted, `target` where; `options` are the mount's own, `super_options` the
    file system's; `propagation` holds tags such as `shared:1`.
    """

    __slots__ = (
        "device", "filesystem", "identity", "options", "parent",
        "propagation", "root", "source", "super_options", "target",
    )  # fmt: skip

    def __init__(self, line: str) -> None:
        left, _, right = line.partition(" - ")
        identity, parent, self.device, root, target, options, *self.propagation = left.split(" ")
        self.identity, self.parent = int(identity), int(parent)
        self.root, self.target, self.options = unescape(root), unescape(target), options.split(",")
        self.filesystem, source, super_options = right.split(" ", 2)
        self.source, self.super_options = unescape(source), super_options.split(",")


def mounts(pid: int | str = "self") -> Iterator[MountPoint]:
    """The mounts that process `pid` sees, in the order they were mounted."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            yield MountPoint(line.rstrip("\n"))


def unescape(field: str) -> str:
    r"""A path as it is, from a field in which blanks and backslashes are octal: `/a\040b` is `/a b`."""
    if "\\" not in field:
        return field
    first, *escaped = field.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in escaped)


def cgroups(pid: int | str = "self") -> dict[str, str]:
    """The cgroup of process `pid` in each hierarchy, by its controllers as the kernel writes them (`"cpu,cpuacct"`,
    `"name=systemd"`, `""` for version 2)."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as lines:
        parts = (line.rstrip("\n").split(":", 2) for line in lines)
        return {controllers: path for _, controllers, path in parts}
