"""Mounts: what makes many file systems one tree. `mount(2)`, `mount_namespaces(7)`, and the new interface of Linux 5.2.

The new interface takes apart what `mount(2)` does at once: `fsopen` … `fsmount` make a mount that is nowhere yet and is
held by a descriptor, `open_tree` copies one that exists, `mount_setattr` sets its flags, `move_mount` attaches it. So a
mount is never seen half-made, and its target is a descriptor that was checked, not a name that may have changed.
"""

from __future__ import annotations

import os
import struct

from cutaway.kernel.errors import KernelError
from cutaway.kernel.syscalls import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, call

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_CLOEXEC = 0x1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC and OPEN_TREE_CLONE happen to be the same bit
_OPEN_TREE_CLONE = 0x1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOVE_MOUNT_T_EMPTY_PATH = 0x40

_ATTRIBUTES: dict[str, tuple[int, int]] = {  # name: bits to set, bits to clear
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "relatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME),
    "norelatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    "noatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME),
    "atime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    "nostrictatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
}
SUPERBLOCK_FLAGS = frozenset({"sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"})
"""What is one for all mounts of a file system: of a bind mount the kernel takes it and leaves it as it is."""
_UNHEARD = frozenset(
    {"defaults", "silent", "loud", "acl", "noacl", "iversion", "noiversion", "nofail", "auto", "noauto"}
    | {"copy", "nocopy"}
)
"""Words of mount(8), flags of mount(2), and what podman says to itself: no file system takes them from the kernel."""
_QUOTING = frozenset('\\"')
"""What a comma that belongs to a value comes with."""
_PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED, "unbindable": MS_UNBINDABLE}
_OF_A_TREE = {f"r{name}" for name in (*_ATTRIBUTES, *_PROPAGATION)}
OPTION_NAMES = sorted(
    {"bind", "rbind", "idmap", "ridmap", "remount", "tmpcopyup", *_ATTRIBUTES, *_PROPAGATION, *_OF_A_TREE}
    | {*SUPERBLOCK_FLAGS, *_UNHEARD}
)
"""The words that `Options` understands itself; all others are for the file system."""


class Options:
    """Mount options as fstab and the OCI runtime-spec write them, taken apart.

    `set`, `clear`: MOUNT_ATTR_ bits of this mount; `recursive_set`, `recursive_clear`: of the whole tree (`rro`, …);
    `propagation`: MS_PRIVATE and so on, 0 if not given; `propagate_all`: it is for the whole tree (`rprivate`);
    `bind`, `recursive`: `bind` or `rbind` was given; `remount`: a mount that is there is changed; `copy_up`: a tmpfs
    begins with what it covers (`tmpcopyup`); `idmap`, `idmap_all`: its owners are mapped, in it or in the whole tree;
    `filesystem`: what is left, for the file system itself.
    """

    __slots__ = (
        "bind", "clear", "copy_up", "filesystem", "idmap", "idmap_all", "propagate_all", "propagation",
        "recursive", "recursive_clear", "recursive_set", "remount", "set",
    )  # fmt: skip

    def __init__(self, options: list[str]) -> None:
        self.set = self.clear = self.recursive_set = self.recursive_clear = self.propagation = 0
        self.bind = self.recursive = self.propagate_all = False
        self.remount = self.copy_up = self.idmap = self.idmap_all = False
        self.filesystem: list[str] = []
        for option in filter(None, options):
            self._take(option)

    def _take(self, option: str) -> None:
        whole_tree = option[:1] == "r"
        if option in ("bind", "rbind"):
            self.bind, self.recursive = True, option == "rbind"
        elif option in _ATTRIBUTES:
            bits, cleared = _ATTRIBUTES[option]
            self.set, self.clear = self.set & ~cleared | bits, self.clear & ~bits | cleared
        elif option in _PROPAGATION or (whole_tree and option[1:] in _PROPAGATION):
            self.propagate_all = option not in _PROPAGATION
            self.propagation = _PROPAGATION[option[1:] if self.propagate_all else option]
        elif whole_tree and option[1:] in _ATTRIBUTES:
            bits, cleared = _ATTRIBUTES[option[1:]]
            self.recursive_set = self.recursive_set & ~cleared | bits
            self.recursive_clear = self.recursive_clear & ~bits | cleared
        elif option in ("idmap", "ridmap"):
            self.idmap, self.idmap_all = True, whole_tree
        elif option == "remount":
            self.remount = True
        elif option == "tmpcopyup":
            self.copy_up = True
        elif option not in _UNHEARD:  # of which one string may hold several, as `mount(2)` takes them
            self.filesystem += [option] if set(option) & _QUOTING else option.split(",")


