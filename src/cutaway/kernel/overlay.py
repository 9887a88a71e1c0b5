"""OverlayFS: several read-only directories and a writable one, seen as one tree.

What is written goes to the upper directory; a file of a lower one is copied up when it is first changed; what is
deleted leaves a whiteout. <https://docs.kernel.org/filesystems/overlayfs.html>, `mount(8)`
"""

from __future__ import annotations

import errno
import os

from cutaway.kernel.errors import KernelError
from cutaway.kernel.mounts import attach_at, mount, new_mount

OPAQUE = "trusted.overlay.opaque"
"""The extended attribute of an upper directory that hides the lower ones of its name; its value is `y`."""

_MOST_BYTES = 255
_HINTS = {
    errno.ENODEV: "this kernel has no overlay file system: `modprobe overlay` may load it",
    errno.EINVAL: "its upper directory has to be on a file system such as ext4, xfs, btrfs or tmpfs, not on an overlay",
}


def mount_overlay(
    target: str, lower_dirs: list[str], upper_dir: str, work_dir: str, options: list[str] | None = None
) -> None:
    """Mounts an overlay on the directory `target`; `lower_dirs` from the top one down. Raises `KernelError`."""
    try:
        _mount_overlay(target, lower_dirs, upper_dir, work_dir, options)
    except KernelError as error:
        if not error.hint:
            error.hint = _HINTS.get(error.errno or 0, "")
        raise


def _mount_overlay(
    target: str, lower_dirs: list[str], upper_dir: str, work_dir: str, options: list[str] | None
) -> None:
    """Since Linux 6.8 lower directories are passed one by one, so that neither a page of options nor colons in names
    bound them; before, in one string of at most a page, and by the old call, as the new one takes 256 bytes at most.
    """
    writable = [f"upperdir={upper_dir}", f"workdir={work_dir}", *(options or [])]
    if not _takes_single_layers():
        lowers = ":".join(lower.replace("\\", "\\\\").replace(":", "\\:") for lower in lower_dirs)
        return mount("overlay", target, "overlay", data=",".join([f"lowerdir={lowers}", *writable]))
    detached = new_mount("overlay", "overlay", [*(f"lowerdir+={lower}" for lower in lower_dirs), *writable])
    try:
        attach_at(detached, target)
    finally:
        os.close(detached)


def single_layers(options: list[str]) -> list[str]:
    """A `lowerdir=` that is longer than the kernel takes in one string as one option a directory (Linux 6.8): of those
    after a double colon, only the data of files is used."""
    return [single for option in options for single in _layers(option)]


def _layers(option: str) -> list[str]:
    key, _, value = option.partition("=")
    if key != "lowerdir" or len(os.fsencode(value)) <= _MOST_BYTES or not _takes_single_layers():
        return [option]
    layers, *data = value.replace("\\\\", "\0").replace("\\:", "\1").split("::")
    singles = [*(f"lowerdir+={layer}" for layer in layers.split(":")), *(f"datadir+={layer}" for layer in data)]
    return [single.replace("\1", ":").replace("\0", "\\") for single in singles]


def forget_volatile(work_dir: str) -> None:
    """Has the kernel mount an overlay again that was mounted `volatile` before. By itself it refuses: after a crash of
    the machine, though not of a program, what was written may not be on the disk."""
    for remove, name in ((os.unlink, "volatile/dirty"), (os.rmdir, "volatile")):
        try:
            remove(f"{work_dir}/work/incompat/{name}")
        except FileNotFoundError:
            pass


def is_whiteout(entry: os.stat_result) -> bool:
    """Whether this is how an upper directory says that a name was deleted: a character device 0/0."""
    return entry.st_mode & 0o170000 == 0o020000 and entry.st_rdev == 0


def _takes_single_layers() -> bool:
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 8)
