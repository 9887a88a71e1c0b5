"""The root file system of a container: its layers, what it wrote on top of them, and what else is mounted in it.

All of it is in `/proc/PID/mountinfo`: an overlay says there which directories it is made of, a bind mount which
directory it is. `proc_pid_mountinfo(5)`, <https://docs.kernel.org/filesystems/overlayfs.html>
"""

from __future__ import annotations

import os
import stat
from itertools import pairwise
from typing import TYPE_CHECKING

from cutaway.image import diff
from cutaway.kernel import procfs
from cutaway.kernel.overlay import is_whiteout
from cutaway.xray.model import Change, Layer, Mount, Root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.kernel.procfs import MountPoint

_OVERLAYS = ("overlay", "fuse.fuse-overlayfs")
_KERNELS_OWN = frozenset(
    {
        "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "devtmpfs", "securityfs", "debugfs", "tracefs",
        "configfs", "fusectl", "pstore", "bpf", "binfmt_misc", "hugetlbfs", "efivarfs", "nsfs", "autofs",
    }
)  # fmt: skip
"""File systems of which every container has its own, and that hold no files of anyone's."""
_KINDS = {diff.ADDED: "added", diff.CHANGED: "changed", diff.DELETED: "deleted"}


class Measure:
    """The sizes of directories, each measured once: layers are shared, and do not change."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int] | None] = {}

    def of(self, path: str) -> tuple[int, int] | None:
        """Bytes and number of the files below `path`; None where it cannot be read."""
        if path not in self._known:
            self._known[path] = _measured(path)
        return self._known[path]


class Roots:
    """Which layers the containers stand on, so that each can be told with how many others."""

    def __init__(self) -> None:
        self._users: dict[str, int] = {}

    def add(self, mounts: list[MountPoint]) -> None:
        """Counts in a container that sees these mounts."""
        for path in set(_Overlay(mounts).lower_dirs):
            self._users[path] = self._users.get(path, 0) + 1

    def others(self, path: str) -> int:
        """How many containers but one stand on the layer."""
        return max(self._users.get(path, 1) - 1, 0)


def root(mounts: list[MountPoint], roots: Roots, measure: Measure, unseen: list[str]) -> Root:
    """The root file system of the process that sees these mounts; what cannot be told is added to `unseen`."""
    top = root_mount(mounts)
    if top is None:
        unseen.append("its root file system: none of its mounts is at /")
        return Root("unknown")
    read_only = "ro" in top.options
    if _is_hosts(top):
        return Root("host", source=top.source, read_only=read_only)
    if top.filesystem in _OVERLAYS:
        return _overlay_root(_Overlay(mounts), read_only, roots, measure, unseen)
    if top.root != "/":
        return Root("directory", source=top.root, read_only=read_only)
    return Root(top.filesystem, source=top.source, read_only=read_only)


def root_mount(mounts: list[MountPoint]) -> MountPoint | None:
    """The mount that `/` is: the last of those on top of each other."""
    return next((mount for mount in reversed(mounts) if mount.target == "/"), None)


def _is_hosts(top: MountPoint) -> bool:
    ours = root_mount(procfs.mounts())
    return ours is not None and (ours.device, ours.root) == (top.device, top.root)


class _Overlay:
    """The directories of the overlay that is the root, by paths of the host; empty where the root is none."""

    def __init__(self, mounts: list[MountPoint]) -> None:
        self.lower_dirs: list[str] = []
        self.upper_dir, self.kind = "", "overlay"
        top = root_mount(mounts)
        if top is None or top.filesystem not in _OVERLAYS:
            return
        options = top.super_options
        if top.filesystem != "overlay":
            self.kind = "fuse-overlayfs"
            options = _fuse_options(top)
        for option in _rejoined(options):
            name, _, value = option.partition("=")
            if name in ("lowerdir", "lowerdir+", "datadir+"):
                self.lower_dirs += (
                    [procfs.unescape(path) for path in _split(value)]
                    if name == "lowerdir"
                    else [procfs.unescape(value)]
                )
            elif name == "upperdir":
                self.upper_dir = procfs.unescape(value)
        self._resolve(top)

    def _resolve(self, top: MountPoint) -> None:
        """Engines abbreviate long lists: by paths relative to a directory of theirs, and by short links."""
        if any(not path.startswith("/") for path in [*self.lower_dirs, self.upper_dir] if path):
            base = _base_of(top, self.upper_dir or self.lower_dirs[0])
            self.lower_dirs = [os.path.join(base, path) for path in self.lower_dirs]
            self.upper_dir = self.upper_dir and os.path.join(base, self.upper_dir)
        self.lower_dirs = [os.path.realpath(path) for path in self.lower_dirs]


def _rejoined(options: list[str]) -> Iterator[str]:
    r"""Mount options whose values may hold commas, which the kernel writes as `\054` or `\,`."""
    waiting = ""
    for option in options:
        if option.endswith("\\"):
            waiting += option[:-1] + ","
            continue
        yield waiting + option
        waiting = ""


def _split(lower_dirs: str) -> list[str]:
    r"""The directories of `lowerdir=A:B`, where a colon in a name is `\:`; two colons precede those of data only."""
    parts, current, escaped = [], "", False
    for letter in lower_dirs:
        if escaped and letter not in ":\\":
            current += "\\"
        if letter == "\\" and not escaped:
            escaped = True
            continue
        if letter == ":" and not escaped:
            parts.append(current)
            current = ""
        else:
            current += letter
        escaped = False
    return [part for part in [*parts, current] if part]


def _base_of(top: MountPoint, relative: str) -> str:
    """Where relative paths start: above the place where the host has the same overlay mounted."""
    for mount in procfs.mounts():
        if mount.device == top.device:
            directory = mount.target
            while directory != "/":
                if os.path.isdir(os.path.join(directory, relative)):
                    return directory
                directory = os.path.dirname(directory)
    return "/"


def _fuse_options(top: MountPoint) -> list[str]:
    """The options of a fuse-overlayfs, which the kernel does not know: from the command line of the process that serves
    the same mount."""
    serving = [mount.target for mount in procfs.mounts() if mount.device == top.device]
    for pid in procfs.pids():
        try:
            words = procfs.command_line(pid)
        except (ProcessLookupError, PermissionError):
            continue
        if words and os.path.basename(words[0]) == "fuse-overlayfs" and _serves(words[-1], serving):
            given = [value for word, value in pairwise(words) if word == "-o"]
            return [option for options in given for option in options.split(",")]
    return []


def _serves(mount_point: str, targets: list[str]) -> bool:
    """Whether a mount point, which may be given relative to a directory that nobody knows any more, is one of these."""
    return any(target.endswith(f"/{mount_point.strip('/')}") for target in targets)


def _overlay_root(overlay: _Overlay, read_only: bool, roots: Roots, measure: Measure, unseen: list[str]) -> Root:
    found = Root(overlay.kind, read_only=read_only, upper=overlay.upper_dir)
    if not overlay.lower_dirs:
        unseen.append("its layers: the kernel does not say which directories this overlay is made of")
    for path in overlay.lower_dirs:
        size, files = measure.of(path) or (None, None)
        found.layers.append(Layer(path, size, files, roots.others(path)))
    if hidden := [layer.path for layer in found.layers if layer.size is None]:
        unseen.append(f"{len(hidden)} of {len(found.layers)} layers: {hidden[0]} cannot be read from here")
    if overlay.upper_dir:
        _look_at_upper(found, overlay, unseen)
    return found


def _look_at_upper(found: Root, overlay: _Overlay, unseen: list[str]) -> None:
    measured = _measured(overlay.upper_dir)
    if measured is None:
        unseen.append(f"what it wrote: {overlay.upper_dir} cannot be read from here")
        return
    found.size, found.files = measured
    found.changes = _changes(overlay)


def _changes(overlay: _Overlay) -> list[Change]:
    """What was added, changed and deleted; of directories those that were made or given to others, not those in which
    something happened."""
    descriptors = []
    try:
        for path in [overlay.upper_dir, *overlay.lower_dirs]:
            try:
                descriptors.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            except OSError:
                if path == overlay.upper_dir:
                    return []
        found = diff.changes(descriptors[0], descriptors[1:])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    parents = {os.path.dirname(path) for _, path in found}
    return [
        Change(_KINDS[kind], path, _size(overlay.upper_dir + path))
        for kind, path in found
        if kind != diff.CHANGED or path not in parents
    ]


def _size(path: str) -> int:
    try:
        entry = os.lstat(path)
    except OSError:
        return 0
    return entry.st_size if stat.S_ISREG(entry.st_mode) else 0


def _measured(path: str) -> tuple[int, int] | None:
    """The bytes and number of the files in a layer, hard links once; of a whole file system what it says itself."""
    if os.path.ismount(path):
        return _of_filesystem(path)
    size = files = 0
    linked: set[int] = set()
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError:
            if directory == path:
                return None
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                found = entry.stat(follow_symlinks=False)
            except OSError:  # it is gone
                continue
            if is_whiteout(found) or (found.st_nlink > 1 and found.st_ino in linked):
                continue
            if found.st_nlink > 1:
                linked.add(found.st_ino)
            files += 1
            size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return size, files


def _of_filesystem(path: str) -> tuple[int, int] | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_files - found.f_ffree


def mounts_inside(mounts: list[MountPoint]) -> list[Mount]:
    """What else is mounted: files of the host and file systems of its own, without the kernel's, devices and masks. Of
    mounts on top of each other the last one shows."""
    shown = {mount.target: mount for mount in mounts}
    return [
        Mount(mount.target, mount.root if mount.root != "/" else mount.source, mount.filesystem, "ro" in mount.options)
        for mount in shown.values()
        if mount.filesystem not in _KERNELS_OWN
        and not f"{mount.target}/".startswith(("//", "/proc/", "/sys/", "/dev/"))
    ]
