"""What a file system is told of one file, by flags kept in its inode: `ioctl_iflags(2)`, `chattr(1)`."""

from __future__ import annotations

import fcntl
import os
import struct

_FS_TOPDIR_FL = 0x00020000
_FS_IOC_GETFLAGS = 0x80006601 | struct.calcsize("l") << 16
_FS_IOC_SETFLAGS = 0x40006602 | struct.calcsize("l") << 16


def spread_subdirectories(directory: str) -> None:
    """Asks ext4 to begin each directory made in this one in a part of the disk of its own (`T`).

    Beside its siblings it would take up inodes freed lately, which ext4 spares for five minutes and searches past one
    by one: after a few images were removed, unpacking 170 MB took 8 s instead of 0.4 s. Elsewhere it does nothing.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = bytearray(8)
        fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, flags)
        changed = int.from_bytes(flags, "little") | _FS_TOPDIR_FL
        fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, changed.to_bytes(8, "little"))
    except OSError:
        pass  # a file system that knows no such flag
    finally:
        os.close(descriptor)
