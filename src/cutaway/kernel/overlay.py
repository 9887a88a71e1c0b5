"""OverlayFS: several read-only directories and a writable one, seen as one tree.

What is written goes to the upper directory; a file of a lower one is copied up when it is first changed; what is deleted
leaves a whiteout. <https://docs.kernel.org/filesystems/overlayfs.html>, `mount(8)`
"""

from __future__ import annotations

import os

from cutaway.kernel.mounts import new_mount

OPAQUE = "trusted.overlay.opaque"
"""The extended attribute of an upper directory that hides the lower ones of its name; its value is `y`."""


def overlay(lower_dirs: list[str], upper_dir: str, work_dir: str, options: list[str] | None = None) -> int:
    """A detached overlay mount, as a descriptor; `lower_dirs` from the top one down.

    Lower directories are passed one by one, so that neither a page of options nor colons in names bound them (Linux 6.8;
    before, all in one string of at most a page). Raises `KernelError`.
    """
    writable = [f"upperdir={upper_dir}", f"workdir={work_dir}", *(options or [])]
    try:
        return new_mount("overlay", "overlay", [*(f"lowerdir+={lower}" for lower in lower_dirs), *writable])
    except OSError:
        if _takes_single_layers():
            raise
    joined = ":".join(lower.replace("\\", "\\\\").replace(":", "\\:") for lower in lower_dirs)
    return new_mount("overlay", "overlay", [f"lowerdir={joined}", *writable])


def is_whiteout(entry: os.stat_result) -> bool:
    """Whether this is how an upper directory says that a name was deleted: a character device 0/0."""
    return entry.st_mode & 0o170000 == 0o020000 and entry.st_rdev == 0


def _takes_single_layers() -> bool:
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 8)