def new_mount(filesystem: str, source: str = "", options: list[str] | None = None, attributes: int = 0) -> int:
    """Makes a mount of a file system that is attached nowhere yet; returns its descriptor.

    `options`: `key=value` or flags as the file system's manual page names them. Raises `KernelError`, with what the
    file system itself says about it where it does (`fsopen(2)` keeps messages).
    """
    context = call("fsopen", filesystem, _CLOEXEC, subject=filesystem)
    try:
        pairs = ([f"source={source}"] if source else []) + (options or [])
        for pair in pairs:
            _configure(context, filesystem, pair)
        _create(context, filesystem)
        return call("fsmount", context, _CLOEXEC, attributes, subject=filesystem)
    finally:
        os.close(context)


def _configure(context: int, filesystem: str, option: str) -> None:
    key, equals, value = option.partition("=")
    command, word = (_FSCONFIG_SET_STRING, value) if equals else (_FSCONFIG_SET_FLAG, None)
    try:
        call("fsconfig", context, command, key, word, 0)
    except KernelError as error:
        raise _explained(error, context, f"{filesystem}, {option}") from None


def _create(context: int, filesystem: str) -> None:
    try:
        call("fsconfig", context, _FSCONFIG_CMD_CREATE, None, None, 0)
    except KernelError as error:
        raise _explained(error, context, filesystem) from None


def _explained(error: KernelError, context: int, subject: str) -> KernelError:
    """With what the file system says, without the letter of how bad it is."""
    try:
        said = os.read(context, 4096).decode(errors="replace").strip().removeprefix("e ")
    except OSError:
        said = ""
    return KernelError(error.errno or 0, "mount", f"{subject}: {said}" if said else subject)


def clone_tree(path: str, *, recursive: bool = False, directory: int = AT_FDCWD) -> int:
    """Copies the mount that `path` is in, beginning there, and with `recursive` all mounts below; attached nowhere.

    The path must belong to the caller's mount namespace. An empty path means the descriptor `directory` itself.
    `open_tree(2)`
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return call("open_tree", directory, path, flags, subject=path)


def attach(mount: int, target: int, name: str = "") -> None:
    """Attaches a mount that a descriptor holds on the file or directory that the descriptor `target` holds, or on what
    is called `name` in there. `move_mount(2)`"""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | (0 if name else _MOVE_MOUNT_T_EMPTY_PATH)
    call("move_mount", mount, "", target, name, flags, subject=lambda: name or _name_of(target))


def attach_at(mount: int, path: str) -> None:
    """The same, on what is at `path` for the caller."""
    target = os.open(path, os.O_PATH)
    try:
        attach(mount, target)
    finally:
        os.close(target)


def set_attributes(
    mount: int, bits: int, clear: int = 0, propagation: int = 0, *, recursive: bool = False, users: int = 0
) -> None:
    """Sets and clears MOUNT_ATTR_ bits, and the propagation (MS_PRIVATE, …, 0: as it is). `mount_setattr(2)`

    `users`: for MOUNT_ATTR_IDMAP, a descriptor of the user namespace whose mappings change who owns the files.
    """
    if not (bits or clear or propagation):
        return
    arguments = struct.pack("QQQQ", bits, clear, propagation, users)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    call("mount_setattr", mount, "", flags, arguments, len(arguments), subject=lambda: _name_of(mount))


def mount(source: str, target: str, filesystem: str = "", flags: int = 0, data: str = "") -> None:
    """The old call, all in one. `mount(2)`"""
    call("mount", source, target, filesystem or None, flags, data or None, subject=target)


def unmount(target: str, flags: int = 0) -> None:
    """Takes a mount away. With `MNT_DETACH` at once for new look-ups, later for who still uses it. `umount2(2)`"""
    call("umount2", target, flags, subject=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Makes the mount at `new_root` this mount namespace's root, the old root appears at `put_old`. `pivot_root(2)`"""
    call("pivot_root", new_root, put_old, subject=new_root)


def enter_root(root: int) -> None:
    """Makes the mounted directory `root` the root of this mount namespace and lets go of the old one.

    Both names are `.`: the old root is stacked on the new one and detached from there, so neither needs a directory.
    """
    os.fchdir(root)
    pivot_root(".", ".")
    unmount(".", MNT_DETACH)
    os.chdir("/")


def propagate(path: str, propagation: int, *, recursive: bool = False) -> None:
    """How mounts at `path` reach other mount namespaces and come from there: MS_PRIVATE, MS_SLAVE, … `mount(2)`"""
    mount("", path, flags=propagation | (MS_REC if recursive else 0))


def _name_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return f"descriptor {descriptor}"
