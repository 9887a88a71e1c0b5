"""The interpreter that enters containers is one that they cannot write to.

A container can have its first process execute `/proc/self/exe`, which then is this interpreter, and open that for
writing once it is no longer in use: as root on the host's own file (CVE-2019-5736). So a verb that puts a process into
a container runs from a file that nobody can write through what `/proc/PID/exe` leads to: one on a read-only mount (a
host whose `/usr` is, or the mount made here), one that is immutable or sealed by fs-verity (what `make install` sets
up). Any other is executed again, through a read-only mount of it that is attached nowhere.
"""

from __future__ import annotations

import fcntl
import os
import sys

_EXE = "/proc/self/exe"
_FS_IOC_GETFLAGS = 0x80086601
_FS_IMMUTABLE, _FS_VERITY = 0x10, 0x100000
_PYTHON = (sys.executable, "-I", "-S")


def protect() -> None:
    """Returns where this process runs from an interpreter that is protected; has it start over from one if not.

    Raises `OSError` where the kernel lets no such be made.
    """
    if os.access(_EXE, os.W_OK) and not (_is_readonly() or _is_immutable()):
        protected = _readonly_mount()
        os.execve(protected, [*_PYTHON, *sys.argv], dict(os.environ))


def _is_readonly() -> bool:
    return bool(os.statvfs(_EXE).f_flag & os.ST_RDONLY)


def _is_immutable() -> bool:
    file = os.open(_EXE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = fcntl.ioctl(file, _FS_IOC_GETFLAGS, bytes(8))
    except OSError:  # a file system without such flags
        return False
    finally:
        os.close(file)
    return bool(int.from_bytes(flags, sys.byteorder) & (_FS_IMMUTABLE | _FS_VERITY))


def _readonly_mount() -> int:
    """A descriptor of the interpreter on a mount of its own, which goes with the last process that runs from it."""
    from cutaway.kernel.mounts import MOUNT_ATTR_RDONLY, clone_tree, set_attributes

    here = os.open(_EXE, os.O_PATH | os.O_CLOEXEC)
    mount = clone_tree("", directory=here)
    set_attributes(mount, MOUNT_ATTR_RDONLY)
    return mount
